//! The names that keep their synthetic address when a gateway is replaced: what an agent asked for, told by a process that
//! may have been taken over.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::policy::Hostname;

/// The agent chooses how many there are, and all have to fit into a configuration (`LONGEST_CONFIG`).
const MOST: usize = 3072;
/// The names together, in bytes; with it half of a configuration is left for the policy.
const MOST_BYTES: usize = 384 * 1024;

/// Remembers what `name` has as its address, if it is a name and there is room. A configuration that the next gateway cannot
/// read would leave the agent without one.
pub fn remember(named: &mut BTreeMap<Ipv4Addr, String>, address: Ipv4Addr, name: &str) {
    let Ok(name) = name.parse::<Hostname>() else { return };
    let others = named.iter().filter(|(other, _)| **other != address);
    let (count, bytes) = others.fold((0, 0), |(count, bytes), (_, name)| (count + 1, bytes + name.len()));
    if count < MOST && bytes + name.as_str().len() <= MOST_BYTES {
        named.insert(address, name.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::egress::config::sealed;
    use crate::wire::egress::{Config, LONGEST_CONFIG};
    use std::os::fd::AsFd;

    fn address(n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 1, 0).to_bits() + n)
    }

    #[test]
    fn whatever_a_gateway_names_the_next_one_can_read_it() {
        let long = |n: u32| format!("{n}.{0}.{0}.{0}.org", "x".repeat(60));
        let quotes = |n: u32| format!("{n}{}", "\"\u{7ff}".repeat(100));
        let kinds: [&dyn Fn(u32) -> String; 2] = [&long, &quotes];
        for name in kinds {
            let mut config = Config::default();
            (0..8000).for_each(|n| remember(&mut config.named, address(n % 5000), &name(n)));
            let file = sealed(&config).expect("sealed");
            let length = rustix::fs::fstat(file.as_fd()).expect("its length").st_size;
            assert!(u64::try_from(length).expect("a length") < LONGEST_CONFIG * 3 / 4, "{length}");
        }
    }

    #[test]
    fn names_are_remembered_by_their_latest_address_and_nothing_else_is() {
        let mut named = BTreeMap::new();
        remember(&mut named, address(1), "a.example.org");
        remember(&mut named, address(1), "b.example.org");
        for nonsense in ["", "a b", "a\n.org", "\u{1b}[2J.org"] {
            remember(&mut named, address(2), nonsense);
        }
        assert_eq!(named, BTreeMap::from([(address(1), "b.example.org".to_owned())]));
    }
}
