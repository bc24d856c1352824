//! What the supervisor is told by the node's configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::daemon::usage;

/// Configuration of the supervisor.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// By tenant.
    pub quotas: BTreeMap<String, Quota>,
    /// Of a tenant that has none of its own.
    pub quota: Quota,
    /// How much output of each agent is kept.
    pub log_bytes: u64,
    /// Between SIGTERM and the end of the cgroup, where nobody says otherwise.
    pub grace: Duration,
    /// How long building a sandbox may take.
    pub start: Duration,
    /// Pauses before an agent is started anew.
    pub restarts: Restarts,
    /// How usage is recorded.
    pub usage: usage::Options,
}

/// What one tenant may use at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Agents that have not ended; none: as many as the node bears.
    pub max_agents: Option<usize>,
    /// Bytes of memory that they may use together; none: as much as there is.
    pub memory: Option<u64>,
}

/// Pauses before an agent that failed is started anew: doubled each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarts {
    /// The first pause.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// After running for so long it counts as healthy: the next pause is the first again.
    pub healthy: Duration,
}

impl Default for Restarts {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            healthy: Duration::from_secs(60),
        }
    }
}

impl Restarts {
    /// The pause before start number `count`, from 0.
    pub(crate) fn pause(&self, count: u32) -> Duration {
        self.first.saturating_mul(1u32.checked_shl(count).unwrap_or(u32::MAX)).min(self.longest)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            quotas: BTreeMap::new(),
            quota: Quota::default(),
            log_bytes: 16 * 1024 * 1024,
            grace: Duration::from_secs(5),
            start: Duration::from_secs(60),
            restarts: Restarts::default(),
            usage: usage::Options::default(),
        }
    }
}

impl Config {
    /// What this tenant may use.
    pub(crate) fn quota(&self, tenant: &str) -> Quota {
        self.quotas.get(tenant).copied().unwrap_or(self.quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u64> =
            [0, 1, 2, 8, 9, 31, 32, 77].map(|n| Restarts::default().pause(n).as_secs()).into();
        assert_eq!(pauses, [1, 2, 4, 256, 300, 300, 300, 300]);
    }
}
