//! What the supervisor is told by the node's configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::daemon::authz::grant::Pattern;
pub use crate::daemon::quota::Quota;
use crate::daemon::usage;

/// Agents of one tenant that have ended and are kept, where nobody says otherwise.
const MOST_ENDED: usize = 1000;

/// Configuration of the supervisor.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// What may be used, until somebody says otherwise.
    pub rules: Rules,
    /// How much output of each agent is kept.
    pub log_bytes: u64,
    /// Between SIGTERM and the end of the cgroup, where nobody says otherwise.
    pub grace: Duration,
    /// How long building a sandbox may take.
    pub start: Duration,
    /// Pauses before an agent is started anew.
    pub restarts: Restarts,
}

/// What may be used, and how that is recorded: what can change while it runs.
#[derive(Debug, Clone)]
pub struct Rules {
    /// By tenant.
    pub quotas: BTreeMap<String, Quota>,
    /// Of a tenant that has none of its own.
    pub quota: Quota,
    /// Of each identity that one of these is for.
    pub identities: Vec<(Pattern, Quota)>,
    /// How usage is recorded.
    pub usage: usage::Options,
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
            rules: Rules::default(),
            log_bytes: 16 * 1024 * 1024,
            grace: Duration::from_secs(5),
            start: Duration::from_secs(60),
            restarts: Restarts::default(),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            quotas: BTreeMap::new(),
            quota: Quota { max_ended: Some(MOST_ENDED), ..Quota::default() },
            identities: Vec::new(),
            usage: usage::Options::default(),
        }
    }
}

impl Rules {
    /// What this tenant may use.
    pub(crate) fn quota(&self, tenant: &str) -> Quota {
        let quota = self.quotas.get(tenant).unwrap_or(&self.quota).clone();
        Quota { max_ended: quota.max_ended.or(self.quota.max_ended), ..quota }
    }

    /// What this identity may use, if that is limited: by what is said of it most specifically.
    pub(crate) fn identity_quota(&self, identity: &str) -> Option<&Quota> {
        let meant = self.identities.iter().filter(|(pattern, _)| pattern.matches(identity));
        meant.max_by_key(|(pattern, _)| pattern.rank()).map(|(_, quota)| quota)
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
