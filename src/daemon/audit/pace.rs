//! Starts share a sync where several are on their way: a hundred at once would ask the disk a hundred times.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// So long the intent of a start waits for others, where this many are on their way. They share a node's few processors: the one that
/// waits is not the one that is late.
const TOGETHER: Duration = Duration::from_millis(4);
const SEVERAL: usize = 4;

/// How many starts are on their way. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Arc<AtomicUsize>);

impl Pace {
    /// One more; and how long its intent may wait.
    pub(super) fn start(&self) -> (OnItsWay, Duration) {
        let on_their_way = 1 + self.0.fetch_add(1, Ordering::Relaxed);
        let patience = if on_their_way >= SEVERAL { TOGETHER } else { Duration::ZERO };
        (OnItsWay(self.clone()), patience)
    }
}

/// A start is, for as long as this lives.
#[derive(Debug)]
pub(super) struct OnItsWay(Pace);

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_waits_for_others_only_where_several_starts_are_on_their_way() {
        let pace = Pace::default();
        for _ in 0..10 {
            assert_eq!(pace.start().1, Duration::ZERO, "one after the other");
        }
        let starts: Vec<_> = (0..SEVERAL).map(|_| pace.start()).collect();
        let patience: Vec<_> = starts.iter().map(|start| start.1).collect();
        assert_eq!(patience, [Duration::ZERO, Duration::ZERO, Duration::ZERO, TOGETHER]);
        drop(starts);
        assert_eq!(pace.start().1, Duration::ZERO);
    }
}
