//! The registry: every usable agent of this node, where Parallax looks for it; and none that is not there.
//!
//! ```text
//!  supervisor ▸ what runs (running) ▸ what should be registered (wanted) ──┬▸ kept here (embedded)
//!                        │                        ▲                        └▸ etcd ▸ session after session
//!                        ▼                        │ endpoint                          lease · claim · list · watch
//!                 a door per agent (confidence) ──┘                                   ▸ differences (seen) ▸ writes
//! ```
//!
//! Nothing here waits for etcd but this module's own task: agents never notice what becomes of it.

pub mod confidence;
mod etcd;
mod facts;
mod node_id;
pub mod running;
mod seen;
mod session;
pub mod settings;
pub mod status;
pub mod view;
mod wanted;
mod wiring;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

pub use node_id::node_id;
pub use running::{Registered, Running};
pub use settings::{Kind, OnDelete, Settings};
pub use status::Status;
pub use wiring::start;

use crate::registry::entry::NodeFacts;
use confidence::{Doors, Turns};
use wanted::{Kept, Wanted};

/// What the registry is told, and tells.
pub struct Wires {
    /// What runs; `None` until everything that was running before this daemon has been found again.
    pub running: watch::Receiver<Option<Running>>,
    /// What the node has.
    pub node: watch::Receiver<NodeFacts>,
    /// Agents that somebody wants stopped, by deleting their keys.
    pub wishes: mpsc::Sender<String>,
    /// Who carries a message to an agent.
    pub turns: Arc<dyn Turns>,
}

/// The registry of this node, at work.
pub struct Registry {
    status: watch::Receiver<Status>,
    kept: watch::Receiver<Kept>,
    running: watch::Receiver<Option<Running>>,
    node: watch::Receiver<NodeFacts>,
    named: confidence::Named,
    /// What tells it what runs, if that is not somebody else's.
    tellers: Vec<AbortHandle>,
}

impl Registry {
    /// Starts it. It ends when the sender of `running` is dropped: what still runs then stays registered until its lease
    /// ends, so that a daemon that is started again finds it there.
    pub fn start(settings: Settings, wires: Wires) -> Self {
        let (told, status) = watch::channel(Status::new(settings.kind_name()));
        let (running, node) = (wires.running.clone(), wires.node.clone());
        let doors = Doors::new(&settings, wires.running.clone(), wires.turns.clone());
        let named = doors.named().clone();
        let (wanted, kept) = Wanted::new(&settings, doors);
        match settings.kind.clone() {
            Kind::Embedded => tokio::spawn(embedded(wanted, wires, told)),
            Kind::Etcd(etcd) => tokio::spawn(etcd::Etcd::new(settings, etcd, wanted, wires, told).run()),
        };
        Self { status, kept, running, node, named, tellers: Vec::new() }
    }

    /// How it is.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Agents that answer by name.
    pub(crate) fn named(&self) -> &confidence::Named {
        &self.named
    }

    /// The daemon ends.
    pub fn close(&self) {
        self.tellers.iter().for_each(AbortHandle::abort);
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        let mut status = self.status.clone();
        // Whoever says how it is says so until its end.
        while status.changed().await.is_ok() {}
    }
}

/// The registry that needs nothing: what should be registered is.
async fn embedded(mut wanted: Wanted, mut wires: Wires, told: watch::Sender<Status>) {
    loop {
        let running = wires.running.borrow_and_update().clone();
        if let Some(count) = running.map(|running| wanted.update(&running).len()) {
            told.send_modify(|status| status.settled(count, count, Vec::new()));
        }
        if wires.running.changed().await.is_err() {
            return;
        }
    }
}
