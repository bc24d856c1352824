//! The node, for whoever chooses between several: what it has, what of it is given away, what its kernel can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::daemon::authz::{Grant, Role};
use crate::daemon::quota::Quota;
use crate::daemon::supervisor::Supervisor;
use crate::daemon::tls::Live;
use crate::host::Host;
use crate::policy::Library;
use crate::registry::entry::{Amounts, NodeFacts};

/// What the node is asked for, and what of that was looked up.
pub struct Facts {
    live: Arc<Live>,
    library: Arc<Library>,
    known: NodeFacts,
}

impl Facts {
    /// What the kernel can is looked up once: asking it costs more than an event should.
    pub fn of(live: Arc<Live>, library: Arc<Library>) -> Self {
        let (host, system) = (Host::probe(), rustix::system::sysinfo());
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // By the names of `stockade doctor`, and of what a policy can tolerate.
        let abilities = [
            ("landlock", host.landlock_abi >= 1),
            ("landlock-tcp", host.landlock_abi >= 4),
            ("landlock-scope", host.landlock_abi >= 6),
            ("landlock-audit", host.audit.is_ok()),
            ("seccomp-notify", host.seccomp.notify),
            ("user-namespace", host.user_namespaces),
        ];
        let memory = system.totalram * u64::from(system.mem_unit);
        let known = NodeFacts {
            capacity: Amounts { agents: 0, memory, cpus: cpus as f64 },
            abilities: BTreeMap::from(abilities.map(|(name, has)| (name.to_owned(), has))),
            ..NodeFacts::default()
        };
        let mut facts = Self { live, library, known };
        facts.look();
        facts
    }

    /// Looks for policies: a site adds some while the daemon runs.
    pub fn look(&mut self) {
        self.known.policies = self.library.names().keys().map(ToString::to_string).collect();
    }

    /// As it is now.
    pub fn now(&self, supervisor: &Supervisor) -> NodeFacts {
        let (node, given, config) = (supervisor.node(), supervisor.given(), self.live.config());
        let starts = |grant: &&Grant| matches!(grant.role, Role::Operator | Role::Admin);
        let tenants: BTreeSet<_> = config.grants.iter().filter(starts).map(|grant| &grant.tenant).collect();
        let agents = most(tenants.into_iter().map(|tenant| config.tenants.get(tenant)));
        NodeFacts {
            capacity: Amounts { agents, ..self.known.capacity },
            used: Amounts {
                agents: given.agents as u64,
                memory: given.claims.memory,
                cpus: given.claims.millicpus as f64 / 1000.0,
            },
            draining: node.draining,
            launcher: node.launcher,
            kernel: node.kernel,
            ..self.known.clone()
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
