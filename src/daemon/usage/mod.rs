//! What agents have used: taken from what their shims measure, recorded once, for whoever bills.
//!
//! ```text
//!  shim ─▶ usage.json ──every minute──▶ interval ┐
//!       ─▶ exit.json  ──at its end────▶ final    ├─▶ log: appended, synced ─▶ GET /v1/usage
//!                       later, better ─▶ correction┘        └─▶ ledger: sums by tenant and day, for budgets
//! ```
//! Every counter is absolute, and a record says what has come on top since the one before. A daemon that was not there
//! for an hour has nothing to make up for; one that finds an end that was recorded already records nothing.

pub(crate) mod ledger;
mod log;
mod record;
pub mod tail;
pub(crate) mod times;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::api::usage::{Amounts, Kind};
use crate::wire::service::usage::Metered;
use crate::wire::service::{Places, places};
use ledger::Ledger;
use log::{Entry, Log};
pub(crate) use record::{Subject, of_an_earlier_shim};
pub(crate) use times::Times;

/// How long the end of an agent waits for its record, before the rest of it goes on.
const PATIENCE: Duration = Duration::from_secs(2);

/// What can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Between two records of an agent that runs.
    pub interval: Duration,
    /// Between two looks at what agents have used: how late a budget acts.
    pub look: Duration,
    /// Bytes of records that are kept.
    pub keep: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), look: Duration::from_secs(10), keep: 1 << 30 }
    }
}

/// Agents with records that are not on disk yet, and how many.
type Waiting = Arc<Mutex<HashMap<String, usize>>>;

/// The node's usage. Cheap to clone.
#[derive(Clone)]
pub struct Usage {
    shared: Arc<Shared>,
    synced: watch::Receiver<u64>,
}

struct Shared {
    dir: PathBuf,
    source: String,
    /// What is recorded, or waits for the disk.
    told: Mutex<Ledger>,
    /// Agents with records that are not on disk yet, and how many.
    waiting: Waiting,
    /// Gone once this is.
    entries: Mutex<mpsc::Sender<Entry>>,
}

/// What an agent's shim has written down last.
pub(crate) fn measured(places: &Places, agent: &str) -> Option<Metered> {
    let text = std::fs::read(places.agent(agent).join(places::USAGE)).ok()?;
    serde_json::from_slice(&text).ok()
}

impl Usage {
    /// Opens the log below the daemon's records. `is_there` says which agents there are.
    ///
    /// # Errors
    /// When it cannot be read, or there is no thread to be had.
    pub(crate) fn open(
        records: &Path,
        node: &str,
        keep: u64,
        is_there: impl Fn(&str) -> bool,
    ) -> io::Result<Self> {
        let dir = records.join("usage");
        let mut log = Log::open(&dir, keep)?;
        log.retain(is_there);
        let told = log.ledger().clone();
        let (entries, queue) = mpsc::channel();
        let (tell, synced) = watch::channel(told.through);
        let waiting = Waiting::default();
        let written = waiting.clone();
        std::thread::Builder::new().name("usage".into()).spawn(move || log.run(&queue, &tell, &written))?;
        let source = format!("/nodes/{node}");
        let shared = Shared { dir, source, told: Mutex::new(told), waiting, entries: Mutex::new(entries) };
        Ok(Self { shared: Arc::new(shared), synced })
    }

    /// How far an agent's latest incarnation is recorded.
    pub(crate) fn mark(&self, agent: &str) -> Option<ledger::Mark> {
        self.told().marks.get(agent).cloned()
    }

    /// What it has used by now is recorded, if it is more than was recorded before. Nobody waits.
    pub(crate) fn interval(&self, subject: &Subject<'_>, metered: &Metered, times: &mut Times) {
        drop(self.record(subject, metered, times, false));
    }

    /// It has ended, and this is what it has used. Answers once that is on disk, or after a moment: then it waits in
    /// memory, and the next daemon finds the end again.
    pub(crate) async fn ended(&self, subject: &Subject<'_>, metered: &Metered, times: &Mutex<Times>) {
        let synced = {
            let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
            self.record(subject, metered, &mut times, true)
        };
        if let Some(synced) = synced {
            let _ = tokio::time::timeout(PATIENCE, synced).await;
        }
    }

