//! What became of an agent's latest messages: a file beside its record, so that no restart types one twice or loses one
//! that waits.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use crate::api::agent::State;
use crate::api::{Delivery, Stage};
use crate::daemon::store;
use crate::daemon::supervisor::times::{iso, now};

/// How many are kept, with their keys and answers.
pub(crate) const KEPT: usize = 64;
/// How many may wait.
pub(crate) const WAITING: usize = 16;

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) delivery: Delivery,
    /// Of its text, under the node's key.
    pub(crate) digest: String,
    /// Its text, until its turn is over.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
    /// Where the terminal's output was when it was submitted.
    #[serde(default)]
    pub(crate) offset: u64,
    /// Nobody wants it to wait.
    #[serde(default)]
    pub(crate) hurried: bool,
    /// It was refused because of this state, before anything of it was typed.
    #[serde(skip)]
    pub(crate) refused: Option<(State, &'static str)>,
}

/// An agent's messages.
pub(crate) struct Book {
    path: PathBuf,
    entries: Mutex<Entries>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Entries {
    all: VecDeque<Entry>,
    /// Somebody delivers them.
    attended: bool,
}

/// What became of a message that is given.
pub(crate) enum Given {
    /// It is new, or the first of its key was never typed.
    New,
    /// The first of its key.
    Known(String),
    /// Its key belongs to another message.
    Another,
    /// Too many wait.
    Full,
}

impl Book {
    /// As it was kept. What was under way when an earlier daemon ended is uncertain now.
    pub(crate) fn open(path: PathBuf) -> Self {
        let mut all: VecDeque<Entry> = match std::fs::read(&path).map(|text| serde_json::from_slice(&text)) {
            Ok(Ok(all)) => all,
            Ok(Err(error)) => {
                warn!(path = %path.display(), %error, "messages that were kept cannot be read");
                VecDeque::new()
            }
            Err(_) => VecDeque::new(),
        };
        for entry in &mut all {
            if matches!(entry.delivery.stage, Stage::Typing | Stage::Typed | Stage::Submitted) {
                let why = "the service ended while it was being typed: look at the agent's screen";
                end(entry, Stage::Uncertain, Some(why.into()));
            }
        }
        let entries = Mutex::new(Entries { all, attended: false });
        Self { path, entries, changed: watch::Sender::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Every change is whole at any time.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message.
    pub(crate) fn give(&self, entry: Entry) -> Given {
        let mut entries = self.lock();
        if let Some(key) = &entry.delivery.key {
            let known = entries.all.iter().position(|known| known.delivery.key.as_ref() == Some(key));
            match known.map(|at| (at, &entries.all[at])) {
                Some((_, known)) if known.digest != entry.digest => return Given::Another,
                // Nothing of it was typed: it may be tried again.
                Some((at, known))
                    if known.delivery.stage == Stage::Failed && known.delivery.typed_at.is_none() =>
                {
                    entries.all.remove(at);
                }
                Some((_, known)) => return Given::Known(known.delivery.id.clone()),
                None => {}
            }
        }
        let mut entry = entry;
        let waiting = entries.all.iter().filter(|entry| !entry.delivery.stage.is_final()).count();
        if waiting >= WAITING {
            return Given::Full;
        }
        if waiting > 0 {
            entry.delivery.why = Some("another message is before it".into());
        }
        entries.all.push_back(entry);
        while entries.all.len() > KEPT && entries.all[0].delivery.stage.is_final() {
            entries.all.pop_front();
        }
        self.keep(entries);
        Given::New
    }

    /// Whether there is one of its key.
    pub(crate) fn knows(&self, entry: &Entry) -> bool {
        let key = entry.delivery.key.as_ref();
        key.is_some() && self.lock().all.iter().any(|known| known.delivery.key.as_ref() == key)
    }

    /// Whether there is one of which something may still become.
    pub(crate) fn is_under_way(&self) -> bool {
        self.lock().all.iter().any(|entry| !entry.delivery.stage.is_final())
    }

    /// The next one that waits; whoever is told of none no longer attends to them.
    pub(crate) fn next(&self) -> Option<Entry> {
        let mut entries = self.lock();
        let next = entries.all.iter().find(|entry| entry.delivery.stage == Stage::Queued).cloned();
        entries.attended = next.is_some();
        next
    }

    /// Whether there is work that nobody attends to; the caller does from now on.
    pub(crate) fn attend(&self) -> bool {
        let mut entries = self.lock();
        let waits = entries.all.iter().any(|entry| entry.delivery.stage == Stage::Queued);
        waits && !std::mem::replace(&mut entries.attended, true)
    }

    /// One of them.
    pub(crate) fn get(&self, id: &str) -> Option<Entry> {
        self.lock().all.iter().find(|entry| entry.delivery.id == id).cloned()
    }

    /// The one whose turn an earlier daemon did not see the end of.
    pub(crate) fn taken(&self) -> Option<Entry> {
        self.lock().all.iter().rev().find(|entry| entry.delivery.stage == Stage::Taken).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Delivery> {
        self.lock().all.iter().map(|entry| entry.delivery.clone()).collect()
    }

    /// Forgets one of which nothing was typed.
    pub(crate) fn forget(&self, id: &str) {
        let mut entries = self.lock();
        entries.all.retain(|entry| entry.delivery.id != id);
        self.keep(entries);
    }

    /// Changes one; what it is then.
    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Entry)) -> Option<Delivery> {
        let mut entries = self.lock();
        let entry = entries.all.iter_mut().find(|entry| entry.delivery.id == id)?;
        let before = entry.clone();
        change(entry);
        let after = entry.delivery.clone();
        if *entry != before {
            self.keep(entries);
        }
        Some(after)
    }

    /// Nothing more becomes of it.
    pub(crate) fn end(&self, id: &str, stage: Stage, why: Option<String>) -> Option<Delivery> {
        self.change(id, |entry| end(entry, stage, why))
    }

    /// Told whenever anything changes.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// On disk before anybody acts on it: before a first byte is typed, it is written down that it will be.
    fn keep(&self, entries: MutexGuard<'_, Entries>) {
        let text = serde_json::to_vec(&entries.all).expect("messages are always JSON");
        if let Err(error) = store::write_over(&self.path, &text) {
            warn!(path = %self.path.display(), %error, "messages cannot be kept");
        }
        drop(entries);
        self.changed.send_replace(());
    }
}

fn end(entry: &mut Entry, stage: Stage, why: Option<String>) {
    entry.delivery.stage = stage;
    entry.delivery.why = why;
    entry.delivery.ended_at = Some(iso(now()));
    entry.text = String::new();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, key: Option<&str>, digest: &str) -> Entry {
        Entry {
            delivery: Delivery {
                id: id.into(),
                key: key.map(str::to_owned),
                stage: Stage::Queued,
                why: None,
                bytes: 1,
                verified: false,
                queued_at: String::new(),
                typed_at: None,
                taken_at: None,
                ended_at: None,
                response: None,
            },
            digest: digest.into(),
            text: "x".into(),
            offset: 0,
            hurried: false,
            refused: None,
        }
    }

