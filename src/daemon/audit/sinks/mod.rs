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
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::wire::service::Places;
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

/// All sinks of the node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sinks {
    all: Arc<Vec<Mutex<Status>>>,
}

impl Sinks {
    /// How each of them does.
    pub fn status(&self) -> Vec<Status> {
        self.all.iter().map(|status| status.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    fn change(&self, at: usize, change: impl FnOnce(&mut Status)) {
        if let Some(status) = self.all.get(at) {
            change(&mut status.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// What a sink reads, and where it remembers how far.
#[derive(Clone)]
struct Source {
    log: PathBuf,
    synced: watch::Receiver<u64>,
    cursors: PathBuf,
    node: String,
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

/// Starts a task for each.
pub(super) fn start(
    sinks: Vec<Sink>,
    places: &Places,
    log: PathBuf,
    synced: watch::Receiver<u64>,
    node: &str,
) -> Sinks {
    let cursors = places.records().join("sinks");
    let source = Source { log, synced, cursors, node: node.to_owned() };
    let named = sinks.iter().map(|sink| Mutex::new(Status { name: sink.name.clone(), ..Status::default() }));
    let running = Sinks { all: Arc::new(named.collect()) };
    for (at, sink) in sinks.into_iter().enumerate() {
        tokio::spawn(feed::run(sink, source.clone(), running.clone(), at));
    }
    running
}
