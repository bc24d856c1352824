//! `[network]`: whom an agent may talk to, and how names are looked up for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::inject::{HostFile, Inject};
use super::{Destination, Hostname};
use crate::ordered;

/// Each is a socket inside, and all of them go to the gateway in one message (SCM_MAX_FD is 253).
pub const MOST_PORTS: usize = 100;

/// `[network]`: nothing leaves the sandbox but to what is named here; its own loopback is a matter of policy, too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Network {
    /// Whether the sandbox's processes may reach each other over TCP on their own loopback.
    pub loopback: bool,
    /// Hosts that may be reached, each on its ports.
    pub allow: BTreeSet<Destination>,
    /// The certificates that `inject` upstreams are checked against; none: the host's usual bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<HostFile>,
    /// Addresses that the site has decided for names; they are not looked up.
    pub resolve: BTreeMap<Hostname, Vec<IpAddr>>,
    /// Names with a secret that the agent does not have, in their order.
    pub inject: Vec<Inject>,
}

impl Network {
    /// Whether anything outside can be reached at all.
    pub fn has_destinations(&self) -> bool {
        !self.allow.is_empty() || !self.inject.is_empty()
    }

    /// Every port that a rule names.
    pub fn ports(&self) -> BTreeSet<u16> {
        ordered::set(self.allow.iter().flat_map(|destination| destination.ports().iter().copied()))
    }

    /// Adds one, in the place of one with the same name.
    pub fn put_inject(&mut self, inject: Inject) {
        self.inject.retain(|existing| existing.name != inject.name);
        self.inject.push(inject);
        self.inject.sort();
    }

    /// Whether the name with a secret could be reached without it, too.
    pub fn is_served_twice(&self, inject: &Inject) -> bool {
        let name: Result<Hostname, _> = inject.name.as_str().parse();
        name.is_ok_and(|name| self.allow.iter().any(|destination| destination.covers_name(&name, 80)))
    }

    /// Whether anything is sent to where `name` leads: by the agent itself, or by the gateway with a secret.
    pub fn leads_to(&self, name: &Hostname) -> bool {
        self.allow.iter().any(|destination| destination.knows_name(name))
            || self.inject.iter().any(|inject| inject.upstream.host() == name.as_str())
    }
}
