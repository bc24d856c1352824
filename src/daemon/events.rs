//! What happened, in order: a bounded ring with cursors that survive a restart of the daemon.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use tracing::warn;

use crate::api::events::{Event, Gap, Happened};
use crate::daemon::store::Store;
use crate::id::Tenant;

/// How many events are kept.
const KEPT: usize = 4096;

/// How many numbers are taken from the disk at once: a restart leaves the rest of them out.
const BLOCK: u64 = 1024;

/// The events of this node. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    ring: Arc<Mutex<Ring>>,
    told: broadcast::Sender<Arc<Event>>,
    store: Store,
}

struct Ring {
    /// The next number.
    next: u64,
    /// The first number that is not taken yet.
    taken: u64,
    /// Shared with everybody who reads: one may be large, and readers slow.
    kept: VecDeque<Arc<Event>>,
}

impl Events {
    /// Goes on behind the last number that any daemon of this node has used.
    pub(crate) fn open(store: Store) -> std::io::Result<Self> {
        let next = store.take_event_numbers(BLOCK)?;
        let ring = Ring { next, taken: next + BLOCK, kept: VecDeque::new() };
        let (told, _) = broadcast::channel(KEPT);
        Ok(Self { ring: Arc::new(Mutex::new(ring)), told, store })
    }

    /// Adds one, and tells everybody who follows.
    pub fn publish(&self, tenant: &Tenant, agent: Option<&str>, happened: Happened) {
        self.publish_for(tenant.as_str(), agent, happened);
    }

    /// The same; the tenant of what concerns the node itself is empty.
    pub(crate) fn publish_for(&self, tenant: &str, agent: Option<&str>, happened: Happened) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.next == ring.taken {
            match self.store.take_event_numbers(BLOCK) {
                Ok(first) => (ring.next, ring.taken) = (first, first + BLOCK),
                // They are used nevertheless: better a number that comes twice after a crash than an event that does not.
                Err(error) => {
                    warn!(%error, "event numbers cannot be taken from the disk");
                    ring.taken += BLOCK;
                }
            }
        }
        let event = Arc::new(Event {
            cursor: ring.next,
            at: crate::daemon::supervisor::iso_now(),
            tenant: tenant.to_owned(),
            agent: agent.map(str::to_owned),
            happened,
        });
        ring.next += 1;
        ring.kept.push_back(event.clone());
        if ring.kept.len() > KEPT {
            ring.kept.pop_front();
        }
        // Under the lock, so that whoever begins to follow misses none. Nobody may be following.
        let _ = self.told.send(event);
    }

    /// What is kept after `cursor` (0: all that is kept; none: nothing of the past), and whatever comes from then on,
    /// without a hole between. A `Lagged` receiver has missed something. What is missing between `cursor` and what is
    /// kept is said by a `Gap`, which belongs to no tenant, as everything that concerns the node itself.
    pub fn follow(&self, cursor: Option<u64>) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.told.subscribe();
        let Some(cursor) = cursor else { return (Vec::new(), receiver) };
        let oldest = ring.kept.front().map_or(ring.next, |event| event.cursor);
        let mut events: Vec<Arc<Event>> =
            ring.kept.iter().filter(|event| event.cursor > cursor).cloned().collect();
        // Numbers between the last one of a daemon and the first one of the next belong to nothing, but nobody knows
        // any more which was the last.
        if cursor != 0 && cursor.saturating_add(1) < oldest {
            let gap = Gap { from: cursor + 1, to: oldest };
            let event = Arc::new(Event {
                cursor: oldest - 1,
                at: crate::daemon::supervisor::iso_now(),
                tenant: String::new(),
                agent: None,
                happened: Happened::Gap(gap),
            });
            events.insert(0, event);
        }
        (events, receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &std::path::Path) -> Events {
        Events::open(Store::open(directory.join("daemon")).expect("opened")).expect("opened")
    }

    fn cursors(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|event| event.cursor).collect()
    }

    #[tokio::test]
    async fn whoever_follows_gets_the_past_and_the_future_without_a_hole_between() {
        let directory = tempfile::tempdir().expect("a directory");
        let events = open(directory.path());
        let tenant = "research".parse().expect("a name");
        events.publish(&tenant, Some("a"), Happened::AgentRemoved);
        events.publish(&tenant, Some("b"), Happened::AgentRemoved);
        let (past, mut future) = events.follow(Some(1));
        events.publish(&tenant, Some("c"), Happened::AgentRemoved);
        assert_eq!(cursors(&past), [2]);
        assert_eq!(future.recv().await.expect("told").cursor, 3);
        assert_eq!(cursors(&events.follow(None).0), Vec::<u64>::new());
        assert_eq!(cursors(&events.follow(Some(0)).0), [1, 2, 3]);
    }

    #[test]
    fn cursors_grow_over_a_restart_and_what_was_missed_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let tenant = "research".parse().expect("a name");
        let last = {
            let events = open(directory.path());
            events.publish(&tenant, None, Happened::Draining);
            events.follow(Some(0)).0[0].cursor
        };
        let events = open(directory.path());
        events.publish(&tenant, None, Happened::Draining);
        let (past, _) = events.follow(Some(last));
        let Happened::Gap(gap) = &past[0].happened else { panic!("{past:?}") };
        assert_eq!((gap.from, gap.to), (last + 1, past[1].cursor));
        assert!(past[1].cursor > last);
        // After the gap there is none.
        assert_eq!(events.follow(Some(past[0].cursor)).0.len(), 1);
    }

    #[test]
    fn a_cursor_that_no_event_has_is_answered_with_what_is_newer_and_that_is_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let events = open(directory.path());
        events.publish_for("", None, Happened::AgentRemoved);
        assert_eq!(cursors(&events.follow(Some(u64::MAX)).0), Vec::<u64>::new());
    }

    #[test]
    fn what_fell_out_of_the_ring_is_a_gap() {
        let directory = tempfile::tempdir().expect("a directory");
        let events = open(directory.path());
        (0..KEPT + 10).for_each(|_| events.publish_for("", None, Happened::AgentRemoved));
        let (past, _) = events.follow(Some(3));
        assert_eq!(past[0].happened, Happened::Gap(Gap { from: 4, to: 11 }));
        assert_eq!(past.len(), KEPT + 1);
        assert_eq!(cursors(&events.follow(Some(10)).0)[0], 11);
    }
}
