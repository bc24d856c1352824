//! How often somebody may start agents.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Starts within it are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// So many are counted by name; who has started nothing for a minute is forgotten before.
const MOST: usize = 10_000;

/// The starts of the last minute, by who started them.
#[derive(Debug, Default)]
pub(crate) struct Starts(HashMap<String, VecDeque<Instant>>);

impl Starts {
    /// Whether there may be one more now; if not, when there may.
    pub(crate) fn check(&mut self, whose: &str, most: u32, now: Instant) -> Result<(), Duration> {
        let Some(starts) = self.0.get_mut(whose) else { return Ok(()) };
        while starts.front().is_some_and(|start| now.duration_since(*start) >= MINUTE) {
            starts.pop_front();
        }
        // The one that has to be over before another may come.
        let over = starts.len().checked_sub(most as usize).and_then(|at| starts.get(at));
        over.map_or(Ok(()), |start| Err(MINUTE.saturating_sub(now.duration_since(*start))))
    }

    /// There was one.
    pub(crate) fn add(&mut self, whose: &str, now: Instant) {
        if self.0.len() >= MOST && !self.0.contains_key(whose) {
            self.0.retain(|_, starts| starts.back().is_some_and(|start| now.duration_since(*start) < MINUTE));
        }
        self.0.entry(whose.to_owned()).or_default().push_back(now);
    }

    /// How many there were within the last minute.
    pub(crate) fn count(&self, whose: &str, now: Instant) -> usize {
        let starts = self.0.get(whose).into_iter().flatten();
        starts.filter(|start| now.duration_since(**start) < MINUTE).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_any_minute_there_are_no_more_starts_than_may_be() {
        let (mut starts, begun) = (Starts::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        for second in [0, 10] {
            assert_eq!(starts.check("t", 2, at(second)), Ok(()));
            starts.add("t", at(second));
        }
        assert_eq!(starts.check("t", 2, at(20)), Err(Duration::from_secs(40)));
        assert_eq!(starts.check("u", 2, at(20)), Ok(()), "others have theirs");
        assert_eq!(starts.check("t", 2, at(60)), Ok(()));
        starts.add("t", at(60));
        assert_eq!(starts.check("t", 2, at(60)), Err(Duration::from_secs(10)));
        assert_eq!((starts.count("t", at(60)), starts.count("t", at(130))), (2, 0));
    }
}
