//! `[tenant.NAME]` and `[grant.quota]`: what somebody may use.

use std::time::Duration;

use serde::Deserialize;

use super::document::AtLeastOne;
use crate::daemon::quota::{Budget, Period, Quota};
use crate::policy::{Bytes, Cpus};

/// Where nobody says when to warn.
const WARN: f64 = 0.8;

/// `[tenant.NAME]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)] // docs/configuration.md describes each
pub struct TenantEntry {
    pub max_agents: Option<u32>,
    pub memory: Option<Bytes>,
    pub cpus: Option<Cpus>,
    pub processes: Option<AtLeastOne>,
    pub starts_per_minute: Option<AtLeastOne>,
    pub egress_per_day: Option<Bytes>,
    pub lifetime: Option<Long>,
    pub max_ended: Option<u32>,
    pub ended_for: Option<Long>,
    pub budget: Option<BudgetEntry>,
    pub agent_budget: Option<AgentBudgetEntry>,
}

/// `[grant.quota]`, of each identity that the grant is for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct IdentityEntry {
    pub max_agents: Option<u32>,
    pub memory: Option<Bytes>,
    pub cpus: Option<Cpus>,
    pub processes: Option<AtLeastOne>,
    pub starts_per_minute: Option<AtLeastOne>,
    pub egress_per_day: Option<Bytes>,
    pub lifetime: Option<Long>,
}

/// `[tenant.NAME.budget]`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)]
pub struct BudgetEntry {
    pub per: Period,
    pub cpu: Option<Long>,
    pub memory_gib_hours: Option<AtLeastOne>,
    pub egress: Option<Bytes>,
    pub wall: Option<Long>,
    #[serde(default)]
    pub warn_at: Share,
}

/// `[tenant.NAME.agent-budget]`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)]
pub struct AgentBudgetEntry {
    pub cpu: Option<Long>,
    pub memory_gib_hours: Option<AtLeastOne>,
    pub egress: Option<Bytes>,
    pub wall: Option<Long>,
    #[serde(default)]
    pub warn_at: Share,
}

/// A part of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(f64);

impl Default for Share {
    fn default() -> Self {
        Self(WARN)
    }
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(given: f64) -> Result<Self, String> {
        let fits = given > 0.0 && given <= 1.0;
        if fits {
            Ok(Self(given))
        } else {
            Err(format!("{given} is no part of a budget: write 0.8 for 80 %"))
        }
    }
}

/// A time that may be longer than a day: `90m`, `36h`, `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Long(pub Duration);

impl TryFrom<String> for Long {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => 0,
        };
        match number.parse::<u32>().ok().and_then(|number| u64::from(number).checked_mul(seconds)) {
            Some(seconds @ 1..) => Ok(Self(Duration::from_secs(seconds))),
            _ => Err(format!("{text:?} is not a time: write a whole number with s, m, h or d, like 36h")),
        }
    }
}

/// Byte-seconds of so many GiB-hours.
fn byte_seconds(gib_hours: AtLeastOne) -> u64 {
    (u64::from(gib_hours.number()) * 60 * 60) << 30
}

fn seconds(long: Option<Long>) -> Option<Duration> {
    long.map(|Long(time)| time)
}

impl TenantEntry {
    /// What this file says replaces what was said before.
    pub fn onto(self, quota: &mut Quota) {
        let old = std::mem::take(quota);
        *quota = Quota {
            max_agents: self.max_agents.map(|most| most as usize).or(old.max_agents),
            memory: self.memory.map(Bytes::get).or(old.memory),
            millicpus: self.cpus.map(|cpus| cpus.millis().into()).or(old.millicpus),
            processes: self.processes.map(|most| most.number().into()).or(old.processes),
            starts_per_minute: self.starts_per_minute.map(AtLeastOne::number).or(old.starts_per_minute),
            egress_per_day: self.egress_per_day.map(Bytes::get).or(old.egress_per_day),
            lifetime: seconds(self.lifetime).or(old.lifetime),
            max_ended: self.max_ended.map(|most| most as usize).or(old.max_ended),
            ended_for: seconds(self.ended_for).or(old.ended_for),
            budget: self.budget.map(BudgetEntry::budget).or(old.budget),
            agent_budget: self.agent_budget.map(AgentBudgetEntry::budget).or(old.agent_budget),
        };
    }
}

impl IdentityEntry {
    /// As a quota.
    pub fn quota(&self) -> Quota {
        let mut quota = Quota::default();
        let Self { max_agents, memory, cpus, processes, starts_per_minute, egress_per_day, lifetime } =
            self.clone();
        let entry = TenantEntry {
            max_agents,
            memory,
            cpus,
            processes,
            starts_per_minute,
            egress_per_day,
            lifetime,
            ..TenantEntry::default()
        };
        entry.onto(&mut quota);
        quota
    }
}

impl BudgetEntry {
    fn budget(self) -> Budget {
        let Self { per, cpu, memory_gib_hours, egress, wall, warn_at } = self;
        let of_an_agent = AgentBudgetEntry { cpu, memory_gib_hours, egress, wall, warn_at };
        Budget { per: Some(per), ..of_an_agent.budget() }
    }
}

impl AgentBudgetEntry {
    fn budget(self) -> Budget {
        Budget {
            cpu: seconds(self.cpu),
            memory: self.memory_gib_hours.map(byte_seconds),
            egress: self.egress.map(Bytes::get),
            wall: seconds(self.wall),
            warn: self.warn_at.0,
            per: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_s_quota_is_read_and_a_later_file_replaces_single_values() {
        let read = |text: &str| toml::from_str::<TenantEntry>(text).expect("an entry");
        let mut quota = Quota::default();
        read(
            "max-agents = 5\ncpus = 2.5\nprocesses = 100\nstarts-per-minute = 6\negress-per-day = '1GiB'\n\
             lifetime = '2d'\n[budget]\nper = 'month'\ncpu = '10h'\nmemory-gib-hours = 4\n[agent-budget]\nwall = '30m'\nwarn-at = 0.5",
        )
        .onto(&mut quota);
        read("max-agents = 6\nmax-ended = 3").onto(&mut quota);
        assert_eq!((quota.max_agents, quota.millicpus, quota.max_ended), (Some(6), Some(2500), Some(3)));
        assert_eq!(quota.lifetime, Some(Duration::from_secs(2 * 86_400)));
        let budget = quota.budget.expect("a budget");
        assert_eq!((budget.per, budget.warn), (Some(Period::Month), WARN));
        assert_eq!((budget.cpu, budget.memory), (Some(Duration::from_secs(36_000)), Some((4 * 3600) << 30)));
        assert_eq!(quota.agent_budget.map(|budget| (budget.per, budget.warn)), Some((None, 0.5)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["lifetime = '0s'", "lifetime = '1w'", "processes = 0", "[budget]\ncpu = '1h'"] {
            assert!(toml::from_str::<TenantEntry>(text).is_err(), "{text}");
        }
        for text in ["warn-at = 0.0", "warn-at = 1.5", "per = 'day'"] {
            assert!(toml::from_str::<AgentBudgetEntry>(text).is_err(), "{text}");
        }
    }
}
