//! What of the network an agent gets: the doors that are made inside, and what the gateway behind them goes by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::PlanError;
use super::request::Request;
use crate::policy::destination::HostPattern;
use crate::policy::network::MOST_PORTS;
use crate::policy::{Destination, Hostname, Inject, Policy, Published};

/// Names are asked for here, by datagram or connection.
pub const DNS: u16 = 53;

/// Where the gateway itself can be asked what it refused, and where names with a secret are served.
pub const HTTP: u16 = 80;

/// An agent's ways out and in. Most plans have none: then there is no gateway either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The TCP ports that are listened on inside: for the addresses of names that rules name exactly, and for every address
    /// where a rule is about more. What goes elsewhere is refused by the kernel.
    pub ports: BTreeSet<u16>,
    /// Where connections may go.
    pub allow: BTreeSet<Destination>,
    /// Addresses that the site has decided.
    pub resolve: BTreeMap<Hostname, Vec<IpAddr>>,
    /// Names with a secret.
    pub inject: Vec<Inject>,
    /// The certificates that their upstreams are checked against; none: the host's usual bundle.
    pub ca_bundle: Option<PathBuf>,
    /// Ports of the host's loopback that lead inside.
    pub published: Vec<Published>,
    /// In which domains a short name is looked for inside: those of the host's that a rule has names in.
    pub search: Vec<Hostname>,
}

/// `None` if nothing outside may be reached, nor reach inside.
pub fn resolve(policy: &Policy, request: &Request) -> Result<Option<Network>, PlanError> {
    let published = &request.published;
    let network = &policy.network;
    if !network.has_destinations() && published.is_empty() {
        return Ok(None);
    }
    let mut ports = network.ports();
    if ports.len() > MOST_PORTS {
        return Err(PlanError::TooManyPorts { ports: ports.len(), most: MOST_PORTS });
    }
    ports.extend([DNS, HTTP]);
    if let Some(taken) = published.iter().find(|port| is_the_gateways(port.inside, &network.allow)) {
        return Err(PlanError::TakenInside { port: taken.inside });
    }
    Ok(Some(Network {
        ports,
        allow: network.allow.clone(),
        resolve: network.resolve.clone(),
        inject: network.inject.clone(),
        ca_bundle: network.ca_bundle.as_ref().map(|file| file.as_path().to_path_buf()),
        published: published.clone(),
        search: request
            .search
            .iter()
            .filter(|domain| has_names_in(&network.allow, domain))
            .cloned()
            .collect(),
    }))
}

/// Whether the gateway listens on this port at every address inside, so that no server of the agent's can.
fn is_the_gateways(port: u16, allow: &BTreeSet<Destination>) -> bool {
    let mut on_it = allow.iter().filter(|destination| destination.ports().contains(&port));
    let is_everywhere = |destination: &Destination| match destination.host() {
        HostPattern::Name(_) => false,
        HostPattern::Below(_) => true,
        HostPattern::Range(range) => range.askable_inside().is_some(),
    };
    port == DNS || on_it.any(is_everywhere)
}

fn has_names_in(allow: &BTreeSet<Destination>, domain: &Hostname) -> bool {
    allow.iter().any(|destination| match destination.host() {
        HostPattern::Name(name) => name.is_below(domain),
        HostPattern::Below(base) => base == domain || base.is_below(domain) || domain.is_below(base),
        HostPattern::Range(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_destination_there_is_no_gateway() {
        let mut policy = Policy::nothing("site".parse().expect("a name"));
        policy.network.loopback = true;
        assert_eq!(resolve(&policy, &Request::default()).expect("a plan"), None);
        policy.network.allow =
            ["*.example.org:443,8443", "10.2.0.0/16:5432"].map(|d| d.parse().expect(d)).into();
        let network = resolve(&policy, &Request::default()).expect("a plan").expect("a gateway");
        assert_eq!(network.ports, BTreeSet::from([53, 80, 443, 5432, 8443]));
    }

    #[test]
    fn a_published_port_needs_a_gateway_although_nothing_can_be_reached() {
        let policy = Policy::nothing("site".parse().expect("a name"));
        let published = vec!["127.0.0.1:8080:3000".parse().expect("a port")];
        let network = resolve(&policy, &Request { published, ..Request::default() })
            .expect("a plan")
            .expect("a gateway");
        assert_eq!(network.ports, BTreeSet::from([53, 80]));
    }

    #[test]
    fn a_port_that_the_gateway_has_everywhere_is_not_published() {
        let mut policy = Policy::nothing("site".parse().expect("a name"));
        let allow = ["*.example.org:443", "10.2.0.0/16:5432", "127.0.0.1:6379", "api.example.org:8443"];
        policy.network.allow = allow.map(|d| d.parse().expect(d)).into();
        let refused = |inside: u16| {
            let published = vec![format!("127.0.0.1:8080:{inside}").parse().expect("a port")];
            let planned = resolve(&policy, &Request { published, ..Request::default() });
            matches!(planned, Err(PlanError::TakenInside { port }) if port == inside)
        };
        assert_eq!([53, 443, 5432, 6379, 8443, 3000].map(refused), [true, true, true, false, false, false]);
    }

    #[test]
    fn a_search_domain_is_inside_only_where_a_rule_has_names_in_it() {
        let mut policy = Policy::nothing("site".parse().expect("a name"));
        let allow = ["db.corp.example:5432", "*.lab.example:443", "10.2.0.0/16:22"];
        policy.network.allow = allow.map(|d| d.parse().expect(d)).into();
        let domains =
            ["corp.example", "a.lab.example", "lab.example", "example", "home.example", "db.corp.example"];
        let search = domains.map(|domain| domain.parse().expect(domain)).to_vec();
        let network = resolve(&policy, &Request { search, ..Request::default() }).expect("a plan");
        let kept: Vec<String> = network.expect("a gateway").search.iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["corp.example", "a.lab.example", "lab.example", "example"]);
    }
}
