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
        if self.now.is_none_or(|(now, _)| now != state) {
            self.now = (!state.is_final()).then(|| (state, Instant::now()));
        }
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

    /// By state, of this incarnation, out of so many milliseconds in all. What nobody saw is `unobserved`. No part is less
    /// than what is recorded of it already.
    pub(crate) fn split(
        &mut self,
        incarnation: &str,
        wall: u64,
        recorded: &BTreeMap<String, i64>,
    ) -> BTreeMap<String, i64> {
        self.settle();
        let whole = i64::try_from(wall).unwrap_or(i64::MAX);
        let mut parts = match &self.before {
            Some((of, before)) if of == incarnation => before.clone(),
            _ => BTreeMap::new(),
        };
        for (state, ms) in &self.spent {
            *parts.entry((*state).to_owned()).or_default() += i64::try_from(*ms).unwrap_or(i64::MAX);
        }
        for (state, ms) in recorded {
            let part = parts.entry(state.clone()).or_default();
            *part = (*part).max(*ms);
        }
        // The daemon begins to count before there is a shim, and was asked after the shim had looked: what is too much is of
        // the state that it is in, or of the others.
        let mut excess = parts.values().sum::<i64>().saturating_sub(whole);
        let now = self.now.map(|(state, _)| state.as_str().to_owned());
        let order: Vec<String> = now.into_iter().chain(parts.keys().cloned()).collect();
        for state in order {
            let least = recorded.get(&state).copied().unwrap_or(0);
            if let Some(part) = parts.get_mut(&state).filter(|_| excess > 0) {
                let less = excess.min((*part - least).max(0));
                *part -= less;
                excess -= less;
            }
        }
        let missing = whole.saturating_sub(parts.values().sum());
        if missing > 0 {
            *parts.entry(UNOBSERVED.to_owned()).or_default() += missing;
        }
        parts.retain(|_, ms| *ms != 0);
        parts
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
            let split = times.split("i", wall, &BTreeMap::new());
            assert_eq!(sum(&split), i64::try_from(wall).expect("small"), "{split:?}");
        }
        assert!(times.split("i", 100_000, &BTreeMap::new())["unobserved"] > 90_000);
    }

    #[test]
    fn no_part_becomes_less_than_was_recorded() {
        let mut times = Times::default();
        let mut recorded = BTreeMap::new();
        for (state, wall) in [(State::Starting, 1), (State::Busy, 4), (State::Ready, 5), (State::Busy, 9)] {
            times.enter(state);
            std::thread::sleep(std::time::Duration::from_millis(3));
            let split = times.split("i", wall, &recorded);
            assert_eq!(sum(&split), i64::try_from(wall).expect("small"));
            for (state, ms) in &recorded {
                assert!(
                    split.get(state).copied().unwrap_or(0) >= *ms,
                    "{state}: {recorded:?}, then {split:?}"
                );
            }
            recorded = split;
        }
    }

    #[test]
    fn a_state_that_is_shown_again_and_again_loses_no_time() {
        let mut times = Times::default();
        let begun = Instant::now();
        while begun.elapsed().as_millis() < 20 {
            times.enter(State::Ready);
        }
        let wall = u64::try_from(begun.elapsed().as_millis()).expect("short");
        let unobserved = times.split("i", wall, &BTreeMap::new()).get(UNOBSERVED).copied();
        assert!(unobserved.unwrap_or(0) <= 1, "{unobserved:?}");
    }

    #[test]
    fn what_an_earlier_daemon_has_seen_counts_for_that_incarnation_only() {
        let mut times = Times::default();
        let before: BTreeMap<String, i64> = [("busy".to_owned(), 40), ("unobserved".to_owned(), 2)].into();
        times.resume("i".into(), before.clone());
        let split = times.split("i", 100, &before);
        assert_eq!(split, [("busy".to_owned(), 40), ("unobserved".to_owned(), 60)].into());
        assert_eq!(times.split("j", 100, &BTreeMap::new()), [("unobserved".to_owned(), 100)].into());
        times.renew();
        assert_eq!(times.split("i", 100, &BTreeMap::new()), [("unobserved".to_owned(), 100)].into());
    }
}
