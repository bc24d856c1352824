//! What one tenant may use at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::agent::Handle;
use super::config::{Config, Quota};
use super::{Result, SupervisorError};

/// When a tenant whose quota is used up may come again.
const RETRY: Duration = Duration::from_secs(10);

/// Whether this tenant may have one more agent with so much memory. The caller holds the map until it has put it there.
pub(super) fn check(
    agents: &BTreeMap<String, Arc<Handle>>,
    config: &Config,
    tenant: &str,
    memory: u64,
) -> Result<()> {
    let own = agents.values().filter(|handle| handle.tenant == tenant && handle.is_active());
    let (count, used) =
        own.fold((0, 0u64), |(count, used), handle| (count + 1, used.saturating_add(handle.memory)));
    within(config.quota(tenant), tenant, count, used, memory)
}

fn within(quota: Quota, tenant: &str, count: usize, used: u64, memory: u64) -> Result<()> {
    let exceeded = |detail| Err(SupervisorError::Quota { detail, retry_after: RETRY });
    if let Some(most) = quota.max_agents.filter(|most| count >= *most) {
        return exceeded(format!(
            "tenant {tenant} has {count} agents, and may have {most}: stop one of them"
        ));
    }
    if let Some(most) = quota.memory.filter(|most| used.saturating_add(memory) > *most) {
        return exceeded(format!(
            "the agents of tenant {tenant} may use {used} bytes of memory, and {memory} more would exceed its \
             {most}: stop one of them, or ask for less (limits.memory)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_used_up_to_the_last_agent_and_byte() {
        let quota = Quota { max_agents: Some(2), memory: Some(100) };
        assert!(within(quota, "t", 1, 60, 40).is_ok());
        assert!(within(quota, "t", 1, 60, 41).is_err());
        assert!(within(quota, "t", 2, 0, 0).is_err());
        assert!(within(Quota::default(), "t", 9999, u64::MAX, 1).is_ok());
    }
}
