//! Agents that have ended are kept for whoever wants to know how, but not all of them and not for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::agent::Handle;
use super::shared::Shared;
use super::times::now;

/// So many are removed at once: others wait for the launcher meanwhile.
const TOGETHER: usize = 50;

/// Those that are kept no longer, the oldest first.
pub(super) fn due(shared: &Shared) -> Vec<Arc<Handle>> {
    let mut ended = BTreeMap::<String, Vec<(u64, Arc<Handle>)>>::new();
    for handle in shared.agents().values().filter(|handle| handle.is_known() && !handle.is_active()) {
        let at = handle.shown.borrow().ended_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let Some(at) = at.and_then(|at| u64::try_from(at.as_millisecond()).ok()) else { continue };
        ended.entry(handle.tenant.clone()).or_default().push((at, handle.clone()));
    }
    let (now, rules) = (now(), shared.rules());
    let mut due = Vec::new();
    for (tenant, mut ended) in ended {
        let quota = rules.quota(&tenant);
        ended.sort_by_key(|(at, _)| *at);
        let surplus = quota.max_ended.map_or(0, |most| ended.len().saturating_sub(most));
        let oldest = quota.ended_for.map(|age| now.saturating_sub(age.as_millis() as u64));
        let is_due = |number: usize, at: u64| number < surplus || oldest.is_some_and(|oldest| at < oldest);
        due.extend(
            ended.into_iter().enumerate().filter_map(|(n, (at, handle))| is_due(n, at).then_some(handle)),
        );
    }
    due.truncate(TOGETHER);
    due
}
