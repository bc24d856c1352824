//! What has been connected and what was refused: for the shim, and for the agent itself.
//!
//! Records of one kind that arrive before the shim has taken them are added up: an agent that connects ten thousand times
//! a second makes numbers grow, not queues.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::Notify;

use crate::wire::egress::{FromEgress, Protocol, Reason, Record, Verdict};
use crate::wire::tally::Tally;

/// Most kinds of record that wait for the shim; what comes on top is added to one without a name.
const MOST_PENDING: usize = 1024;
/// Most refusals that an agent can read.
const MOST_RECENT: usize = 256;

type Key = (Protocol, Option<String>, Option<IpAddr>, u16, Verdict);

/// The accounts of one sandbox.
#[derive(Debug, Default)]
pub struct Ledger {
    tally: Option<Tally>,
    inner: RefCell<Inner>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    pending: HashMap<Key, Record>,
    messages: VecDeque<FromEgress>,
    recent: VecDeque<Refused>,
}

/// A refusal as the agent reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// When it last happened, in seconds since 1970.
    pub time: u64,
    /// How often it has.
    pub count: u32,
    /// What was used.
    pub protocol: Protocol,
    /// The name, where there was one.
    pub name: Option<String>,
    /// The address, where there was a real one.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// For programs.
    pub reason: Reason,
    /// For people and models.
    pub detail: String,
    /// The line of the policy that would have allowed it.
    pub remedy: Option<String>,
}

impl Ledger {
    /// An empty one; bytes are counted there as they move.
    pub fn new(tally: Option<Tally>) -> Self {
        Self { tally, ..Self::default() }
    }

    /// Where bytes are counted as they move, if they are.
    pub fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// Enters one record.
    pub fn enter(&self, record: Record) {
        let mut inner = self.inner.borrow_mut();
        if let Verdict::Refused { reason, detail, remedy } = &record.verdict {
            inner.remember(&record, *reason, detail, remedy.as_ref());
        }
        inner.add(record);
        self.wake.notify_one();
    }

    /// Puts a message that is no record before the next records.
    pub fn announce(&self, message: FromEgress) {
        let mut inner = self.inner.borrow_mut();
        if inner.messages.len() < MOST_PENDING {
            inner.messages.push_back(message);
        }
        self.wake.notify_one();
    }

    /// Waits until there is something to take.
    pub async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Takes what is there.
    pub fn take(&self) -> Vec<FromEgress> {
        let mut inner = self.inner.borrow_mut();
        let records: Vec<_> =
            inner.pending.drain().map(|(_, record)| FromEgress::Connection(record)).collect();
        inner.messages.drain(..).chain(records).collect()
    }

    /// The refusals that the agent can read, the latest last.
    pub fn recent(&self) -> Vec<Refused> {
        self.inner.borrow().recent.iter().cloned().collect()
    }
}

impl Inner {
    fn add(&mut self, mut record: Record) {
        let key = |r: &Record| (r.protocol, r.name.clone(), r.address, r.port, r.verdict.clone());
        if self.pending.len() >= MOST_PENDING && !self.pending.contains_key(&key(&record)) {
            (record.name, record.address, record.port) = (None, None, 0);
            shorten(&mut record.verdict);
        }
        let sum = self.pending.entry(key(&record));
        sum.and_modify(|sum| {
            sum.count = sum.count.saturating_add(record.count);
            sum.sent = sum.sent.saturating_add(record.sent);
            sum.received = sum.received.saturating_add(record.received);
            sum.duration = sum.duration.saturating_add(record.duration);
        })
        .or_insert(record);
    }

    fn remember(&mut self, record: &Record, reason: Reason, detail: &str, remedy: Option<&String>) {
        let is_alike = |old: &Refused| !reason.differs_in_detail() || old.detail == detail;
        let known = |old: &Refused| {
            (old.protocol, &old.name, old.address, old.port, old.reason)
                == (record.protocol, &record.name, record.address, record.port, reason)
                && is_alike(old)
        };
        let before = self.recent.iter().position(known).and_then(|at| self.recent.remove(at));
        if self.recent.len() >= MOST_RECENT {
            self.recent.pop_front();
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.recent.push_back(Refused {
            time,
            count: before.map_or(0, |before| before.count).saturating_add(record.count),
            protocol: record.protocol,
            name: record.name.clone(),
            address: record.address,
            port: record.port,
            reason,
            detail: detail.to_owned(),
            remedy: remedy.cloned(),
        });
    }
}

/// Takes out what makes the verdicts of one kind differ, so that the overflow is a handful of records.
fn shorten(verdict: &mut Verdict) {
    match verdict {
        Verdict::Allowed { rule, trouble } => {
            *rule = "(several)".into();
            *trouble = None;
        }
        Verdict::Refused { detail, remedy, .. } => {
            *detail = "more refusals than can be listed".into();
            *remedy = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str) -> Record {
        let verdict = Verdict::Refused { reason: Reason::Name, detail: format!("no {name}"), remedy: None };
        let name = Some(name.to_owned());
        let (sent, received, duration) = (1, 2, 3);
        Record {
            protocol: Protocol::Dns,
            name,
            address: None,
            port: 53,
            sent,
            received,
            duration,
            count: 1,
            verdict,
        }
    }

    #[test]
    fn what_repeats_is_counted_and_not_listed() {
        let ledger = Ledger::default();
        for _ in 0..1000 {
            ledger.enter(refused("evil.test"));
        }
        let taken = ledger.take();
        let [FromEgress::Connection(record)] = taken.as_slice() else { panic!("{taken:?}") };
        assert_eq!((record.count, record.sent, record.received), (1000, 1000, 2000));
        assert_eq!(ledger.take(), []);
        ledger.enter(refused("evil.test"));
        assert_eq!(ledger.recent().len(), 1);
        assert_eq!(ledger.recent()[0].count, 1001);
    }

    #[test]
    fn different_requests_to_one_name_are_different_refusals() {
        let ledger = Ledger::default();
        for detail in ["DELETE /v1/x", "GET /admin", "GET /admin"] {
            let mut record = refused("raven.internal");
            record.verdict =
                Verdict::Refused { reason: Reason::Request, detail: detail.into(), remedy: None };
            ledger.enter(record);
        }
        let read: Vec<_> = ledger.recent().into_iter().map(|one| (one.detail, one.count)).collect();
        assert_eq!(read, [("DELETE /v1/x".to_owned(), 1), ("GET /admin".to_owned(), 2)]);
    }

    #[test]
    fn a_flood_of_different_refusals_stays_bounded_and_loses_no_count() {
        let ledger = Ledger::default();
        for n in 0..5000 {
            ledger.enter(refused(&format!("x{n}.evil.test")));
        }
        let taken = ledger.take();
        assert!(taken.len() <= MOST_PENDING + 1, "{}", taken.len());
        let counts = taken.iter().map(|message| match message {
            FromEgress::Connection(record) => record.count,
            other => panic!("{other:?}"),
        });
        assert_eq!(counts.sum::<u32>(), 5000);
        assert_eq!(ledger.recent().len(), MOST_RECENT);
    }
}
