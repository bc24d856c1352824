//! How the registry is: for `/readyz`, for metrics, for people.

use std::time::Instant;

/// Now, and since when.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// `embedded` or `etcd`.
    pub kind: &'static str,
    /// Whether what should be registered is, or is about to be. False: for the reason in `trouble`.
    pub connected: bool,
    /// Since when that is so.
    pub since: Instant,
    /// What is wrong, and the way out.
    pub trouble: Option<String>,
    /// Agents that should be registered.
    pub wanted: usize,
    /// Agents that are.
    pub registered: usize,
    /// Usable agents that are not registered, and why: somebody else has its key, or it has no door.
    pub conflicts: Vec<String>,
    /// Since this daemon was started.
    pub counts: Counts,
}

/// Since this daemon was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections made.
    pub sessions: u64,
    /// Leases granted: more than one means that entries were gone for a while.
    pub leases: u64,
    /// Requests of every kind.
    pub requests: u64,
    /// Keys written.
    pub puts: u64,
    /// Keys deleted.
    pub deletes: u64,
    /// Keys that somebody else deleted or changed.
    pub meddled: u64,
}

impl Status {
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            connected: kind == "embedded",
            since: Instant::now(),
            trouble: None,
            wanted: 0,
            registered: 0,
            conflicts: Vec::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn settled(&mut self, wanted: usize, registered: usize, conflicts: Vec<String>) {
        self.turn(true);
        self.trouble = None;
        (self.wanted, self.registered, self.conflicts) = (wanted, registered, conflicts);
    }

    pub(super) fn lost(&mut self, trouble: String) {
        self.turn(false);
        self.trouble = Some(trouble);
    }

    fn turn(&mut self, connected: bool) {
        if self.connected != connected {
            (self.connected, self.since) = (connected, Instant::now());
        }
    }
}
