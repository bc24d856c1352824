//! Addresses that a name must not lead to, unless a rule about addresses opens them: the host itself and what lies
//! around it.
//!
//! Without this, whoever owns an allowed name (or the DNS on the way to it) points it at the host's own services.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::policy::{Cidr, guarded};

pub use guarded::unmask;

/// Why an address is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    /// The narrowest guarded range that the address lies in.
    pub range: Cidr,
    /// What such an address is.
    pub what: &'static str,
}

/// Refuses a guarded `address`, unless one of `opened` lies within the narrowest guarded range around it: a rule for
/// 0.0.0.0/0 opens no private network, and one for 10.0.0.0/8 not the host's own address in it.
pub fn check(address: IpAddr, opened: impl Iterator<Item = Cidr>) -> Result<(), Guarded> {
    let Some(guarded) = around(unmask(address)) else { return Ok(()) };
    let mut opening = opened.filter(|range| range.contains(address) || range.contains(unmask(address)));
    if opening.any(|range| range.is_within(&guarded.range)) { Ok(()) } else { Err(guarded) }
}

fn around(address: IpAddr) -> Option<Guarded> {
    match guarded::around(address) {
        // Loopback as a whole is the host's own already, and a rule may open it as a whole.
        Some((range, what)) if address.is_loopback() => Some(Guarded { range, what }),
        found => match whose(source_for(address), address) {
            Whose::Own => Some(Guarded { range: Cidr::single(address), what: "an address of this host" }),
            Whose::Untold => {
                let untold = "an address that could not be told from this host's own just now";
                let what = found.map_or(untold, |(_, what)| what);
                Some(Guarded { range: Cidr::single(address), what })
            }
            Whose::Others => found.map(|(range, what)| Guarded { range, what }),
        },
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Whose {
    Own,
    Others,
    Untold,
}

/// Only where nothing leads to an address it is certainly not this host's: a socket that could not be made says nothing.
fn whose(source: io::Result<IpAddr>, address: IpAddr) -> Whose {
    match source {
        Ok(source) if source == address => Whose::Own,
        Ok(_) => Whose::Others,
        Err(error) => match error.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => {
                Whose::Others
            }
            _ => Whose::Untold,
        },
    }
}

/// Asks the routing table, which is never out of date: a packet to an address of one's own comes from that address.
/// Connecting UDP sends nothing.
fn source_for(address: IpAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect((address, 9))?;
    socket.local_addr().map(|source| source.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_anothers_only_if_the_kernel_says_so() {
        let [address, other] = ["203.0.113.7", "203.0.113.8"].map(|text| text.parse::<IpAddr>().expect(text));
        let error = |errno| Err(io::Error::from_raw_os_error(errno));
        assert_eq!(whose(Ok(address), address), Whose::Own);
        assert_eq!(whose(Ok(other), address), Whose::Others);
        assert_eq!(whose(error(libc::ENETUNREACH), address), Whose::Others);
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EACCES, libc::EPERM] {
            assert_eq!(whose(error(errno), address), Whose::Untold);
        }
    }

    fn is_open(address: &str, rules: &[&str]) -> bool {
        let rules: Vec<Cidr> = rules.iter().map(|text| text.parse().expect("a range")).collect();
        check(address.parse().expect("an address"), rules.into_iter()).is_ok()
    }

    #[test]
    fn what_lies_around_the_host_is_guarded_in_every_spelling() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2001::1",
            "2002:a00:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_open(address, &[]), "{address}");
            assert!(
                !is_open(address, &["0.0.0.0/0", "::/0"]),
                "{address} is opened by a rule for everything"
            );
        }
    }

    #[test]
    fn what_lies_on_the_internet_is_open() {
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "203.0.113.7",
            "192.0.2.1",
            "2606:4700::1111",
            "2001:db8::1",
        ] {
            assert!(is_open(address, &[]), "{address}");
        }
    }

    #[test]
    fn a_rule_within_the_range_opens_it_and_metadata_needs_its_own() {
        assert!(is_open("10.2.0.1", &["10.2.0.0/16"]));
        assert!(is_open("::ffff:10.2.0.1", &["10.2.0.0/16"]));
        assert!(!is_open("10.3.0.1", &["10.2.0.0/16"]));
        assert!(!is_open("172.16.0.1", &["172.0.0.0/8"]));
        for metadata in ["169.254.169.254", "169.254.170.23", "169.254.42.42", "169.254.0.23"] {
            assert!(!is_open(metadata, &["169.254.0.0/16"]), "{metadata}");
        }
        assert!(!is_open("fd20:ce::254", &["fd00::/8"]) && !is_open("fd00:ec2::23", &["fc00::/7"]));
        assert!(is_open("169.254.169.254", &["169.254.169.254/32"]));
        assert!(is_open("127.0.0.1", &["127.0.0.0/8"]));
    }
}
