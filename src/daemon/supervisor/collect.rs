//! Looks at what the agents that run have used: records it now and then, holds it against budgets, and removes what has
//! ended too long ago.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::agent::{Command, Handle};
use super::prune;
use super::shared::Shared;
use super::spend::{Reached, Spending};
use crate::audit::event::Event;
use crate::audit::parts::{Act, Outcome};
use crate::audit::text::Word;
use crate::daemon::usage::{self, Subject};
use crate::wire::service::Places;
use crate::wire::service::usage::Metered;

/// An agent that runs, and what it was measured to have used.
pub(super) type Look = (Arc<Handle>, Metered);

/// Looks for as long as there is a supervisor.
pub(super) async fn follow(shared: Weak<Shared>) {
    let (mut recorded, mut spending) = (Instant::now(), Spending::default());
    loop {
        let Some(pause) = shared.upgrade().map(|shared| shared.rules().usage.look) else { return };
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        let options = shared.rules().usage;
        let is_due = recorded.elapsed() >= options.interval;
        if is_due {
            recorded = Instant::now();
        }
        let (places, running) = (shared.places.clone(), running(&shared));
        // It reads files; and it holds nothing that would keep a daemon that ends.
        let looks = tokio::task::spawn_blocking(move || measure(&places, running)).await;
        let Ok(looks) = looks.inspect_err(|error| warn!(%error, "what agents have used cannot be read"))
        else {
            continue;
        };
        let looks = shared.remember(looks);
        for reached in look(&shared, &mut spending, &looks, is_due) {
            act(&shared, reached).await;
        }
        for handle in prune::due(&shared) {
            remove(&shared, &handle).await;
        }
    }
}

fn running(shared: &Shared) -> Vec<Arc<Handle>> {
    shared.agents().values().filter(|handle| handle.is_active() && handle.is_known()).cloned().collect()
}

fn measure(places: &Places, running: Vec<Arc<Handle>>) -> Vec<Look> {
    let measured = |handle: Arc<Handle>| {
        let metered = usage::measured(places, &handle.id).filter(|metered| !metered.is_final)?;
        Some((handle, metered))
    };
    running.into_iter().filter_map(measured).collect()
}

fn look(shared: &Shared, spending: &mut Spending, looks: &[Look], is_due: bool) -> Vec<Reached> {
    let mut by_tenant = BTreeMap::<&str, Vec<&Look>>::new();
    for look in looks {
        by_tenant.entry(&look.0.tenant).or_default().push(look);
    }
    let mut reached = Vec::new();
    for (tenant, looks) in by_tenant {
        let found = spending.look(shared, tenant, &looks);
        // A start that is refused from now on is refused because of what is recorded.
        if is_due || !found.is_empty() {
            looks.iter().for_each(|(handle, metered)| record(shared, handle, metered));
        }
        reached.extend(found);
    }
    reached
}

fn record(shared: &Shared, handle: &Handle, metered: &Metered) {
    let (state, kind) = {
        let agent = handle.shown.borrow();
        (agent.state, agent.kind.clone())
    };
    // What is being started anew has left the counters of its last incarnation, whose end is recorded.
    if state.is_final() {
        return;
    }
    let subject = Subject { agent: &handle.id, tenant: &handle.tenant, owner: &handle.owner, kind: &kind };
    let mut times = handle.times.lock().unwrap_or_else(PoisonError::into_inner);
    shared.usage.interval(&subject, metered, &mut times);
}

/// Tells of a budget, and ends what has used it up.
async fn act(shared: &Shared, reached: Reached) {
    let Reached { agent, tenant, budget, happened, stop } = reached;
    shared.events.publish_for(&tenant, agent.as_deref(), happened);
    if let Some(event) = budget {
        shared.audit.record(event);
    }
    for (handle, why) in stop {
        info!(agent = handle.id, why, "a budget is used up");
        let intent = intent(shared, &handle, Act::Stop).await.unwrap_or(0);
        let (heard, told) = oneshot::channel();
        let stop = Command::Stop { grace: shared.config.grace, why, heard };
        let done = handle.commands.send(stop).await.is_ok() && told.await.is_ok();
        acted(shared, &handle, Act::Stop, intent, done);
    }
}

/// Removes one that has ended, with its directory.
async fn remove(shared: &Shared, handle: &Handle) {
    // What cannot be recorded is not removed: it can wait.
    let Some(intent) = intent(shared, handle, Act::Remove).await else { return };
    let (asker, told) = oneshot::channel();
    let sent = handle.commands.send(Command::Remove(asker)).await.is_ok();
    let removed = sent && matches!(told.await, Ok(Ok(())));
    acted(shared, handle, Act::Remove, intent, removed);
}

/// The service itself is about to do this.
async fn intent(shared: &Shared, handle: &Handle, act: Act) -> Option<u64> {
    let intent = Event::Intent {
        act,
        agent: handle.id.parse().ok()?,
        tenant: handle.tenant.parse().ok(),
        who: None,
        request: None,
        policy: None,
        policy_hash: None,
        order: None,
    };
    shared.audit.intend(intent).await.ok()
}

fn acted(shared: &Shared, handle: &Handle, act: Act, intent: u64, done: bool) {
    let Ok(agent) = handle.id.parse() else { return };
    let outcome = if done { Outcome::Done } else { Outcome::Failed };
    let reason = (!done).then(|| Word::new("failed"));
    shared.audit.record(Event::Acted { intent, agent, act, outcome, reason });
}
