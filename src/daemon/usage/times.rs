//! How long an agent was in which state, as far as a daemon saw it.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::api::State;

/// Of one agent, since its last start.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// In milliseconds.
    spent: BTreeMap<&'static str, u64>,
    now: Option<(State, Instant)>,
    /// What an earlier daemon has recorded of this incarnation.
    before: Option<(String, BTreeMap<String, i64>)>,
}

impl Times {
    /// It is in this state now.
    pub(crate) fn enter(&mut self, state: State) {
        self.settle();
        self.now = (!state.is_final()).then(|| (state, Instant::now()));
    }

    /// It is started anew.
    pub(crate) fn renew(&mut self) {
        let now = self.now.map(|(state, _)| (state, Instant::now()));
        *self = Self { now, ..Self::default() };
    }

    /// It was there before this daemon; so much of it was recorded.
    pub(crate) fn resume(&mut self, incarnation: String, recorded: BTreeMap<String, i64>) {
        self.before = Some((incarnation, recorded));
    }

    /// By state, of this incarnation, out of so many milliseconds in all. What nobody saw is `unobserved`.
    pub(crate) fn split(&mut self, incarnation: &str, wall: u64) -> BTreeMap<String, i64> {
        self.settle();
        let whole = i64::try_from(wall).unwrap_or(i64::MAX);
        let mut split = match &self.before {
            Some((of, recorded)) if of == incarnation => recorded.clone(),
            _ => BTreeMap::new(),
        };
        split.remove(UNOBSERVED);
        for (state, ms) in &self.spent {
            *split.entry((*state).to_owned()).or_default() += i64::try_from(*ms).unwrap_or(i64::MAX);
        }
        let observed: i64 = split.values().sum();
        // The daemon begins to count before there is a shim, and ends a moment after it: that is nobody's time.
        let mut excess = observed.saturating_sub(whole);
        for state in ["starting", "stopping", "ready", "unknown", "busy", "blocked", "login-required"] {
            if let Some(ms) = split.get_mut(state).filter(|_| excess > 0) {
                let less = excess.min(*ms);
                *ms -= less;
                excess -= less;
            }
        }
        if observed < whole {
            split.insert(UNOBSERVED.to_owned(), whole - observed);
        }
        split.retain(|_, ms| *ms != 0);
        split
    }

    fn settle(&mut self) {
        if let Some((state, since)) = &mut self.now {
            let now = Instant::now();
            let ms = u64::try_from((now - *since).as_millis()).unwrap_or(u64::MAX);
            *self.spent.entry(state.as_str()).or_default() += ms;
            // What is less than a millisecond is not lost.
            *since += std::time::Duration::from_millis(ms);
        }
    }
}

/// No daemon was there.
const UNOBSERVED: &str = "unobserved";

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(split: &BTreeMap<String, i64>) -> i64 {
        split.values().sum()
    }

    #[test]
    fn the_parts_are_the_whole_whatever_was_seen() {
        let mut times = Times::default();
        times.enter(State::Starting);
        std::thread::sleep(std::time::Duration::from_millis(5));
        times.enter(State::Ready);
        for wall in [0, 1, 3, 7, 100_000] {
            let split = times.split("i", wall);
            assert_eq!(sum(&split), i64::try_from(wall).expect("small"), "{split:?}");
        }
        assert!(times.split("i", 100_000)["unobserved"] > 90_000);
    }

    #[test]
    fn what_an_earlier_daemon_has_seen_counts_for_that_incarnation_only() {
        let mut times = Times::default();
        times.resume("i".into(), [("busy".to_owned(), 40), ("unobserved".to_owned(), 2)].into());
        assert_eq!(times.split("i", 100), [("busy".to_owned(), 40), ("unobserved".to_owned(), 60)].into());
        assert_eq!(times.split("j", 100), [("unobserved".to_owned(), 100)].into());
        times.renew();
        assert_eq!(times.split("i", 100), [("unobserved".to_owned(), 100)].into());
    }
}
