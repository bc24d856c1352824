//! What happened, in order: a bounded ring with cursors that survive a restart of the daemon.

use tokio::sync::broadcast;

use crate::api::events::{Event, Happened};
use crate::id::Tenant;

/// The events of this node. Cheap to clone.
#[derive(Clone)]
pub struct Events {}

impl Events {
    /// Adds one, and tells everybody who follows.
    pub fn publish(&self, _tenant: &Tenant, _agent: Option<&str>, _happened: Happened) {
        todo!()
    }

    /// What is kept after `cursor` (0: all that is kept; none: nothing of the past), and whatever comes from then on,
    /// without a hole between. A `Lagged` receiver has missed something.
    pub fn follow(&self, _cursor: Option<u64>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        todo!()
    }
}
