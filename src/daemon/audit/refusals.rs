//! Connections that did not get as far as a request: the first of a kind at once, others like it together, so that a flood
//! of them fills no disk.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::event::Event;
use crate::audit::text::{Identity, Serial, Word};

/// Those of one kind and one address within this time are one record.
pub const TOGETHER: Duration = Duration::from_secs(10);

/// So many kinds are told apart; those of further addresses count as one.
const MOST: usize = 1024;

/// What was counted and not recorded yet.
#[derive(Default)]
pub struct Refusals(Mutex<HashMap<Kind, Counted>>);

/// What makes them alike.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    address: IpAddr,
    word: &'static str,
    /// Whom the certificate names, and its serial number.
    named: Option<(String, String)>,
}

struct Counted {
    since: Instant,
    last: SocketAddr,
    count: u64,
}

impl Refusals {
    /// One more; what is to be recorded of it now.
    pub fn count(
        &self,
        address: SocketAddr,
        word: &'static str,
        named: Option<(&str, &str)>,
    ) -> Option<Event> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = named.map(|(name, serial)| (name.to_owned(), serial.to_owned()));
        let mut key = Kind { address: address.ip(), word, named };
        let mut last = address;
        if counted.len() >= MOST && !counted.contains_key(&key) {
            key = Kind { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), word, named: None };
            last = SocketAddr::new(key.address, 0);
        }
        match counted.get_mut(&key) {
            Some(more) => {
                more.count += 1;
                more.last = last;
                None
            }
            None => {
                let event = refused(last, &key, 1);
                counted.insert(key, Counted { since: Instant::now(), last, count: 0 });
                Some(event)
            }
        }
    }

    /// What was counted since the first of each kind, and is to be recorded now.
    pub fn over(&self) -> Vec<Event> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        counted.retain(|kind, counted| {
            let over = counted.since.elapsed() >= TOGETHER || counted.count > 0;
            if over && counted.count > 0 {
                events.push(refused(counted.last, kind, counted.count));
            }
            !over
        });
        events
    }
}

fn refused(source: SocketAddr, kind: &Kind, count: u64) -> Event {
    let named = kind.named.as_ref();
    let (identity, serial) = named.map(|(name, serial)| (Identity::of(name), Serial::of(serial))).unzip();
    Event::ConnectionRefused { source, reason: Word::new(kind.word), identity, serial, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_handful_of_records_and_none_is_left_out_of_the_count() {
        let refusals = Refusals::default();
        let mut events = Vec::new();
        for number in 0..5000_u32 {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number % 2000)), 7);
            events.extend(refusals.count(address, "timeout", None));
        }
        events.extend(refusals.over());
        let count = |event: &Event| match event {
            Event::ConnectionRefused { count, .. } => *count,
            other => panic!("{other:?}"),
        };
        assert_eq!(events.iter().map(count).sum::<u64>(), 5000);
        assert!(events.len() <= 2 * MOST + 2, "{} records", events.len());
    }
}
