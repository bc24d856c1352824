//! Writes the log: a queue, and one thread that takes whatever has gathered in it, appends it, and syncs once for all.
//!
//! ```text
//!            open                      batch written and synced
//!  Opening ────────▶ Ready ◀──────────────────────────────────────┐
//!     │                │ disk full, directory gone                │ tried again, every `retry`
//!     └────────────────┴─────────────▶ Unavailable ───────────────┘
//! ```
//! While the log is unavailable, intents are refused at once; everything else waits in memory (bounded, and what did not find
//! room is counted), and is written when the log is back, after a record that says how long it was away.

mod prune;
mod resume;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::event::Event;
use super::text::Word;
use super::ticket::{Ticket, Unavailable};
pub use prune::Keep;
use queue::{Entry, Queue, Turn};
use store::{Store, StoreError};

mod queue;

/// Where a log is, and how it is kept.
#[derive(Clone)]
pub struct Options {
    /// The segments and the head.
    pub dir: PathBuf,
    /// The key that signs; made if it is missing.
    pub key: PathBuf,
    /// A segment ends when it is longer than this.
    pub segment_bytes: u64,
    /// A segment ends when it is older than this.
    pub segment_age: Duration,
    /// So many records without a checkpoint, at most.
    pub seal_records: u64,
    /// So long without a checkpoint, at most.
    pub seal_after: Duration,
    /// How often a log that is unavailable is tried again.
    pub retry: Duration,
    /// How much of it is kept.
    pub keep: Arc<Keep>,
    /// Hears how far the log is synced.
    pub told: Option<Arc<dyn Fn(u64) + Send + Sync>>,
}

impl Options {
    /// As a service has it.
    pub fn new(dir: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            key: key.into(),
            segment_bytes: 64 * 1024 * 1024,
            segment_age: Duration::from_secs(24 * 60 * 60),
            seal_records: 1000,
            seal_after: Duration::from_secs(10),
            retry: Duration::from_millis(250),
            keep: Arc::default(),
            told: None,
        }
    }
}

/// A log that is written to. Cheap to clone; the last one closes it.
#[derive(Clone)]
pub struct Log(Arc<Owner>);

struct Owner {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Begins to write. The log is opened by its own thread, which tries again for as long as it cannot: [`Log::state`].
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(options: Options) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let writer = Writer { queue: queue.clone(), options, store: None, trouble: None, pruned: 0 };
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run())?;
        Ok(Self(Arc::new(Owner { queue, thread: Mutex::new(Some(thread)) })))
    }

    /// As [`Self::start`]; waits until the log was opened.
    ///
    /// # Errors
    /// When it could not be.
    pub fn open(options: Options) -> Result<Self, Unavailable> {
        let log = Self::start(options).map_err(|error| Unavailable { reason: error.to_string() })?;
        log.0.queue.opened()?;
        Ok(log)
    }

    /// Records that this happened, now. Never waits. An intent is written and synced at once, anything else within 10 ms.
    pub fn record(&self, event: Event) -> Ticket {
        self.0.queue.push(event)
    }

    /// The same; it is written after `patience`, if not before with others: so that many share a sync.
    pub fn record_within(&self, event: Event, patience: Duration) -> Ticket {
        self.0.queue.push_within(event, patience)
    }

    /// Whether intents are taken.
    ///
    /// # Errors
    /// Why not.
    pub fn state(&self) -> Result<(), Unavailable> {
        self.0.queue.state()
    }

    /// From now on another key signs; the old one vouches for it, and is gone.
    pub fn rotate_key(&self) -> Ticket {
        self.0.queue.rotate_key()
    }

    /// Completes when everything that was recorded before is on disk, which is at once.
    pub fn flush(&self) -> Ticket {
        self.0.queue.flush()
    }

    /// Writes what waits, signs, and ends. Blocks.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Owner {
    fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has been reported by then, and tickets refuse.
            let _ = thread.join();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread's own.
struct Writer {
    queue: Arc<Queue>,
    options: Options,
    store: Option<Store>,
    /// Since when, and what kind of, trouble.
    trouble: Option<(Instant, Word)>,
    /// Which turn of `keep` was acted on.
    pruned: u64,
}

impl Writer {
    fn run(mut self) {
        // Whatever ends this thread, nobody waits for it in vain.
        let _last = queue::Closed(self.queue.clone());
        loop {
            if let Err(error) = self.ready() {
                self.in_trouble(&error);
                if self.queue.pause(self.options.retry) {
                    return;
                }
                continue;
            }
            let wait = self.store.as_ref().expect("ready").next_seal(&self.options);
            let Turn { batch, flush, rotate, closing } = self.queue.take(wait);
            let written = self.write(batch);
            flush.iter().for_each(|ticket| ticket.complete(written.clone()));
            if let (Some(ticket), Some(store)) = (rotate, &mut self.store) {
                ticket.complete(store.rotate_key(&self.options).map_err(Unavailable::from));
            }
            if closing && self.trouble.is_none() && self.queue.is_empty() {
                let _ = self.store.as_mut().expect("ready").seal();
                return;
            }
        }
    }

    /// Opens the log, or brings it back after trouble.
    fn ready(&mut self) -> Result<(), StoreError> {
        match &mut self.store {
            None => self.store = Some(resume::open(&self.options)?),
            Some(store) => store.mend(&self.options)?,
        }
        let store = self.store.as_mut().expect("opened above");
        let turn = self.options.keep.turn();
        if store.rotate_if_due(&self.options)? || turn != self.pruned {
            self.pruned = turn;
            // What cannot be removed now is at the next turn; what cannot be written is trouble.
            store.prune(&self.options).or_else(|error| if store.broken { Err(error) } else { Ok(()) })?;
        }
        let lost = self.queue.lost();
        if self.trouble.is_some() || lost > 0 {
            let (seconds, reason) = match &self.trouble {
                Some((since, reason)) => (since.elapsed().as_secs(), reason.clone()),
                None => (0, Word::new("overflow")),
            };
            let entry = Entry::now(Event::Resumed { seconds, reason, lost });
            store.commit(&[entry], &self.options)?;
            self.queue.told_of(lost);
        }
        self.trouble = None;
        self.queue.is_ready();
        self.tell();
        Ok(())
    }

    /// The number of the last record.
    fn write(&mut self, batch: Vec<Entry>) -> Result<u64, Unavailable> {
        let store = self.store.as_mut().expect("ready");
        match store.commit(&batch, &self.options) {
            Ok(last) => {
                let first = last + 1 - batch.len() as u64;
                for (seq, entry) in (first..).zip(&batch) {
                    entry.ticket.complete(Ok(seq));
                }
                self.tell();
                Ok(last)
            }
            Err(error) => {
                self.in_trouble(&error);
                let why = Unavailable::from(error);
                self.queue.put_back(batch, &why);
                Err(why)
            }
        }
    }

    fn tell(&self) {
        if let (Some(told), Some(store)) = (&self.options.told, &self.store) {
            told(store.end());
        }
    }

    fn in_trouble(&mut self, error: &StoreError) {
        self.trouble.get_or_insert_with(|| (Instant::now(), error.word()));
        self.queue.is_unavailable(error.into());
    }
}
