//! Ranges of addresses that a name must not lead to, and an agent must not reach, unless a rule within the range opens them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Cidr;

const fn v6(segments: [u16; 8], length: u8) -> Cidr {
    let [a, b, c, d, e, f, g, h] = segments;
    Cidr::v6(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

/// Guarded ranges (IANA's special-purpose registries, and the addresses at which clouds hand out credentials).
/// Documentation ranges are not among them: on some machines they are what a package registry resolves to.
const GUARDED: &[(Cidr, &str)] = &[
    (Cidr::v4(0, 0, 0, 0, 8), "an address of this host"),
    (Cidr::v4(10, 0, 0, 0, 8), "a private address"),
    (Cidr::v4(100, 64, 0, 0, 10), "an address inside a provider's network"),
    (Cidr::v4(100, 100, 100, 200, 32), "a cloud's metadata service"),
    (Cidr::v4(127, 0, 0, 0, 8), "a loopback address"),
    (Cidr::v4(168, 63, 129, 16, 32), "a cloud's metadata service"),
    (Cidr::v4(169, 254, 0, 0, 16), "a link-local address"),
    (Cidr::v4(169, 254, 0, 23, 32), "a cloud's metadata service"),
    (Cidr::v4(169, 254, 42, 42, 32), "a cloud's metadata service"),
    (Cidr::v4(169, 254, 169, 254, 32), "a cloud's metadata service"),
    (Cidr::v4(169, 254, 170, 2, 32), "a cloud's metadata service"),
    (Cidr::v4(169, 254, 170, 23, 32), "a cloud's metadata service"),
    (Cidr::v4(172, 16, 0, 0, 12), "a private address"),
    (Cidr::v4(192, 0, 0, 0, 24), "an address of a protocol, not of a host"),
    (Cidr::v4(192, 0, 0, 192, 32), "a cloud's metadata service"),
    (Cidr::v4(192, 88, 99, 0, 24), "a 6to4 relay"),
    (Cidr::v4(192, 168, 0, 0, 16), "a private address"),
    (Cidr::v4(198, 18, 0, 0, 15), "a synthetic address"),
    (Cidr::v4(224, 0, 0, 0, 4), "a multicast address"),
    (Cidr::v4(240, 0, 0, 0, 4), "a reserved or broadcast address"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "an address of this host"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "a loopback address"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "an IPv4 address in disguise"),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "an IPv4 address in disguise"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), "an IPv4 address behind NAT64"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "an IPv4 address behind NAT64"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "an address that leads nowhere"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "an IPv4 address behind Teredo"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "an IPv4 address behind 6to4"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "a segment of a provider's network"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "a private address"),
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), "a cloud's metadata service"),
    (v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), "a cloud's metadata service"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128), "a cloud's metadata service"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata service"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata service"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "a link-local address"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "a site-local address"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "a multicast address"),
];

/// The address that a packet would really go to: IPv4 in its IPv6 disguises (`::ffff:10.0.0.1`, `::10.0.0.1`) is IPv4.
pub fn unmask(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    match v6.segments() {
        // `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0, a, b] | [0, 0, 0, 0, 0xffff, 0, a, b] => {
            Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b)).into()
        }
        _ => address,
    }
}

/// The narrowest guarded range that `address` lies in, and what such an address is.
pub fn around(address: IpAddr) -> Option<(Cidr, &'static str)> {
    let matching = GUARDED.iter().filter(|(range, _)| range.contains(address));
    matching.reduce(|a, b| if b.0.is_within(&a.0) { b } else { a }).copied()
}
