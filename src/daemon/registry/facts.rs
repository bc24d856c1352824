//! The node, for whoever chooses between several: what it has, what of it is given away, what its kernel can.

use std::collections::{BTreeMap, BTreeSet};

use crate::daemon::authz::{Grant, Role};
use crate::daemon::config::Config;
use crate::daemon::quota::Quota;
use crate::daemon::supervisor::Supervisor;
use crate::host::Host;
use crate::id::PolicyName;
use crate::registry::entry::{Amounts, NodeFacts};

/// What stays as it is while the daemon runs.
pub struct Facts(NodeFacts);

impl Facts {
    /// Looked up once: asking a kernel what it can costs more than an event should.
    pub fn of(config: &Config, policies: BTreeSet<PolicyName>) -> Self {
        let (host, system) = (Host::probe(), rustix::system::sysinfo());
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let starts = |grant: &&Grant| matches!(grant.role, Role::Operator | Role::Admin);
        let tenants: BTreeSet<_> = config.grants.iter().filter(starts).map(|grant| &grant.tenant).collect();
        // By the names of `stockade doctor`, and of what a policy can tolerate.
        let abilities = [
            ("landlock", host.landlock_abi >= 1),
            ("landlock-tcp", host.landlock_abi >= 4),
            ("landlock-scope", host.landlock_abi >= 6),
            ("landlock-audit", host.audit.is_ok()),
            ("seccomp-notify", host.seccomp.notify),
            ("user-namespace", host.user_namespaces),
        ];
        Self(NodeFacts {
            capacity: Amounts {
                agents: most(tenants.into_iter().map(|tenant| config.tenants.get(tenant))),
                memory: system.totalram * u64::from(system.mem_unit),
                cpus: cpus as f64,
            },
            policies: policies.iter().map(ToString::to_string).collect(),
            abilities: BTreeMap::from(abilities.map(|(name, has)| (name.to_owned(), has))),
            ..NodeFacts::default()
        })
    }

    /// With what changes.
    pub fn now(&self, supervisor: &Supervisor) -> NodeFacts {
        let (node, given) = (supervisor.node(), supervisor.given());
        NodeFacts {
            used: Amounts {
                agents: given.agents as u64,
                memory: given.claims.memory,
                cpus: given.claims.millicpus as f64 / 1000.0,
            },
            draining: node.draining,
            launcher: node.launcher,
            kernel: node.kernel,
            ..self.0.clone()
        }
    }
}

/// Agents that all tenants may have together; 0, which means no bound, as soon as one of them has none.
fn most<'a>(quotas: impl Iterator<Item = Option<&'a Quota>>) -> u64 {
    let each = quotas.map(|quota| quota?.max_agents);
    each.sum::<Option<usize>>().unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_bound_only_if_each_of_its_tenants_has_one() {
        let bounded = Quota { max_agents: Some(3), ..Quota::default() };
        let open = Quota::default();
        assert_eq!(most([Some(&bounded), Some(&bounded)].into_iter()), 6);
        assert_eq!(most([Some(&bounded), Some(&open)].into_iter()), 0);
        assert_eq!(most([Some(&bounded), None].into_iter()), 0);
    }
}
