//! Looks at what the agents that run have used: records it now and then.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;

use tokio::time::MissedTickBehavior;

use super::agent::Handle;
use super::shared::Shared;
use crate::daemon::usage::{self, Subject};
use crate::wire::service::usage::Metered;

/// Looks for as long as there is a supervisor.
pub(super) async fn follow(shared: Weak<Shared>) {
    let Some(options) = shared.upgrade().map(|shared| shared.config.usage) else { return };
    let mut ticks = tokio::time::interval(options.look);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut recorded = Instant::now();
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let is_due = recorded.elapsed() >= options.interval;
        if is_due {
            recorded = Instant::now();
        }
        // It reads files.
        let looked = tokio::task::spawn_blocking(move || look(&shared, is_due));
        if looked.await.is_err() {
            tracing::error!("looking at what agents have used failed");
        }
    }
}

fn look(shared: &Shared, is_due: bool) {
    let running: Vec<Arc<Handle>> =
        shared.agents().values().filter(|handle| handle.is_active() && handle.is_known()).cloned().collect();
    for handle in &running {
        if let Some(metered) = usage::measured(&shared.places, &handle.id).filter(|_| is_due) {
            record(shared, handle, &metered);
        }
    }
}

fn record(shared: &Shared, handle: &Handle, metered: &Metered) {
    let agent = handle.shown.borrow().clone();
    // What is being started anew has left the counters of its last incarnation, whose end is recorded.
    if metered.is_final || agent.state.is_final() {
        return;
    }
    let subject =
        Subject { agent: &handle.id, tenant: &handle.tenant, owner: &agent.owner, kind: &agent.kind };
    let mut times = handle.times.lock().unwrap_or_else(PoisonError::into_inner);
    shared.usage.interval(&subject, metered, &mut times);
}
