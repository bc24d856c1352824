//! Which name a synthetic address stands for, and the other way round.
//!
//! An address follows from the sandbox and the name, so that it is the same after a restart of the gateway. Names that
//! rules name exactly are placed first and stay. Names below a `*.suffix` are placed when they are asked for, up to a
//! bound; then the one that was asked for least recently makes room.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use crate::policy::Hostname;
use crate::policy::hostname::GATEWAY;
use crate::policy::synthetic;
use crate::wire::egress::GATEWAY_ADDRESS;

/// Most names that are known only because a `*.suffix` covers them.
pub const MOST_PASSING: usize = 4096;

/// The names of one sandbox.
#[derive(Debug)]
pub struct Names {
    sandbox: String,
    by_name: HashMap<Hostname, Place>,
    by_address: HashMap<Ipv4Addr, Hostname>,
    /// Passing names by when they were last asked for.
    passing: BTreeMap<u64, Hostname>,
    clock: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    address: Ipv4Addr,
    /// Its key in `passing`; none: it stays.
    asked: Option<u64>,
}

impl Names {
    /// Places the names that stay.
    pub fn new<'a>(sandbox: &str, exact: impl Iterator<Item = &'a Hostname>) -> Self {
        let mut names = Self {
            sandbox: sandbox.to_owned(),
            by_name: HashMap::new(),
            by_address: HashMap::new(),
            passing: BTreeMap::new(),
            clock: 0,
        };
        let gateway: Hostname = GATEWAY.parse().expect("the gateway's own name is one");
        names.settle(gateway, GATEWAY_ADDRESS, None);
        for (name, address) in synthetic::place_all(sandbox, exact) {
            names.settle(name, address, None);
        }
        names
    }

    /// Places a passing name where an earlier gateway had it.
    pub fn restore(&mut self, name: Hostname, address: Ipv4Addr) {
        let in_range = !synthetic::is_reserved(address);
        let free = !self.by_name.contains_key(&name) && !self.by_address.contains_key(&address);
        if in_range && free && self.passing.len() < MOST_PASSING {
            let asked = self.tick(&name);
            self.settle(name, address, Some(asked));
        }
    }

    /// The address that stands for `name`, and whether it is a new one.
    pub fn address(&mut self, name: &Hostname) -> (Ipv4Addr, bool) {
        if let Some(place) = self.by_name.get(name).copied() {
            if let Some(asked) = place.asked {
                self.passing.remove(&asked);
                let asked = self.tick(name);
                self.by_name.insert(name.clone(), Place { asked: Some(asked), ..place });
            }
            return (place.address, false);
        }
        if self.passing.len() >= MOST_PASSING {
            self.forget_oldest();
        }
        let address = synthetic::place(&self.sandbox, name, |address| self.by_address.contains_key(&address));
        let asked = self.tick(name);
        self.settle(name.clone(), address, Some(asked));
        (address, true)
    }

    /// The name that `address` stands for.
    pub fn name(&self, address: Ipv4Addr) -> Option<&Hostname> {
        self.by_address.get(&address)
    }

    fn settle(&mut self, name: Hostname, address: Ipv4Addr, asked: Option<u64>) {
        self.by_address.insert(address, name.clone());
        self.by_name.insert(name, Place { address, asked });
    }

    fn tick(&mut self, name: &Hostname) -> u64 {
        self.clock += 1;
        self.passing.insert(self.clock, name.clone());
        self.clock
    }

    fn forget_oldest(&mut self) {
        if let Some((_, name)) = self.passing.pop_first()
            && let Some(place) = self.by_name.remove(&name)
        {
            self.by_address.remove(&place.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Hostname {
        text.parse().expect("a name")
    }

    fn names(sandbox: &str, exact: &[&str]) -> Names {
        let exact: Vec<Hostname> = exact.iter().map(|text| name(text)).collect();
        Names::new(sandbox, exact.iter())
    }

    #[test]
    fn an_address_stands_for_one_name_however_many_there_are() {
        let mut names = names("one", &["api.example.org"]);
        let fixed = names.address(&name("api.example.org")).0;
        let asked = |n: usize| name(&format!("x{n}.example.org"));
        let first = names.address(&asked(0)).0;
        for n in 1..=MOST_PASSING {
            let (address, new) = names.address(&asked(n));
            assert!(new);
            assert_eq!(names.name(address), Some(&asked(n)));
        }
        assert_eq!(names.name(first), None, "the one asked for least recently makes room");
        assert_eq!(names.name(fixed), Some(&name("api.example.org")));
        assert_eq!(names.by_name.len(), MOST_PASSING + 2);
        assert_eq!(names.by_address.len(), MOST_PASSING + 2);
    }

    #[test]
    fn what_an_earlier_gateway_said_holds_unless_it_is_taken() {
        let mut names = names("one", &["api.example.org"]);
        let fixed = names.address(&name("api.example.org")).0;
        let free = Ipv4Addr::new(198, 19, 7, 7);
        names.restore(name("a.example.org"), free);
        assert_eq!(names.address(&name("a.example.org")), (free, false));
        names.restore(name("b.example.org"), fixed);
        assert_eq!(names.name(fixed), Some(&name("api.example.org")));
        for outside in [Ipv4Addr::new(10, 0, 0, 1), GATEWAY_ADDRESS, Ipv4Addr::new(198, 18, 0, 9)] {
            names.restore(name("c.example.org"), outside);
            assert_ne!(names.name(outside), Some(&name("c.example.org")));
        }
    }
}