    fn record(
        &self,
        subject: &Subject<'_>,
        metered: &Metered,
        times: &mut Times,
        is_final: bool,
    ) -> Option<oneshot::Receiver<()>> {
        let mut told = self.told();
        let before = told.marks.get(subject.agent).filter(|mark| mark.incarnation == metered.incarnation);
        let kind = match before {
            // Its end is recorded; a better account of it is a correction.
            Some(mark) if mark.is_final && !(is_final && metered.complete && !mark.complete) => return None,
            Some(mark) if mark.is_final => Kind::Correction,
            Some(mark) if !is_final && metered.number <= mark.number => return None,
            _ if is_final => Kind::Final,
            _ => Kind::Interval,
        };
        let (number, recorded) =
            before.map_or((0, Amounts::default()), |mark| (mark.number + 1, mark.total.clone()));
        let split = times.split(&metered.incarnation, metered.wall_ms, &recorded.states_ms);
        let number = number.max(metered.number);
        let is_first = !told.marks.contains_key(subject.agent);
        let mut record = record::make(&self.shared.source, subject, metered, kind, number, &recorded, split);
        record.data.first = is_first;
        told.apply(&record);
        let (done, synced) = oneshot::channel();
        *self.lock_waiting().entry(subject.agent.to_owned()).or_default() += 1;
        self.send(Entry::Record(Box::new(record), done));
        Some(synced)
    }

    /// Whether all that was recorded of an agent is on disk.
    pub(crate) fn is_written(&self, agent: &str) -> bool {
        !self.lock_waiting().contains_key(agent)
    }

    /// What an agent has used in all its incarnations; and how much of that is not recorded yet.
    pub(crate) fn live(&self, agent: &str, metered: &Metered) -> (Amounts, Amounts) {
        let mut used = record::total(metered, Default::default());
        let mut untold = used.clone();
        if let Some(mark) = self.mark(agent) {
            if mark.incarnation == metered.incarnation && mark.is_final {
                // It has left its counters.
                (used, untold) = (mark.total, Amounts::default());
            } else if mark.incarnation == metered.incarnation {
                untold.add(&mark.total, -1);
            } else {
                used.add(&mark.total, 1);
            }
            used.add(&mark.earlier, 1);
        }
        untold.states_ms.clear();
        (used, untold)
    }

    /// An agent is no more: nothing of it is kept but its records.
    pub(crate) fn forget(&self, agent: &str) {
        let mut told = self.told();
        if told.marks.remove(agent).is_some() {
            self.send(Entry::Forget(agent.to_owned()));
        }
    }

    /// From now on no more bytes of records are kept than this.
    pub(crate) fn keep(&self, bytes: u64) {
        self.send(Entry::Keep(bytes));
    }

    /// To the thread that writes, which ends after the last of these.
    fn send(&self, entry: Entry) {
        let entries = self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = entries.send(entry);
    }

    /// Bytes that the agents of an identity have sent on a day, as far as it is recorded.
    pub(crate) fn sent(&self, identity: &str, day: &str) -> i64 {
        self.told().sent(identity, day)
    }

    /// What a tenant has used on the days that begin so (`2026-11-26`, `2026-11`), as far as it is recorded.
    pub(crate) fn used(&self, tenant: &str, days: &str) -> Amounts {
        self.told().used(tenant, days)
    }

    /// All that is recorded on this node: the sum, and the records by kind.
    pub(crate) fn in_all(&self) -> (Amounts, [u64; 3]) {
        let told = self.told();
        (told.all.clone(), told.records)
    }

