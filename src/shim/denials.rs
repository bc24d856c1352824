//! Refused system calls, counted, with the line of the policy that would allow each.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fd::AsFd;
use serde::Serialize;

use crate::plan::seccomp::{Explanation, explain};
use crate::policy::Syscalls;
use crate::sys::seccomp;

/// Most different calls that are kept apart; an agent that tries them all must not fill our memory.
const MOST: usize = 512;

/// The refused calls of one agent.
#[derive(Debug)]
pub struct Denials {
    listener: Option<OwnedFd>,
    counts: BTreeMap<u32, u64>,
}

/// One refused call, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// What and why.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// How often.
    pub count: u64,
}

impl Denials {
    /// Listens, where the filter notifies.
    pub fn new(listener: Option<OwnedFd>) -> Self {
        Self { listener, counts: BTreeMap::new() }
    }

    /// Readable when a call waits for its answer.
    pub fn listener(&self) -> Option<&OwnedFd> {
        self.listener.as_ref()
    }

    /// Answers one waiting call with EPERM, and counts it.
    pub fn answer(&mut self) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        // A caller that was killed meanwhile needs no answer.
        let Some(call) = seccomp::recv(listener.as_fd())? else { return Ok(()) };
        seccomp::refuse(listener.as_fd(), call.id, libc::EPERM)?;
        if self.counts.len() < MOST || self.counts.contains_key(&call.nr) {
            *self.counts.entry(call.nr).or_default() += 1;
        }
        Ok(())
    }

    /// Nobody is under the filter any more, or it cannot be read: nothing more will come.
    pub fn close(&mut self) {
        self.listener = None;
    }

    /// All of them, by number.
    pub fn explained(&self, syscalls: &Syscalls) -> Vec<Denial> {
        let explained =
            |(number, count): (&u32, &u64)| Denial { explanation: explain(*number, syscalls), count: *count };
        self.counts.iter().map(explained).collect()
    }
}
