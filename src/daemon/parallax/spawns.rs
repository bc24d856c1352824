//! Which executions ask for threads: as long as one does, Parallax must not hear of a login.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::store::Record;

/// As long as anybody asks when the last one was.
const KEPT: Duration = Duration::from_secs(60);

/// The starts of threads, by tenant and execution: what one tenant calls an execution is nothing to another. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spawns(Arc<Mutex<HashMap<Key, Starts>>>);

type Key = (String, String);

#[derive(Debug)]
struct Starts {
    under_way: usize,
    last: Instant,
}

/// A thread is being started, for as long as this lives.
#[derive(Debug)]
pub(crate) struct UnderWay {
    spawns: Spawns,
    key: Key,
}

impl Spawns {
    /// This thread was asked for just now.
    pub(crate) fn begin(&self, record: &Record) -> UnderWay {
        let now = Instant::now();
        let mut all = self.lock();
        all.retain(|_, starts| starts.under_way > 0 || now.duration_since(starts.last) < KEPT);
        let starts = all.entry(key(record)).or_insert(Starts { under_way: 0, last: now });
        starts.under_way += 1;
        drop(all);
        UnderWay { spawns: self.clone(), key: key(record) }
    }

    /// When the last start of a thread of this one's execution came to something, if that was not long ago; now, if one is under
    /// way.
    pub(crate) fn last(&self, record: &Record) -> Option<Instant> {
        let all = self.lock();
        let starts = all.get(&key(record))?;
        Some(if starts.under_way > 0 { Instant::now() } else { starts.last })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Starts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(starts) = self.spawns.lock().get_mut(&self.key) {
            starts.under_way -= 1;
            starts.last = Instant::now();
        }
    }
}

fn key(record: &Record) -> Key {
    (record.tenant.clone(), record.execution_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::parallax::store::tests::record;

    #[test]
    fn an_execution_spawns_from_when_a_thread_is_asked_for_until_its_start_came_to_something() {
        let (spawns, thread) = (Spawns::default(), record("a"));
        assert_eq!(spawns.last(&thread), None);
        let (one, two) = (spawns.begin(&thread), spawns.begin(&record("b")));
        let asked = Instant::now();
        assert!(spawns.last(&thread) >= Some(asked), "it goes on");
        drop(one);
        let left = Instant::now();
        assert!(spawns.last(&thread) >= Some(left), "the other goes on");
        drop(two);
        let ended = spawns.last(&thread);
        assert!(ended >= Some(left) && ended <= Some(Instant::now()));
        assert_eq!(spawns.last(&thread), ended, "it does not move any more");
    }

    #[test]
    fn what_another_tenant_calls_an_execution_holds_nobody_back() {
        let (spawns, thread) = (Spawns::default(), record("a"));
        let _theirs = spawns.begin(&Record { tenant: "other".into(), ..record("a") });
        assert_eq!(spawns.last(&thread), None);
    }
}
