//! Who was talked to, how much, and what was refused: what a gateway says, counted within bounds.
//!
//! A gateway reads what hosts on the network send, and may speak for them by now. So texts come cleaned from
//! [`crate::wire::egress`], and no more than [`MOST`] kinds of anything are kept.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::shim::denials::{Denial, Refused};
use crate::wire::egress::{Protocol, Reason, Record, Verdict};
use crate::wire::service::shim as service;
use crate::wire::tally::Classes;

/// Most kinds of connections, and of refusals, that are kept apart.
const MOST: usize = 512;
/// Most reasons why something is missing.
const MOST_REASONS: usize = 8;

/// What one agent did over the network. A part of the report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Connections that were let through; those with the same ends, rule and outcome together.
    pub connections: Vec<Connection>,
    /// How many there were, those of kinds beyond the bound included.
    pub count: u64,
    /// From the agent, in bytes.
    pub sent: u64,
    /// To the agent, in bytes.
    pub received: u64,
    /// Bytes by where they went; none: nobody can say.
    #[serde(skip)]
    pub classes: Option<Classes>,
    /// How often a gateway ended and was replaced.
    pub restarts: u32,
    /// Why something may be missing in all this, each reason once; absent if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

/// Connections of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// What kind it is, and between whom.
    #[serde(flatten)]
    pub kind: Kind,
    /// How many.
    pub count: u64,
    /// From the agent, in bytes.
    pub sent: u64,
    /// To the agent, in bytes.
    pub received: u64,
    /// Together, in milliseconds.
    pub duration_millis: u64,
}

/// What makes connections the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// `tcp`, `http`, `published`, `dns`.
    pub protocol: Protocol,
    /// The name that the agent asked for, where it asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The real address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The entry of the policy that allows it.
    pub rule: String,
    /// What ended it before its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Attempt {
    protocol: Protocol,
    name: Option<String>,
    address: Option<IpAddr>,
    port: u16,
    reason: Reason,
    /// Where attempts at one place differ in it.
    detail: Option<String>,
}

#[derive(Debug)]
struct Attempts {
    count: u64,
    detail: String,
    remedy: Option<String>,
}

/// Collects it while the agent runs.
#[derive(Debug, Default)]
pub struct Account {
    traffic: Traffic,
    connections: BTreeMap<Kind, Connection>,
    refused: BTreeMap<Attempt, Attempts>,
    /// The first of each kind, that nobody has asked for yet.
    fresh: Vec<service::Verdict>,
    missing: Vec<String>,
}

impl Account {
    /// Adds one record.
    pub fn add(&mut self, record: Record) {
        let Record { protocol, name, address, port, sent, received, duration, count, verdict } = record;
        match verdict {
            Verdict::Allowed { rule, trouble } => {
                let kind = Kind { protocol, name, address, port, rule, trouble };
                self.carried(kind, count.into(), sent, received, duration);
            }
            Verdict::Refused { reason, detail, remedy } => {
                let differs = reason.differs_in_detail().then(|| detail.clone());
                let attempt = Attempt { protocol, name, address, port, reason, detail: differs };
                let is_full = self.refused.len() >= MOST && !self.refused.contains_key(&attempt);
                if is_full {
                    return self.miss(format!("more than {MOST} kinds of refused attempts"));
                }
                if !self.refused.contains_key(&attempt) {
                    let Attempt { name, address, port, reason, .. } = &attempt;
                    self.fresh.push(first(name.as_deref(), *address, *port, Err(*reason)));
                }
                let attempts = self.refused.entry(attempt).or_insert(Attempts { count: 0, detail, remedy });
                attempts.count = attempts.count.saturating_add(count.max(1).into());
            }
        }
    }

    fn carried(&mut self, kind: Kind, count: u64, sent: u64, received: u64, duration: u64) {
        let add = |sum: &mut u64, part: u64| *sum = sum.saturating_add(part);
        add(&mut self.traffic.count, count);
        add(&mut self.traffic.sent, sent);
        add(&mut self.traffic.received, received);
        if self.connections.len() >= MOST && !self.connections.contains_key(&kind) {
            return self.miss(format!("more than {MOST} kinds of connections"));
        }
        if !self.connections.contains_key(&kind) {
            self.fresh.push(first(kind.name.as_deref(), kind.address, kind.port, Ok(&kind.rule)));
        }
        let none = Connection { kind: kind.clone(), count: 0, sent: 0, received: 0, duration_millis: 0 };
        let connection = self.connections.entry(kind).or_insert(none);
        add(&mut connection.count, count);
        add(&mut connection.sent, sent);
        add(&mut connection.received, received);
        add(&mut connection.duration_millis, duration);
    }

    /// A gateway ended and was replaced; what it had not told yet is lost.
    pub fn restarted(&mut self, how: &str) {
        self.traffic.restarts += 1;
        self.miss(format!("a gateway ended ({how})"));
    }

