//! What the usage log comes to: how far each agent is recorded, and what each tenant has used by day.
//!
//! Nothing but a sum over the log: a snapshot of it, and the records behind that, make it anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::usage::{Amounts, Kind, Record};

/// Days that are kept: a month, and what a month's end needs.
const DAYS: i64 = 40;

/// Days for which it is kept who has sent how much.
const FEW: i64 = 2;

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
    /// Bytes that the agents of an identity have sent, by day: a few days, for their quotas.
    pub(crate) sent: BTreeMap<String, BTreeMap<String, i64>>,
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
        let day = time.get(..10).unwrap_or_default();
        let days = self.tenants.entry(data.tenant.clone()).or_default();
        let is_new = !days.contains_key(day);
        days.entry(day.to_owned()).or_default().add(&data.delta, 1);
        if data.delta.sent() != 0 {
            let of_day = self.sent.entry(day.to_owned()).or_default();
            *of_day.entry(data.owner.clone()).or_default() += data.delta.sent();
        }
        if is_new {
            self.forget_before(day);
        }
        self.all.add(&data.delta, 1);
        self.records[*kind as usize] += 1;
    }

    /// Forgets what nobody asks for any more on this day, tenants that are no more included. A clock that was set back takes
    /// nothing away.
    fn forget_before(&mut self, day: &str) {
        let Ok(day) = day.parse::<jiff::civil::Date>() else { return };
        let before = |days: i64| day.saturating_sub(jiff::Span::new().days(days)).to_string();
        let (oldest, few) = (before(DAYS), before(FEW));
        self.sent.retain(|day, _| *day >= few);
        self.tenants.retain(|_, days| {
            days.retain(|day, _| *day >= oldest);
            !days.is_empty()
        });
    }

    /// Bytes that the agents of an identity have sent on a day.
    pub(crate) fn sent(&self, identity: &str, day: &str) -> i64 {
        self.sent.get(day).and_then(|of_day| of_day.get(identity)).copied().unwrap_or(0)
    }

    /// What a tenant has used on the days that begin with this (`2026-11-26`, `2026-11`).
    pub(crate) fn used(&self, tenant: &str, days: &str) -> Amounts {
        let mut sum = Amounts::default();
        let all = self.tenants.get(tenant).into_iter().flatten();
        all.filter(|(day, _)| day.starts_with(days)).for_each(|(_, amounts)| sum.add(amounts, 1));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::usage::{Bytes, Usage};

    fn record(tenant: &str, owner: &str, day: &str, sent: i64) -> Record {
        let carried = Bytes { sent, received: 0 };
        let delta = Amounts { egress: [("public".to_owned(), carried)].into(), ..Amounts::default() };
        let data = Usage {
            tenant: tenant.into(),
            owner: owner.into(),
            agent_type: "shell".into(),
            incarnation: "i".into(),
            since: String::new(),
            first: false,
            complete: true,
            uncounted: Vec::new(),
            memory_peak: None,
            total: delta.clone(),
            delta,
        };
        Record {
            specversion: "1.0".into(),
            id: "i.1".into(),
            source: "/nodes/n".into(),
            kind: Kind::Final,
            subject: "a".into(),
            time: format!("{day}T12:00:00.000Z"),
            datacontenttype: "application/json".into(),
            sequence: "0000000000000001".into(),
            data,
        }
    }

    #[test]
    fn what_an_identity_has_sent_is_known_by_day_whatever_its_tenant() {
        let mut ledger = Ledger::default();
        ledger.apply(&record("t", "me", "2026-11-26", 5));
        ledger.apply(&record("u", "me", "2026-11-26", 6));
        ledger.apply(&record("t", "you", "2026-11-26", 7));
        ledger.apply(&record("t", "me", "2026-11-27", 8));
        assert_eq!([ledger.sent("me", "2026-11-26"), ledger.sent("me", "2026-11-27")], [11, 8]);
        assert_eq!([ledger.sent("you", "2026-11-26"), ledger.sent("you", "2026-11-27")], [7, 0]);
    }

    #[test]
    fn ten_years_of_tenants_that_come_and_go_leave_no_more_than_a_month_of_them() {
        let mut ledger = Ledger::default();
        let first: jiff::civil::Date = "2026-01-01".parse().expect("a day");
        for number in 0..3650 {
            let day = first.saturating_add(jiff::Span::new().days(number)).to_string();
            ledger.apply(&record(&format!("t{number}"), &format!("o{number}"), &day, 1));
        }
        assert!(ledger.tenants.len() <= 41 && ledger.sent.len() <= 3, "{}", ledger.tenants.len());
        // A clock that is set back, and forth again, loses nothing of what is asked for.
        let [day, earlier] = ["2035-12-29", "2035-06-01"];
        ledger.apply(&record("t", "me", day, 5));
        ledger.apply(&record("t", "me", earlier, 6));
        assert_eq!((ledger.used("t", day).sent(), ledger.used("t", earlier).sent()), (5, 6));
        assert_eq!((ledger.sent("me", day), ledger.sent("me", earlier)), (5, 6));
    }
}
