//! Where the audit log goes besides its files: collectors of the site's, each with a cursor of its own.
//!
//! ```text
//!  files (the spool) ──▶ Reader from the cursor ──▶ form ──▶ syslog │ webhook │ journald ──▶ cursor
//! ```
//! A sink reads what is on disk already, so one that is dead holds up nobody and loses nothing: it goes on where it was.
//! Each record arrives at least once, and byte for byte as in the file (or as OCSF, which carries those bytes along).

mod cursor;
mod feed;
mod form;
mod journald;
mod ocsf;
pub mod settings;
mod syslog;
mod tls;
mod webhook;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use form::Line;
pub use settings::{Format, Kind, Sink};

/// How one sink does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The last record that it has taken.
    pub delivered: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why it takes nothing now.
    pub trouble: Option<String>,
}

/// All sinks of the node.
#[derive(Default)]
pub(super) struct Sinks(Mutex<Vec<Running>>);

/// One that is fed.
struct Running {
    sink: Sink,
    status: Shown,
    task: JoinHandle<()>,
}

/// How one does, for whoever asks meanwhile.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Status>>);

impl Shown {
    fn get(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Sinks {
    /// How each of them does.
    pub(super) fn status(&self) -> Vec<Status> {
        self.running().iter().map(|running| running.status.get()).collect()
    }

    /// From now on these and no others are fed. What is as it was goes on undisturbed; what is another by the same name goes on
    /// where that was.
    pub(super) fn replace(&self, sinks: Vec<Sink>, source: &Source) {
        let mut running = self.running();
        let mut before = std::mem::take(&mut *running);
        for sink in sinks {
            let known = before.iter().position(|old| old.sink.name == sink.name);
            let next = match known.map(|at| before.swap_remove(at)) {
                Some(old) if old.sink == sink => old,
                old => start(sink, source, old),
            };
            running.push(next);
        }
        before.iter().for_each(|gone| gone.task.abort());
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Once the one before is gone: they have one cursor.
fn start(sink: Sink, source: &Source, before: Option<Running>) -> Running {
    let status = Shown::default();
    status.change(|status| {
        status.name.clone_from(&sink.name);
        status.delivered = before.as_ref().map_or(0, |before| before.status.get().delivered);
    });
    let task = tokio::spawn({
        let (sink, source, status) = (sink.clone(), source.clone(), status.clone());
        async move {
            if let Some(before) = before {
                before.task.abort();
                let _ = before.task.await;
            }
            feed::run(sink, source, status).await;
        }
    });
    Running { sink, status, task }
}

/// What a sink reads, and where it remembers how far.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) log: PathBuf,
    pub(super) synced: watch::Receiver<u64>,
    pub(super) cursors: PathBuf,
    pub(super) node: String,
}

/// Something that takes records.
trait Deliver: Send {
    /// Takes all of these, in order. An error: some of them, or none; all come again.
    fn deliver(&mut self, lines: &[Line]) -> impl Future<Output = io::Result<()>> + Send;

    /// The last record that counts as arrived; asked after each delivery, and now and then. An error: what does not count
    /// yet comes again.
    fn settle(&mut self) -> impl Future<Output = io::Result<u64>> + Send;

    /// Whether `settle` will reach further though nothing is delivered.
    fn is_settling(&self) -> bool {
        false
    }
}