    /// Something may be missing. Each reason is told once, and so many of them.
    pub fn miss(&mut self, why: String) {
        if self.missing.len() < MOST_REASONS && !self.missing.contains(&why) {
            self.missing.push(why);
        }
    }

    /// What happened for the first time since this was asked.
    pub fn fresh(&mut self) -> impl Iterator<Item = service::Verdict> {
        self.fresh.drain(..)
    }

    /// Bytes from the agent, and to it, and how often it was refused something, so far.
    pub fn so_far(&self) -> (u64, u64, u64) {
        let refused = self.refused.values().map(|attempts| attempts.count).fold(0, u64::saturating_add);
        (self.traffic.sent, self.traffic.received, refused)
    }

    /// All of it.
    pub fn close(self) -> (Traffic, Vec<Denial>) {
        let incomplete = (!self.missing.is_empty()).then(|| self.missing.join("; "));
        let connections = self.connections.into_values().collect();
        let traffic = Traffic { connections, incomplete, ..self.traffic };
        let denial = |(attempt, attempts): (Attempt, Attempts)| {
            let Attempt { protocol, name, address, port, reason, detail: _ } = attempt;
            Denial {
                refused: Refused::Egress { protocol, name, address, port, reason },
                count: attempts.count,
                cause: attempts.detail,
                remedy: attempts.remedy,
            }
        };
        (traffic, self.refused.into_iter().map(denial).collect())
    }
}

fn first(
    name: Option<&str>,
    address: Option<IpAddr>,
    port: u16,
    why: Result<&String, Reason>,
) -> service::Verdict {
    let of_address = || address.map(|address| address.to_string()).unwrap_or_default();
    service::Verdict {
        wall: "egress".into(),
        allowed: why.is_ok(),
        what: name.map_or_else(of_address, str::to_owned),
        port: Some(port),
        why: Some(why.map_or_else(|reason| reason.name().to_owned(), String::clone)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, verdict: Verdict) -> Record {
        Record {
            protocol: Protocol::Tcp,
            name: Some(name.into()),
            address: None,
            port: 443,
            sent: 10,
            received: u64::MAX / 2,
            duration: 5,
            count: 1,
            verdict,
        }
    }

    fn allowed() -> Verdict {
        Verdict::Allowed { rule: "a.org:443".into(), trouble: None }
    }

    fn refused() -> Verdict {
        Verdict::Refused { reason: Reason::Name, detail: "no rule".into(), remedy: Some("x".into()) }
    }

    #[test]
    fn connections_of_one_kind_are_one_entry_with_their_sums() {
        let mut account = Account::default();
        (0..3).for_each(|_| account.add(record("a.org", allowed())));
        account.add(record("b.org", refused()));
        account.add(record("b.org", refused()));
        let (traffic, denials) = account.close();
        assert_eq!((traffic.connections.len(), traffic.count, traffic.sent), (1, 3, 30));
        assert_eq!(traffic.received, u64::MAX, "no sum overflows");
        assert_eq!((denials.len(), denials[0].count), (1, 2));
        assert_eq!(traffic.incomplete, None);
    }

    #[test]
    fn every_reason_why_something_is_missing_is_told_once() {
        let mut account = Account::default();
        account.restarted("signal 9");
        account.restarted("signal 9");
        account.miss("no gateway was left".into());
        (0..1000).for_each(|n| account.miss(n.to_string()));
        let missing = account.close().0.incomplete.expect("reasons");
        assert!(missing.starts_with("a gateway ended (signal 9); no gateway was left; 0; 1; "), "{missing}");
        assert!(missing.ends_with("; 5"), "{missing}");
    }

    #[test]
    fn different_requests_to_one_name_are_different_denials() {
        let mut account = Account::default();
        for detail in ["DELETE /v1/x", "GET /admin", "GET /admin"] {
            let (reason, detail) = (Reason::Request, detail.to_owned());
            account.add(record("raven.internal", Verdict::Refused { reason, detail, remedy: None }));
        }
        let (_, denials) = account.close();
        let read: Vec<_> = denials.iter().map(|denial| (denial.cause.as_str(), denial.count)).collect();
        assert_eq!(read, [("DELETE /v1/x", 1), ("GET /admin", 2)]);
    }

    #[test]
    fn a_gateway_that_tells_without_end_fills_nothing() {
        let mut account = Account::default();
        for n in 0..MOST + 100 {
            account.add(record(&format!("{n}.org"), allowed()));
            account.add(record(&format!("{n}.org"), refused()));
        }
        let (traffic, denials) = account.close();
        assert_eq!((traffic.connections.len(), denials.len()), (MOST, MOST));
        assert_eq!(traffic.count, MOST as u64 + 100, "the sums go on");
        assert!(traffic.incomplete.is_some());
    }
}
