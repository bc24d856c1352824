//! What is the same for every agent, made before anybody waits for it.

use std::cell::Cell;
use std::os::fd::OwnedFd;

use super::attestation::{self, Namespaces};
use super::devices;
use crate::cgroup::Mounts;

/// Each is taken by the first start that wants it. What is not there, or does not hold any more, a start makes itself, and says
/// why it cannot.
#[derive(Default)]
pub struct Ahead {
    /// The agent's `/dev`, mounted nowhere yet.
    pub dev: Cell<Option<OwnedFd>>,
    /// Where this host's cgroups are.
    pub mounts: Cell<Option<Mounts>>,
    /// This process's own namespaces, which no sandbox may be in.
    pub namespaces: Cell<Option<Namespaces>>,
}

impl Ahead {
    /// As much of it as can be had.
    pub fn make() -> Self {
        Self {
            dev: devices::make().ok().into(),
            mounts: Mounts::read().ok().into(),
            namespaces: attestation::namespaces(std::process::id()).ok().into(),
        }
    }
}
