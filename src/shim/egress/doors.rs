//! Where a sandbox is listened in: on every address of a port, or only on those that stand for the names that it is for.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::id::AgentId;
use crate::plan::Network;
use crate::plan::network::{DNS, HTTP};
use crate::policy::{HostPattern, Hostname, synthetic};
use crate::wire::egress::GATEWAY_ADDRESS;

/// Most listeners. Each is a descriptor of the gateway's and a line in the filter of its view; beyond, a port is listened on
/// everywhere.
const MOST: usize = 200;
/// Most on one port: the filter jumps over them, by a byte.
const MOST_ON_A_PORT: usize = 100;

/// In the order in which the gateway gets them. What goes to an address that is not here, the kernel refuses at once.
pub fn all(network: &Network, sandbox: &AgentId) -> Vec<SocketAddrV4> {
    let exact: Vec<Hostname> = exact(network).collect();
    // As the gateway places them itself.
    let placed = synthetic::place_all(sandbox.as_str(), exact.iter());
    let mut doors = Vec::new();
    let mut left = network.ports.len();
    for port in &network.ports {
        left -= 1;
        let room = MOST.saturating_sub(doors.len() + left).min(MOST_ON_A_PORT);
        let at = |name: &Hostname| placed.get(name).copied();
        let addresses: Option<BTreeSet<Ipv4Addr>> =
            only_names(network, *port).and_then(|names| names.iter().map(at).collect());
        let addresses = addresses.map(|mut all| {
            all.extend((*port == HTTP).then_some(GATEWAY_ADDRESS));
            all
        });
        match addresses.filter(|all| all.len() <= room) {
            Some(all) => doors.extend(all.into_iter().map(|address| SocketAddrV4::new(address, *port))),
            None => doors.push(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port)),
        }
    }
    doors
}

/// The names that rules name exactly.
fn exact(network: &Network) -> impl Iterator<Item = Hostname> {
    let allowed = network.allow.iter().filter_map(|destination| match destination.host() {
        HostPattern::Name(name) => Some(name.clone()),
        HostPattern::Below(_) | HostPattern::Range(_) => None,
    });
    allowed.chain(served(network))
}

/// The names that have a secret.
fn served(network: &Network) -> impl Iterator<Item = Hostname> {
    network.inject.iter().filter_map(|inject| inject.name.as_str().parse().ok())
}

/// The names that `port` is for, if it is for nothing else: a suffix or a range is for addresses that nobody knows yet.
fn only_names(network: &Network, port: u16) -> Option<BTreeSet<Hostname>> {
    let mut names: BTreeSet<Hostname> = BTreeSet::new();
    if port == DNS {
        return None;
    }
    for destination in network.allow.iter().filter(|destination| destination.ports().contains(&port)) {
        let HostPattern::Name(name) = destination.host() else { return None };
        names.insert(name.clone());
    }
    if port == HTTP {
        names.extend(served(network));
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(allow: &[&str]) -> Vec<String> {
        let allow: BTreeSet<crate::policy::Destination> =
            allow.iter().map(|text| text.parse().expect("a destination")).collect();
        let mut ports: BTreeSet<u16> = allow.iter().flat_map(|d| d.ports().iter().copied()).collect();
        ports.extend([DNS, HTTP]);
        let network = Network {
            ports,
            allow,
            resolve: Default::default(),
            inject: Vec::new(),
            ca_bundle: None,
            published: Vec::new(),
            search: Vec::new(),
        };
        all(&network, &"run-0".parse().expect("a name")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_port_that_is_for_names_is_listened_on_at_their_addresses_only() {
        let name = "api.example.org".parse().expect("a name");
        let placed = synthetic::place_all("run-0", std::iter::once(&name))[&name];
        let at = |port: u16| format!("{placed}:{port}");
        assert_eq!(doors(&[]), ["0.0.0.0:53", "198.18.0.1:80"]);
        assert_eq!(doors(&["api.example.org:443"]), ["0.0.0.0:53", "198.18.0.1:80", &at(443)]);
        assert_eq!(
            doors(&["api.example.org:443,5432", "10.0.0.0/8:5432", "*.example.net:80"]),
            ["0.0.0.0:53", "0.0.0.0:80", &at(443), "0.0.0.0:5432"]
        );
    }

    #[test]
    fn there_are_never_too_many() {
        let names: Vec<String> = (0..120).map(|n| format!("{n}.example.org:443")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(doors(&names)[2..], ["0.0.0.0:443"]);
        let ports: Vec<String> = (1000..1010).map(|port| port.to_string()).collect();
        let many: Vec<String> = (0..30).map(|n| format!("{n}.example.org:{}", ports.join(","))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let all = doors(&many);
        assert!(all.len() <= MOST, "{}", all.len());
        assert_eq!(all.last().map(String::as_str), Some("0.0.0.0:1009"));
    }
}
