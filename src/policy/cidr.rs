//! A range of addresses, as routers write it: `10.2.0.0/16`, `2001:db8::/32`; a bare address is the range of one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Why a range was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCidr {
    /// Not an address in front of the slash.
    #[error("{0:?} is not an address: write it like 10.2.0.0/16 or 2001:db8::/32")]
    Address(String),
    /// Not a number of bits that such an address has.
    #[error("{given:?} is not a prefix length: write a number from 0 to {most}")]
    Length {
        /// What stands behind the slash.
        given: String,
        /// 32 or 128.
        most: u8,
    },
    /// Bits are set that the range says nothing about.
    #[error("{given} is an address inside the range {range}: write one or the other")]
    HostBits {
        /// As written.
        given: String,
        /// The range that it lies in.
        range: Cidr,
    },
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: IpAddr,
    length: u8,
}

impl Cidr {
    /// The range of exactly one address.
    pub const fn single(address: IpAddr) -> Self {
        let length = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self { first: address, length }
    }

    /// A range of IPv4 addresses; bits beyond the prefix are cleared.
    pub const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Self {
        let mask = mask(32, length) as u32;
        let first = Ipv4Addr::from_bits(Ipv4Addr::new(a, b, c, d).to_bits() & mask);
        Self { first: IpAddr::V4(first), length }
    }

    /// A range of IPv6 addresses; bits beyond the prefix are cleared.
    pub const fn v6(first: Ipv6Addr, length: u8) -> Self {
        Self { first: IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() & mask(128, length))), length }
    }

    /// Whether `address` lies in it. An IPv4 address never lies in a range of IPv6 addresses, nor the other way round.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_v4() == address.is_ipv4() && bits(address) & self.mask() == bits(self.first)
    }

    /// Whether every address of this range lies in `parent`.
    pub fn is_within(&self, parent: &Self) -> bool {
        parent.length <= self.length && parent.contains(self.first)
    }

    /// The lowest address and the length of the prefix, if it is a range of IPv4 addresses.
    pub fn as_v4(&self) -> Option<(Ipv4Addr, u8)> {
        match self.first {
            IpAddr::V4(first) => Some((first, self.length)),
            IpAddr::V6(_) => None,
        }
    }

    /// The same, if a program in a sandbox can ask for such addresses: there is no IPv6, and the loopback is the sandbox's own.
    /// A rule about any other range is about what names may lead to.
    pub fn askable_inside(&self) -> Option<(Ipv4Addr, u8)> {
        self.as_v4().filter(|(first, _)| !first.is_loopback())
    }

    fn is_v4(&self) -> bool {
        self.first.is_ipv4()
    }

    fn mask(&self) -> u128 {
        mask(width(self.first), self.length)
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

const fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits() as u128,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first `length` of `width` bits.
const fn mask(width: u8, length: u8) -> u128 {
    let all = u128::MAX >> (128 - width as u32);
    // A shift by the whole width is not defined.
    if length == 0 { 0 } else { all & (u128::MAX << (width - length) as u32) }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().map_err(|_| InvalidCidr::Address(address.into()))?;
        let Some(given) = length else { return Ok(Self::single(address)) };
        let most = width(address);
        // parse() would take "+8", and "08" reads like octal.
        let plain = given.bytes().all(|c| c.is_ascii_digit()) && (given == "0" || !given.starts_with('0'));
        let length = given.parse().ok().filter(|length| plain && *length <= most);
        let length = length.ok_or_else(|| InvalidCidr::Length { given: given.into(), most })?;
        let range = match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self::v4(a, b, c, d, length)
            }
            IpAddr::V6(v6) => Self::v6(v6, length),
        };
        if range.first != address {
            return Err(InvalidCidr::HostBits { given: text.into(), range });
        }
        Ok(range)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == width(self.first) {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}/{}", self.first, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Cidr {
        text.parse().expect("a range")
    }

    #[test]
    fn a_range_ends_where_its_prefix_says() {
        for (text, inside, outside) in [
            ("10.2.0.0/16", "10.2.255.255", "10.3.0.0"),
            ("10.2.3.4", "10.2.3.4", "10.2.3.5"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "fe80::1", "10.0.0.1"),
            ("::1", "::1", "::2"),
        ] {
            assert!(range(text).contains(inside.parse().expect("an address")), "{text} {inside}");
            assert!(!range(text).contains(outside.parse().expect("an address")), "{text} {outside}");
        }
    }

    #[test]
    fn a_range_that_says_two_things_is_refused_with_what_was_meant() {
        let error = "10.2.3.4/16".parse::<Cidr>().expect_err("host bits are set");
        assert_eq!(
            error.to_string(),
            "10.2.3.4/16 is an address inside the range 10.2.0.0/16: write one or the other"
        );
        for text in
            ["10.2.0.0/33", "10.2.0.0/", "10.2.0.0/+8", "10.2.0.0/08", "::/129", "10.2/16", "010.1.1.1"]
        {
            assert!(text.parse::<Cidr>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn what_lies_in_a_narrower_range_lies_in_the_wider(
            address in any::<u32>(), other in any::<u32>(), narrow in 0_u8..=32, wide in 0_u8..=32
        ) {
            let cidr = |address: u32, length| {
                let [a, b, c, d] = address.to_be_bytes();
                Cidr::v4(a, b, c, d, length)
            };
            let (narrow, wide) = (cidr(address, narrow), cidr(address, wide));
            let other = IpAddr::V4(other.into());
            if narrow.is_within(&wide) && narrow.contains(other) {
                prop_assert!(wide.contains(other));
            }
            prop_assert_eq!(narrow.to_string().parse::<Cidr>(), Ok(narrow));
        }
    }
}