    fn book(directory: &tempfile::TempDir) -> Book {
        Book::open(directory.path().join("a.json"))
    }

    #[test]
    fn a_key_stands_for_one_message_unless_nothing_of_it_was_typed() {
        let directory = tempfile::tempdir().expect("a directory");
        let book = book(&directory);
        assert!(matches!(book.give(entry("1", Some("k"), "d")), Given::New));
        assert!(matches!(book.give(entry("2", Some("k"), "d")), Given::Known(id) if id == "1"));
        assert!(matches!(book.give(entry("3", Some("k"), "other")), Given::Another));
        book.end("1", Stage::Failed, None);
        assert!(matches!(book.give(entry("4", Some("k"), "d")), Given::New));
        book.change("4", |entry| entry.delivery.typed_at = Some("now".into()));
        book.end("4", Stage::Failed, None);
        assert!(matches!(book.give(entry("5", Some("k"), "d")), Given::Known(id) if id == "4"));
    }

    #[test]
    fn after_a_restart_what_waits_still_waits_and_what_was_being_typed_is_uncertain() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = book(&directory);
        for (id, stage) in
            [("1", Stage::Submitted), ("2", Stage::Typing), ("3", Stage::Taken), ("4", Stage::Queued)]
        {
            first.give(entry(id, None, "d"));
            first.change(id, |entry| entry.delivery.stage = stage);
        }
        let again = book(&directory);
        let stages: Vec<Stage> = again.all().iter().map(|delivery| delivery.stage).collect();
        assert_eq!(stages, [Stage::Uncertain, Stage::Uncertain, Stage::Taken, Stage::Queued]);
        assert_eq!(again.next().map(|entry| (entry.delivery.id, entry.text)), Some(("4".into(), "x".into())));
        assert!(again.get("1").is_some_and(|entry| entry.text.is_empty()));
    }

    #[test]
    fn no_more_wait_than_there_is_room_for_and_the_oldest_are_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let book = book(&directory);
        for n in 0..KEPT + 10 {
            assert!(matches!(book.give(entry(&n.to_string(), None, "d")), Given::New));
            book.end(&n.to_string(), Stage::Answered, None);
        }
        assert_eq!(book.all().len(), KEPT);
        (0..WAITING).for_each(|n| drop(book.give(entry(&format!("w{n}"), None, "d"))));
        assert!(matches!(book.give(entry("more", None, "d")), Given::Full));
    }
}
