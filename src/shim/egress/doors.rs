//! Where a sandbox is listened in: at the addresses that stand for the names that a port is for, or within ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::id::AgentId;
use crate::netns::{Door, Range};
use crate::plan::Network;
use crate::plan::network::{DNS, HTTP};
use crate::policy::{HostPattern, Hostname, synthetic};
use crate::wire::egress::GATEWAY_ADDRESS;

/// Most listeners. Each is a descriptor of the gateway's and a line in the filter of its view; beyond, a port has one for all
/// addresses that can stand for names.
const MOST: usize = 200;
/// Most on one port: the filter jumps over them, by a byte.
const MOST_ON_A_PORT: usize = 100;
/// Most ranges of one port, and most names that it is not for, for the same reason; beyond, it is listened on everywhere.
const MOST_RANGES: usize = 40;
const MOST_EXCEPTIONS: usize = 40;
/// Most of both of all ports: before Linux 6.7 a filter had to fit into 20 KiB (net.core.optmem_max).
const MOST_IN_ALL: usize = 110;

/// In the order in which the gateway gets them. What goes to an address that is not here is refused at once.
pub fn all(network: &Network, sandbox: &AgentId) -> Vec<Door> {
    let exact: Vec<Hostname> = exact(network).collect();
    // As the gateway places them itself.
    let placed = synthetic::place_all(sandbox.as_str(), exact.iter());
    let (mut doors, mut room_for_parts) = (Vec::new(), MOST_IN_ALL);
    let mut left = network.ports.len();
    for port in &network.ports {
        left -= 1;
        let room = MOST.saturating_sub(doors.len() + left).min(MOST_ON_A_PORT);
        let addresses = only_names(network, *port).and_then(|names| addresses_of(&names, &placed));
        let addresses = addresses.map(|mut all| {
            all.extend((*port == HTTP).then_some(GATEWAY_ADDRESS));
            all
        });
        match addresses.filter(|all| all.len() <= room) {
            Some(all) => {
                doors.extend(all.into_iter().map(|address| Door::At(SocketAddrV4::new(address, *port))));
            }
            None => doors.push(wide(network, *port, &placed, &mut room_for_parts)),
        }
    }
    doors
}

/// For addresses that nobody knows yet: those that can stand for names, and those of the rules about `port`.
fn wide(network: &Network, port: u16, placed: &BTreeMap<Hostname, Ipv4Addr>, room: &mut usize) -> Door {
    if port == DNS {
        return Door::Everywhere { port };
    }
    let mut ranges = BTreeSet::new();
    let mut has_names = port == HTTP;
    for destination in network.allow.iter().filter(|destination| destination.ports().contains(&port)) {
        match destination.host() {
            HostPattern::Range(range) => ranges.extend(range.askable_inside()),
            HostPattern::Name(_) | HostPattern::Below(_) => has_names = true,
        }
    }
    let except = exceptions(network, port, placed);
    if has_names {
        ranges.insert(synthetic::RANGE);
    }
    let parts = ranges.len() + except.len();
    if ranges.len() > MOST_RANGES || except.len() > MOST_EXCEPTIONS || parts > *room {
        return Door::Everywhere { port };
    }
    *room -= parts;
    let ranges = ranges.into_iter().map(|(first, length)| Range { first, length }).collect();
    Door::Within { port, ranges, except }
}

/// The addresses of names that are known and may not be reached on `port`.
fn exceptions(network: &Network, port: u16, placed: &BTreeMap<Hostname, Ipv4Addr>) -> Vec<Ipv4Addr> {
    let mut except = Vec::new();
    if port != HTTP {
        except.push(GATEWAY_ADDRESS);
    }
    for (name, address) in placed {
        let is_allowed = network.allow.iter().any(|destination| destination.covers_name(name, port));
        let is_served =
            port == HTTP && network.inject.iter().any(|inject| inject.name.as_str() == name.as_str());
        if !is_allowed && !is_served {
            except.push(*address);
        }
    }
    except
}

/// Where they are, if all of them are somewhere.
fn addresses_of(
    names: &BTreeSet<Hostname>,
    placed: &BTreeMap<Hostname, Ipv4Addr>,
) -> Option<BTreeSet<Ipv4Addr>> {
    let mut addresses = BTreeSet::new();
    for name in names {
        addresses.insert(*placed.get(name)?);
    }
    Some(addresses)
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
        match destination.host() {
            HostPattern::Name(name) => drop(names.insert(name.clone())),
            HostPattern::Range(range) if range.askable_inside().is_none() => {}
            HostPattern::Below(_) | HostPattern::Range(_) => return None,
        }
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
        all(&network, &"run-0".parse().expect("a name")).iter().map(text).collect()
    }

    fn text(door: &Door) -> String {
        match door {
            Door::At(place) => place.to_string(),
            Door::Everywhere { port } => format!("*:{port}"),
            Door::Within { port, ranges, except } => {
                let ranges: Vec<String> =
                    ranges.iter().map(|range| format!("{}/{}", range.first, range.length)).collect();
                let except: String = except.iter().map(|address| format!("-{address}")).collect();
                format!("{}{except}:{port}", ranges.join("+"))
            }
        }
    }

    #[test]
    fn a_port_that_is_for_names_is_listened_on_at_their_addresses_only() {
        let name = "api.example.org".parse().expect("a name");
        let placed = synthetic::place_all("run-0", std::iter::once(&name))[&name];
        let at = |port: u16| format!("{placed}:{port}");
        assert_eq!(doors(&[]), ["*:53", "198.18.0.1:80"]);
        assert_eq!(doors(&["api.example.org:443"]), ["*:53", "198.18.0.1:80", &at(443)]);
    }

    #[test]
    fn a_port_that_is_for_a_suffix_or_a_range_is_listened_on_within_what_it_is_for() {
        let name = "api.example.org".parse().expect("a name");
        let placed = synthetic::place_all("run-0", std::iter::once(&name))[&name];
        assert_eq!(
            doors(&["api.example.org:443,5432", "10.0.0.0/8:5432", "*.example.net:80", "192.0.2.0/24:25"]),
            [
                format!("192.0.2.0/24-198.18.0.1-{placed}:25"),
                "*:53".to_owned(),
                format!("198.18.0.0/15-{placed}:80"),
                format!("{placed}:443"),
                "10.0.0.0/8+198.18.0.0/15-198.18.0.1:5432".to_owned(),
            ]
        );
    }

    #[test]
    fn a_rule_about_what_names_may_lead_to_takes_no_port_inside() {
        assert_eq!(doors(&["127.0.0.1:5432", "[2001:db8::/32]:443", "[::1]:80"]), ["*:53", "198.18.0.1:80"]);
    }

    #[test]
    fn there_are_never_too_many() {
        let names: Vec<String> = (0..120).map(|n| format!("{n}.example.org:443")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(doors(&names)[2..], ["198.18.0.0/15-198.18.0.1:443"]);
        let ports: Vec<String> = (1000..1010).map(|port| port.to_string()).collect();
        let many: Vec<String> = (0..30).map(|n| format!("{n}.example.org:{}", ports.join(","))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let all = doors(&many);
        assert!(all.len() <= MOST, "{}", all.len());
        assert_eq!(all.last().map(String::as_str), Some("198.18.0.0/15-198.18.0.1:1009"));
        let ranges: Vec<String> = (0..41).map(|n| format!("10.{n}.0.0/16:5432")).collect();
        let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
        assert_eq!(doors(&ranges)[2..], ["*:5432"]);
    }
}
