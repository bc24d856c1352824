//! What the usage log comes to: how far each agent is recorded, and what each tenant has used by day.
//!
//! Nothing but a sum over the log: a snapshot of it, and the records behind that, make it anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::usage::{Amounts, Kind, Record};

/// Days that are kept: a month, and what a month's end needs.
const DAYS: usize = 40;

/// The sums.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ledger {
    /// The last record that is in it.
    pub(crate) through: u64,
    /// By agent.
    pub(crate) marks: BTreeMap<String, Mark>,
    /// By tenant and day (`2026-11-26`, UTC).
    pub(crate) tenants: BTreeMap<String, BTreeMap<String, Amounts>>,
    /// Of all.
    pub(crate) all: Amounts,
    /// Records by kind: intervals, finals, corrections.
    pub(crate) records: [u64; 3],
}

/// How far an agent's latest incarnation is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mark {
    /// Which.
    pub(crate) incarnation: String,
    /// The number of the last record.
    pub(crate) number: u64,
    /// All that is recorded of it.
    pub(crate) total: Amounts,
    /// What earlier incarnations of this agent have used.
    #[serde(default)]
    pub(crate) earlier: Amounts,
    /// Its end is recorded.
    pub(crate) is_final: bool,
    /// And was counted to the last.
    pub(crate) complete: bool,
}

impl Ledger {
    /// One record more.
    pub(crate) fn apply(&mut self, record: &Record) {
        let Record { subject, time, data, kind, sequence, .. } = record;
        self.through = sequence.parse().unwrap_or(self.through);
        let number = record.id.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let mut earlier = Amounts::default();
        if let Some(old) = self.marks.get(subject).filter(|_| !data.first) {
            earlier = old.earlier.clone();
            if old.incarnation != data.incarnation {
                earlier.add(&old.total, 1);
            }
        }
        let mark = Mark {
            earlier,
            incarnation: data.incarnation.clone(),
            number,
            total: data.total.clone(),
            is_final: *kind != Kind::Interval,
            complete: data.complete,
        };
        self.marks.insert(subject.clone(), mark);
        let days = self.tenants.entry(data.tenant.clone()).or_default();
        let day = time.get(..10).unwrap_or_default().to_owned();
        days.entry(day).or_default().add(&data.delta, 1);
        while days.len() > DAYS {
            days.pop_first();
        }
        self.all.add(&data.delta, 1);
        self.records[*kind as usize] += 1;
    }

    /// What a tenant has used on the days that begin with this (`2026-11-26`, `2026-11`).
    pub(crate) fn used(&self, tenant: &str, days: &str) -> Amounts {
        let mut sum = Amounts::default();
        let all = self.tenants.get(tenant).into_iter().flatten();
        all.filter(|(day, _)| day.starts_with(days)).for_each(|(_, amounts)| sum.add(amounts, 1));
        sum
    }
}
