//! What was used, as a bill can rest on it: `GET /v1/usage`, one CloudEvents 1.0 record a line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One record. `id` together with `source` is unique: whoever gets a record twice counts it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Record {
    /// `1.0`
    pub specversion: String,
    /// `<incarnation>.<number>`
    pub id: String,
    /// `/nodes/<name>`
    pub source: String,
    /// What kind of record it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The agent's id.
    pub subject: String,
    /// When it was measured, ISO 8601.
    pub time: String,
    /// `application/json`
    pub datacontenttype: String,
    /// Its place in the node's usage log, as 16 digits (the CloudEvents extension of this name): `?since=` goes on after it.
    pub sequence: String,
    /// What was used.
    pub data: Usage,
}

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub enum Kind {
    /// It runs, and has used so much since the record before.
    #[serde(rename = "stockade.usage.interval")]
    Interval,
    /// It has ended, and has used so much since the record before.
    #[serde(rename = "stockade.usage.final")]
    Final,
    /// What the final record said was not all, or too much: the difference.
    #[serde(rename = "stockade.usage.correction")]
    Correction,
}

/// What one incarnation of an agent (from one start to its end) has used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Whose agent.
    pub tenant: String,
    /// Who asked for it.
    pub owner: String,
    /// `claude`, `shell` …
    pub agent_type: String,
    /// Which start of it.
    pub incarnation: String,
    /// When that start began, ISO 8601.
    pub since: String,
    /// The first record of this agent: earlier ones with its id are of another, which was removed. Otherwise missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
    /// False: the counters could not be read at the very end, and what came after `time` is missing.
    pub complete: bool,
    /// Amounts that this node's kernel does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncounted: Vec<String>,
    /// The most memory at once, in bytes.
    pub memory_peak: Option<u64>,
    /// Since the record before: the sum of these is what is to be billed. Only a correction can be negative.
    pub delta: Amounts,
    /// Since the start of this incarnation: the sum of all its deltas so far.
    pub total: Amounts,
}

/// Amounts. What this node does not count is 0, and named in `uncounted`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Amounts {
    /// CPU time in microseconds.
    pub cpu_us: i64,
    /// Memory over time, in byte-seconds.
    pub memory_byte_seconds: i64,
    /// What that can have been at the most.
    pub memory_byte_seconds_at_most: i64,
    /// Bytes read from disks.
    pub io_read: i64,
    /// Bytes written to disks.
    pub io_written: i64,
    /// Bytes over the network by where they went: `public`, `private`, `loopback`, `published`, `dns`, `unknown`.
    pub egress: BTreeMap<String, Bytes>,
    /// Milliseconds in all.
    pub wall_ms: i64,
    /// The same by the agent's state; `unobserved`: no daemon was there to see it.
    pub states_ms: BTreeMap<String, i64>,
}

/// Bytes over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Bytes {
    /// From the agent.
    pub sent: i64,
    /// To it.
    pub received: i64,
}

impl Amounts {
    /// Adds others to these, or takes them away (`sign` -1).
    pub fn add(&mut self, other: &Self, sign: i64) {
        let add = |own: &mut i64, other: i64| *own = own.saturating_add(other.saturating_mul(sign));
        add(&mut self.cpu_us, other.cpu_us);
        add(&mut self.memory_byte_seconds, other.memory_byte_seconds);
        add(&mut self.memory_byte_seconds_at_most, other.memory_byte_seconds_at_most);
        add(&mut self.io_read, other.io_read);
        add(&mut self.io_written, other.io_written);
        add(&mut self.wall_ms, other.wall_ms);
        for (class, bytes) in &other.egress {
            let own = self.egress.entry(class.clone()).or_default();
            add(&mut own.sent, bytes.sent);
            add(&mut own.received, bytes.received);
        }
        for (state, ms) in &other.states_ms {
            add(self.states_ms.entry(state.clone()).or_default(), *ms);
        }
        // Nothing that is 0 is named.
        self.egress.retain(|_, bytes| *bytes != Bytes::default());
        self.states_ms.retain(|_, ms| *ms != 0);
    }

    /// What has come on top of `before`.
    pub fn since(&self, before: &Self) -> Self {
        let mut delta = self.clone();
        delta.add(before, -1);
        delta
    }

    /// Bytes sent over the network, wherever to.
    pub fn sent(&self) -> i64 {
        self.egress.values().map(|bytes| bytes.sent).fold(0, i64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deltas_of_all_records_add_up_to_the_last_total() {
        let total = |cpu_us, sent, ready| Amounts {
            cpu_us,
            egress: [("public".to_owned(), Bytes { sent, received: 1 })].into(),
            states_ms: [("ready".to_owned(), ready)].into(),
            ..Amounts::default()
        };
        let totals = [total(5, 7, 9), total(5, 8, 100), total(4, 8, 100)];
        let (mut sum, mut before) = (Amounts::default(), Amounts::default());
        for total in &totals {
            sum.add(&total.since(&before), 1);
            before = total.clone();
        }
        assert_eq!(sum, totals[2]);
        assert_eq!(totals[2].since(&totals[1]), Amounts { cpu_us: -1, ..Amounts::default() });
        assert_eq!(sum.sent(), 8);
    }
}