    fn lock_waiting(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Ledger> {
        self.shared.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::usage::Record;

    fn metered(incarnation: &str, number: u64, cpu_us: u64) -> Metered {
        Metered {
            incarnation: incarnation.into(),
            number,
            cpu_us: Some(cpu_us),
            wall_ms: number * 10,
            ..Metered::default()
        }
    }

    fn subject() -> Subject<'static> {
        Subject { agent: "a", tenant: "t", owner: "o", kind: "shell" }
    }

    fn open(directory: &Path) -> Usage {
        Usage::open(directory, "n", 1 << 30, |_| true).expect("opened")
    }

    fn records(directory: &Path) -> Vec<Record> {
        let path = directory.join("usage/0000000000000001.jsonl");
        let text = std::fs::read_to_string(path).expect("read");
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    async fn end(usage: &Usage, metered: &Metered) {
        usage.ended(&subject(), metered, &Mutex::default()).await;
    }

    #[tokio::test]
    async fn an_end_is_recorded_once_by_however_many_daemons_and_a_better_account_of_it_is_a_correction() {
        let directory = tempfile::tempdir().expect("a directory");
        let usage = open(directory.path());
        usage.interval(&subject(), &metered("i", 1, 5), &mut Times::default());
        usage.interval(&subject(), &metered("i", 1, 5), &mut Times::default());
        let last = metered("i", 2, 7);
        end(&usage, &last).await;
        end(&usage, &last).await;
        drop(usage);
        let usage = open(directory.path());
        end(&usage, &last).await;
        let better = Metered { complete: true, ..metered("i", 3, 9) };
        end(&usage, &better).await;
        end(&usage, &better).await;
        // It is started anew.
        end(&usage, &metered("j", 1, 1)).await;
        let records = records(directory.path());
        let told: Vec<_> = records
            .iter()
            .map(|record| (record.kind, record.id.as_str(), record.data.delta.cpu_us))
            .collect();
        let expected = [
            (Kind::Interval, "i.1", 5),
            (Kind::Final, "i.2", 2),
            (Kind::Correction, "i.3", 2),
            (Kind::Final, "j.1", 1),
        ];
        assert_eq!(told, expected);
        let day = &records[0].time[..10];
        assert_eq!((usage.used("t", day).cpu_us, usage.in_all().1), (10, [1, 2, 1]));
        assert!(usage.is_written("a"));
    }

    #[tokio::test]
    async fn a_new_agent_with_the_id_of_one_that_was_removed_has_used_nothing_of_it_at_any_daemon() {
        let directory = tempfile::tempdir().expect("a directory");
        let usage = open(directory.path());
        end(&usage, &metered("i", 1, 5)).await;
        usage.forget("a");
        end(&usage, &metered("j", 1, 2)).await;
        end(&usage, &metered("k", 1, 1)).await;
        drop(usage);
        let usage = open(directory.path());
        assert_eq!(usage.mark("a").expect("known").earlier.cpu_us, 2, "its own earlier start, and no more");
        assert_eq!(usage.in_all().0.cpu_us, 8, "all of it was used");
    }

    #[tokio::test]
    async fn of_agents_that_come_and_go_nothing_is_kept_but_their_records() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = Log::open(&directory.path().join("usage"), 1 << 30).expect("opened");
        let (told, synced) = watch::channel(0);
        let (entries, queue) = mpsc::channel();
        let shared = Shared {
            dir: directory.path().join("usage"),
            source: "/nodes/n".into(),
            told: Mutex::default(),
            waiting: Waiting::default(),
            entries: Mutex::new(entries),
        };
        let usage = Usage { shared: Arc::new(shared), synced };
        for number in 0..200 {
            let agent = format!("a{number}");
            let subject = Subject { agent: &agent, ..subject() };
            let times = &mut Times::default();
            drop(usage.record(&subject, &metered(&format!("i{number}"), 1, 1), times, true));
            usage.forget(&agent);
        }
        let waiting = usage.shared.waiting.clone();
        assert_eq!((usage.told().marks.len(), usage.lock_waiting().len()), (0, 200));
        drop(usage);
        log.take(&queue, &told, &waiting);
        assert_eq!((log.ledger().marks.len(), log.ledger().through), (0, 200));
        assert!(waiting.lock().expect("whole").is_empty());
    }

    #[tokio::test]
    async fn a_record_that_broke_off_is_cut_off_and_told_again() {
        use std::io::Write;
        let directory = tempfile::tempdir().expect("a directory");
        let usage = open(directory.path());
        end(&usage, &metered("i", 1, 5)).await;
        drop(usage);
        let path = directory.path().join("usage/0000000000000001.jsonl");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("opened");
        file.write_all(br#"{"specversion":"1.0","id":"j.1","#).expect("written");
        let usage = open(directory.path());
        end(&usage, &metered("j", 1, 3)).await;
        let told: Vec<_> = records(directory.path()).iter().map(|record| record.sequence.clone()).collect();
        assert_eq!(told, ["0000000000000001", "0000000000000002"]);
    }
}
