//! The addresses that stand for names inside a sandbox.
//!
//! They follow from the sandbox and the name alone, so that whoever makes the sockets and whoever answers DNS agree
//! without a word, and a restarted gateway agrees with its predecessor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use sha2::{Digest, Sha256};

use super::hostname::Hostname;
use crate::ordered;

/// 198.18.0.0/15: for benchmarks of isolated networks (RFC 2544), so no host on the internet has such an address.
const FIRST: u32 = Ipv4Addr::new(198, 18, 0, 0).to_bits();
const COUNT: u32 = 1 << 17;
/// All of them: the first, and how many bits they share.
pub const RANGE: (Ipv4Addr, u8) = (Ipv4Addr::from_bits(FIRST), 32 - COUNT.trailing_zeros() as u8);
/// The first 256 addresses stand for no name but the gateway's.
const RESERVED: u32 = 256;

/// Where each of these names is placed.
pub fn place_all<'a>(
    sandbox: &str,
    names: impl Iterator<Item = &'a Hostname>,
) -> BTreeMap<Hostname, Ipv4Addr> {
    // Sorted: which of two names that want one place gets it must not depend on the order of the rules.
    let names = ordered::set(names);
    let (mut placed, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for name in names {
        let address = place(sandbox, name, |address| taken.contains(&address));
        taken.insert(address);
        placed.insert(name.clone(), address);
    }
    placed
}

/// The first place for `name` that is not taken.
pub fn place(sandbox: &str, name: &Hostname, is_taken: impl Fn(Ipv4Addr) -> bool) -> Ipv4Addr {
    let mut sha = Sha256::new();
    sha.update(sandbox.as_bytes());
    sha.update([0]);
    sha.update(name.as_str().as_bytes());
    let hash: [u8; 32] = sha.finalize().into();
    let start = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]);
    let room = COUNT - RESERVED;
    let place = |step: u32| Ipv4Addr::from_bits(FIRST + RESERVED + start.wrapping_add(step) % room);
    let mut candidates = (0..room).map(place);
    candidates.find(|address| !is_taken(*address)).expect("fewer names than addresses")
}

/// Whether `address` could stand for a name.
pub fn is_synthetic(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.to_bits().wrapping_sub(FIRST) < COUNT)
}

/// Whether `address` stands for no name, or the gateway's.
pub fn is_reserved(address: Ipv4Addr) -> bool {
    !(RESERVED..COUNT).contains(&address.to_bits().wrapping_sub(FIRST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_stable_per_name_and_differs_between_sandboxes() {
        let names: Vec<Hostname> =
            ["b.example.org", "api.example.org"].iter().map(|text| text.parse().expect("a name")).collect();
        let one = place_all("one", names.iter());
        assert_eq!(one, place_all("one", names.iter().rev()));
        assert_ne!(one, place_all("two", names.iter()));
        assert!(!is_synthetic(Ipv4Addr::new(198, 20, 0, 0).into()));
    }

    proptest! {
        #[test]
        fn every_name_has_a_place_of_its_own(names in proptest::collection::btree_set("[a-z]{1,8}\\.test", 1..60)) {
            let names: Vec<Hostname> = names.iter().map(|text| text.parse().expect("a name")).collect();
            let placed = place_all("one", names.iter());
            let places: BTreeSet<Ipv4Addr> = placed.values().copied().collect();
            prop_assert_eq!(places.len(), names.len());
            for place in places {
                prop_assert!(is_synthetic(place.into()) && !is_reserved(place));
            }
        }
    }
}
