//! What may be used before somebody is warned, and then stopped.

use std::time::Duration;

use crate::api::usage::Amounts;

/// Amounts that may be used. What is not given is not limited.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// CPU time.
    pub cpu: Option<Duration>,
    /// Memory over time, in byte-seconds.
    pub memory: Option<u64>,
    /// Bytes sent over the network.
    pub egress: Option<u64>,
    /// Time in which an agent ran.
    pub wall: Option<Duration>,
    /// At this part of it somebody is warned, between 0 and 1.
    pub warn: f64,
    /// After which it is new; none: never.
    pub per: Option<Period>,
}

/// When a tenant's budget is new (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    /// At midnight.
    Day,
    /// On the first of the month.
    Month,
}

/// Where a budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    /// `cpu-seconds`, `memory-byte-seconds`, `egress-bytes`, `wall-seconds`.
    pub(crate) what: &'static str,
    /// So much.
    pub(crate) used: u64,
    /// Of so much.
    pub(crate) limit: u64,
    /// Whether somebody is to be warned, or it is used up.
    pub(crate) level: Level,
}

/// How far a budget is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    /// There is enough.
    Fine,
    /// There is little left.
    Warn,
    /// There is none left.
    Over,
}

impl Spent {
    /// What is to be told: of one that was used up between two looks, that it was nearly used up, too.
    pub(crate) fn steps(self) -> impl Iterator<Item = Self> {
        let warned = (self.level == Level::Over).then_some(Self { level: Level::Warn, ..self });
        warned.into_iter().chain([self])
    }
}

impl Budget {
    /// Where each part of it stands.
    pub(crate) fn spent(&self, used: &Amounts) -> Vec<Spent> {
        let whole = |number: i64| u64::try_from(number).unwrap_or(0);
        let parts = [
            ("cpu-seconds", whole(used.cpu_us) / 1_000_000, self.cpu.map(|cpu| cpu.as_secs())),
            ("memory-byte-seconds", whole(used.memory_byte_seconds), self.memory),
            ("egress-bytes", whole(used.sent()), self.egress),
            ("wall-seconds", whole(used.wall_ms) / 1000, self.wall.map(|wall| wall.as_secs())),
        ];
        let spent = |(what, used, limit): (&'static str, u64, Option<u64>)| {
            let limit = limit?;
            let level = match used {
                used if used >= limit => Level::Over,
                used if used as f64 >= limit as f64 * self.warn => Level::Warn,
                _ => Level::Fine,
            };
            Some(Spent { what, used, limit, level })
        };
        parts.into_iter().filter_map(spent).collect()
    }
}

impl Period {
    /// What its days begin with, of a day as ISO 8601 writes it.
    pub(crate) fn of(self, day: &str) -> &str {
        let length = match self {
            Self::Day => 10,
            Self::Month => 7,
        };
        day.get(..length).unwrap_or(day)
    }

    /// From now (ISO 8601, UTC) to its end.
    pub(crate) fn left(self, now: &str) -> Duration {
        let Ok(now) = now.parse::<jiff::Timestamp>() else { return Duration::from_secs(60) };
        let now = now.to_zoned(jiff::tz::TimeZone::UTC);
        let next = match self {
            Self::Day => now.tomorrow().and_then(|day| day.start_of_day()),
            Self::Month => now.first_of_month().and_then(|first| {
                first.checked_add(jiff::Span::new().months(1)).and_then(|first| first.start_of_day())
            }),
        };
        let left = next.map(|next| Duration::try_from(now.duration_until(&next)).unwrap_or_default());
        left.unwrap_or(Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_warns_before_it_is_used_up() {
        let cpu = Some(Duration::from_secs(10));
        let budget = Budget { cpu, memory: None, egress: None, wall: None, warn: 0.8, per: None };
        let level = |seconds: i64| {
            let used = Amounts { cpu_us: seconds * 1_000_000, ..Amounts::default() };
            let spent = budget.spent(&used);
            assert_eq!((spent.len(), spent[0].what, spent[0].limit), (1, "cpu-seconds", 10));
            spent[0].level
        };
        assert_eq!(
            [0, 7, 8, 9, 10, 99].map(level),
            [Level::Fine, Level::Fine, Level::Warn, Level::Warn, Level::Over, Level::Over]
        );
    }

    #[test]
    fn what_is_used_up_between_two_looks_warns_all_the_same() {
        let levels = |level| {
            let spent = Spent { what: "cpu-seconds", used: 3, limit: 2, level };
            spent.steps().map(|spent| spent.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(Level::Over), [Level::Warn, Level::Over]);
        assert_eq!((levels(Level::Warn), levels(Level::Fine)), (vec![Level::Warn], vec![Level::Fine]));
    }

    #[test]
    fn a_period_ends_at_midnight_or_with_its_month() {
        let now = "2026-11-30T23:59:00.000Z";
        assert_eq!(Period::Day.left(now), Duration::from_secs(60));
        assert_eq!(Period::Month.left(now), Duration::from_secs(60));
        assert_eq!(Period::Month.left("2026-11-01T00:00:00Z"), Duration::from_secs(30 * 86_400));
        assert_eq!((Period::Day.of("2026-11-30"), Period::Month.of("2026-11-30")), ("2026-11-30", "2026-11"));
    }
}
