//! What one start asks to have differently from its policy.

use super::{Bytes, Cpus, Excess, Policy};

/// Values given for one run; what is not given stays as the policy has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request {
    /// Memory and swap together.
    pub memory: Option<Bytes>,
    /// CPU time per second of wall time.
    pub cpus: Option<Cpus>,
    /// Processes and threads.
    pub processes: Option<u32>,
}

impl Request {
    /// The policy under which this request would run, and what of it goes beyond the given one. Whether that may
    /// be is the caller's decision: root at the command line may, a client of the service may not.
    pub fn on(&self, policy: &Policy) -> (Policy, Option<Excess>) {
        if *self == Self::default() {
            return (policy.clone(), None);
        }
        let mut asked = policy.clone();
        asked.limits.memory = self.memory.unwrap_or(policy.limits.memory);
        asked.limits.cpus = self.cpus.unwrap_or(policy.limits.cpus);
        asked.limits.processes = self.processes.unwrap_or(policy.limits.processes);
        let excess = asked.is_within(policy).err();
        (asked, excess)
    }
}
