//! From a plan to what a gateway is told: its configuration, in a file that nobody can change.

use std::collections::BTreeSet;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::doors;
use crate::id::AgentId;
use crate::netns::Door;
use crate::plan::Network;
use crate::plan::network::DNS;
use crate::policy::Shortfall;
use crate::wire::egress::{Config, Inject, Socket};

/// The whole configuration of a sandbox's first gateway.
pub fn config(network: &Network, sandbox: &AgentId, tolerated: &BTreeSet<Shortfall>) -> Config {
    let doors = doors::all(network, sandbox);
    Config {
        sandbox: sandbox.to_string(),
        sockets: sockets(network, &doors),
        allow: network.allow.iter().map(ToString::to_string).collect(),
        resolve: network.resolve.iter().map(|(name, all)| (name.to_string(), all.clone())).collect(),
        inject: network.inject.iter().map(inject).collect(),
        ca_bundle: network.ca_bundle.clone(),
        tolerate_no_landlock: tolerated.contains(&Shortfall::Landlock),
        ..Config::default()
    }
}

/// In the order in which the descriptors come: the doors as `netns::open_doors` makes them, then what the host gives.
fn sockets(network: &Network, doors: &[Door]) -> Vec<Socket> {
    let mut sockets = vec![Socket::DnsUdp, Socket::Monitor];
    sockets.extend(doors.iter().map(|door| match door.port() {
        DNS => Socket::DnsTcp,
        port => Socket::Listener { port, within: matches!(door, Door::Within { .. }) },
    }));
    sockets.extend(network.published.iter().map(|port| Socket::Published { inside: port.inside }));
    if !network.published.is_empty() {
        sockets.push(Socket::Dialer);
    }
    sockets.push(Socket::Tally);
    sockets
}

fn inject(inject: &crate::policy::Inject) -> Inject {
    Inject {
        name: inject.name.to_string(),
        upstream: inject.upstream.to_string(),
        header: inject.header.to_string(),
        methods: inject.methods.iter().map(ToString::to_string).collect(),
        paths: inject.paths.iter().map(ToString::to_string).collect(),
    }
}

/// As a sealed file in memory, read from its start.
pub fn sealed(config: &Config) -> io::Result<OwnedFd> {
    let memfd = memfd_create("stockade-egress", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(memfd);
    file.write_all(&serde_json::to_vec(config)?)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn network() -> Network {
        Network {
            ports: [53, 80, 443].into(),
            allow: ["api.example.org:443".parse().expect("a destination")].into(),
            resolve: Default::default(),
            inject: Vec::new(),
            ca_bundle: None,
            published: vec!["127.0.0.1:8080:3000".parse().expect("a port")],
            search: Vec::new(),
        }
    }

    #[test]
    fn every_socket_is_announced_in_the_order_in_which_it_comes() {
        assert_eq!(
            config(&network(), &"run-0".parse().expect("a name"), &BTreeSet::new()).sockets,
            [
                Socket::DnsUdp,
                Socket::Monitor,
                Socket::DnsTcp,
                Socket::Listener { port: 80, within: false },
                Socket::Listener { port: 443, within: false },
                Socket::Published { inside: 3000 },
                Socket::Dialer,
                Socket::Tally,
            ]
        );
    }

    #[test]
    fn a_configuration_can_be_read_and_never_changed() {
        let config = config(&network(), &"run-0".parse().expect("a name"), &BTreeSet::new());
        let mut file = std::fs::File::from(sealed(&config).expect("sealed"));
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(serde_json::from_str::<Config>(&text).expect("a configuration"), config);
        assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
    }
}
