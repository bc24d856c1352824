//! How long an intent may wait for others, to share a sync with them: a hundred starts at once would ask the disk a hundred times.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So long, where they come so close to each other. What is asked for at once is served one after the other on a node's few
/// processors: the one that waits is not the one that is late.
const TOGETHER: Duration = Duration::from_millis(4);

/// When the last two came.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<[Option<Instant>; 2]>);

impl Pace {
    /// For one that comes now. One alone, or the second of two, does not wait.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [before, latest] = *last;
        *last = [latest, Some(now)];
        match before {
            Some(before) if now.duration_since(before) < TOGETHER => TOGETHER,
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_waits_for_others_only_where_they_come_close_to_each_other() {
        let (pace, begin) = (Pace::default(), Instant::now());
        let after = |micros: u64| pace.patience(begin + Duration::from_micros(micros));
        assert_eq!([after(0), after(100)], [Duration::ZERO; 2]);
        assert_eq!([after(1000), after(4000)], [TOGETHER; 2]);
        assert_eq!([after(9000), after(12_000), after(15_000), after(18_000)], [Duration::ZERO; 4]);
    }
}
