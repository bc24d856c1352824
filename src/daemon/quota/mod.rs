//! What a tenant, or one identity, may have at once and in the long run.
//!
//! *Quotas* refuse a start (429) while something is used up; *budgets* warn, and then stop what runs.

pub(crate) mod budget;
pub(crate) mod rate;

use std::time::Duration;

use crate::api::problem::QuotaExcess;
pub use budget::{Budget, Period};

/// The quota of one tenant or identity. What is not given is not limited.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quota {
    /// Agents that have not ended.
    pub max_agents: Option<usize>,
    /// Bytes of memory that they may use together: the sum of their limits.
    pub memory: Option<u64>,
    /// Thousandths of a CPU that they may use together: the sum of their limits.
    pub millicpus: Option<u64>,
    /// Processes and threads that they may have together: the sum of their limits.
    pub processes: Option<u64>,
    /// Starts within any minute.
    pub starts_per_minute: Option<u32>,
    /// Bytes sent over the network within a day (UTC).
    pub egress_per_day: Option<u64>,
    /// No agent runs longer.
    pub lifetime: Option<Duration>,
    /// Agents that have ended and are kept, with their logs; the oldest are removed. Of tenants only.
    pub max_ended: Option<usize>,
    /// For how long they are kept. Of tenants only.
    pub ended_for: Option<Duration>,
    /// What all its agents may use within a period. Of tenants only.
    pub budget: Option<Budget>,
    /// What each of its agents may use for as long as it is listed. Of tenants only.
    pub agent_budget: Option<Budget>,
}

/// What one agent counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Claim {
    /// Its limit of memory, in bytes.
    pub(crate) memory: u64,
    /// Of CPU time, in thousandths of one CPU.
    pub(crate) millicpus: u64,
    /// Of processes and threads.
    pub(crate) processes: u64,
}

/// What agents that have not ended come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// How many.
    pub(crate) agents: usize,
    /// The sum of their claims.
    pub(crate) claims: Claim,
}

/// Why not now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excess {
    /// What is used up, how much of it there is, and the way out: for people.
    pub(crate) detail: String,
    /// The same for programs.
    pub(crate) numbers: Box<QuotaExcess>,
    /// When to come again.
    pub(crate) retry_after: Duration,
}

impl Excess {
    /// `asked` more than `used` would exceed `limit`.
    pub(crate) fn new(
        whose: &str,
        what: &str,
        [used, limit, asked]: [u64; 3],
        detail: String,
        retry_after: Duration,
    ) -> Self {
        let numbers =
            Box::new(QuotaExcess { whose: whose.to_owned(), what: what.to_owned(), used, limit, asked });
        Self { detail, numbers, retry_after }
    }
}

/// When somebody whose agents use up a quota may come again: nobody knows when one of them ends.
const RETRY: Duration = Duration::from_secs(10);

impl Standing {
    /// One agent more.
    pub(crate) fn add(&mut self, claim: Claim) {
        self.agents += 1;
        self.claims.memory = self.claims.memory.saturating_add(claim.memory);
        self.claims.millicpus = self.claims.millicpus.saturating_add(claim.millicpus);
        self.claims.processes = self.claims.processes.saturating_add(claim.processes);
    }
}

impl Quota {
    /// Whether there may be one more agent with this claim. `whose`: `tenant research`.
    ///
    /// # Errors
    /// Says what is used up.
    pub(crate) fn check(&self, whose: &str, now: &Standing, claim: Claim) -> Result<(), Excess> {
        let exceeded = |what, numbers, detail| Err(Excess::new(whose, what, numbers, detail, RETRY));
        if let Some(most) = self.max_agents.filter(|most| now.agents >= *most) {
            let has = now.agents;
            let detail = format!("{whose} has {has} agents, and may have {most}: stop one of them");
            return exceeded("agents", [has as u64, most as u64, 1], detail);
        }
        let sums = [
            ("memory", "bytes of memory", now.claims.memory, claim.memory, self.memory, "limits.memory"),
            (
                "millicpus",
                "thousandths of a CPU",
                now.claims.millicpus,
                claim.millicpus,
                self.millicpus,
                "limits.cpus",
            ),
            (
                "processes",
                "processes",
                now.claims.processes,
                claim.processes,
                self.processes,
                "limits.processes",
            ),
        ];
        for (what, unit, used, asked, most, field) in sums {
            if let Some(most) = most.filter(|most| used.saturating_add(asked) > *most) {
                let detail = format!(
                    "the agents of {whose} may use {used} {unit}, and {asked} more would exceed its {most}: stop \
                     one of them, or ask for less ({field})"
                );
                return exceeded(what, [used, most, asked], detail);
            }
        }
        Ok(())
    }

    /// Its numbers: what, how much is used, and how much there is.
    pub(crate) fn numbers(&self, now: &Standing) -> Vec<(&'static str, u64, u64)> {
        let agents = self.max_agents.map(|most| ("agents", now.agents as u64, most as u64));
        let memory = self.memory.map(|most| ("memory", now.claims.memory, most));
        let cpus = self.millicpus.map(|most| ("millicpus", now.claims.millicpus, most));
        let processes = self.processes.map(|most| ("processes", now.claims.processes, most));
        [agents, memory, cpus, processes].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(agents: usize, memory: u64, millicpus: u64, processes: u64) -> Standing {
        Standing { agents, claims: Claim { memory, millicpus, processes } }
    }

    #[test]
    fn a_quota_is_used_up_to_the_last_agent_byte_and_process() {
        let quota = Quota {
            max_agents: Some(2),
            memory: Some(100),
            millicpus: Some(1500),
            processes: Some(10),
            ..Quota::default()
        };
        let claim = Claim { memory: 40, millicpus: 500, processes: 5 };
        let said = |now: Standing| quota.check("tenant t", &now, claim).map_err(|excess| excess.detail);
        assert_eq!(said(standing(1, 60, 1000, 5)), Ok(()));
        for (now, what) in [
            (standing(2, 0, 0, 0), "2 agents, and may have 2"),
            (standing(1, 61, 0, 0), "61 bytes of memory, and 40 more would exceed its 100"),
            (standing(1, 0, 1001, 0), "1001 thousandths of a CPU"),
            (standing(1, 0, 0, 6), "6 processes"),
        ] {
            let said = said(now).expect_err(what);
            assert!(said.contains(what) && said.contains("tenant t"), "{said}");
        }
        let excess = quota.check("tenant t", &standing(1, 61, 0, 0), claim).expect_err("too much");
        let QuotaExcess { whose, what, used, limit, asked } = *excess.numbers;
        assert_eq!((whose.as_str(), what.as_str(), used, limit, asked), ("tenant t", "memory", 61, 100, 40));
        assert!(Quota::default().check("t", &standing(9999, u64::MAX, u64::MAX, u64::MAX), claim).is_ok());
    }
}
