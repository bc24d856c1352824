//! From what a shim measured to a record.

use std::collections::BTreeMap;

use crate::api::usage::{Amounts, Bytes, Kind, Record, Usage};
use crate::daemon::store;
use crate::daemon::supervisor::iso;
use crate::wire::service::Ended;
use crate::wire::service::usage::{Carried, Metered};

/// Whom a record is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The agent's id.
    pub(crate) agent: &'a str,
    /// Whose it is.
    pub(crate) tenant: &'a str,
    /// Who asked for it.
    pub(crate) owner: &'a str,
    /// `claude`, `shell` …
    pub(crate) kind: &'a str,
}

impl<'a> Subject<'a> {
    /// Whom this is kept of.
    pub(crate) fn of(record: &'a store::Record) -> Self {
        Self { agent: &record.id, tenant: &record.tenant, owner: &record.owner, kind: &record.kind }
    }
}

/// The record without its place in the log. `recorded` is what all records before it of this incarnation come to.
pub(super) fn make(
    source: &str,
    subject: &Subject<'_>,
    metered: &Metered,
    kind: Kind,
    number: u64,
    recorded: &Amounts,
    split: BTreeMap<String, i64>,
) -> Record {
    let total = total(metered, split);
    let uncounted = [
        ("cpuUs", metered.cpu_us),
        ("memoryByteSeconds", metered.memory_byte_seconds),
        ("ioRead", metered.io_read),
        ("ioWritten", metered.io_written),
    ];
    let uncounted = uncounted.into_iter().filter(|(_, value)| value.is_none());
    Record {
        specversion: "1.0".into(),
        id: format!("{}.{number}", metered.incarnation),
        source: source.to_owned(),
        kind,
        subject: subject.agent.to_owned(),
        time: iso(metered.at),
        datacontenttype: "application/json".into(),
        sequence: String::new(),
        data: Usage {
            tenant: subject.tenant.to_owned(),
            owner: subject.owner.to_owned(),
            agent_type: subject.kind.to_owned(),
            incarnation: metered.incarnation.clone(),
            since: iso(metered.since),
            first: false,
            complete: kind == Kind::Interval || metered.complete,
            uncounted: uncounted.map(|(name, _)| name.to_owned()).collect(),
            memory_peak: metered.memory_peak,
            delta: total.since(recorded),
            total,
        },
    }
}

/// The absolute amounts.
pub(super) fn total(metered: &Metered, split: BTreeMap<String, i64>) -> Amounts {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let count = |number: Option<u64>| number.map_or(0, whole);
    let carried = |carried: &Carried| Bytes { sent: whole(carried.sent), received: whole(carried.received) };
    let egress = metered.egress.iter().filter(|(_, bytes)| **bytes != Carried::default());
    Amounts {
        cpu_us: count(metered.cpu_us),
        memory_byte_seconds: count(metered.memory_byte_seconds),
        memory_byte_seconds_at_most: count(metered.memory_byte_seconds_at_most),
        io_read: count(metered.io_read),
        io_written: count(metered.io_written),
        egress: egress.map(|(class, bytes)| (class.clone(), carried(bytes))).collect(),
        wall_ms: whole(metered.wall_ms),
        states_ms: split,
    }
}

/// What a shim of an earlier version says of an agent that has ended. An end is found again by when it was.
pub(crate) fn of_an_earlier_shim(agent: &str, started: u64, ended: &Ended) -> Metered {
    let usage = &ended.usage;
    let carried = Carried { sent: usage.sent.unwrap_or(0), received: usage.received.unwrap_or(0) };
    let egress = (carried != Carried::default()).then(|| ("unknown".to_owned(), carried));
    Metered {
        incarnation: format!("{agent}-{}", ended.at),
        since: started,
        at: ended.at,
        wall_ms: ended.at.saturating_sub(started),
        is_final: true,
        cpu_us: usage.cpu_us,
        memory_peak: usage.memory_peak,
        egress: egress.into_iter().collect(),
        ..Metered::default()
    }
}
