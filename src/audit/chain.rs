//! Where a log stands: what the next record has to follow.

use std::collections::BTreeSet;

use super::digest::Digest;
use super::event::Event;
use super::key::PublicKey;
use super::record::{self, Record};
use super::seal::LogId;

/// The end of a log.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Which log.
    pub log: LogId,
    /// The last record.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
    /// Intents without an outcome.
    pub open: BTreeSet<u64>,
    /// Who signs.
    pub public: PublicKey,
}

impl Chain {
    /// Of a log without records.
    pub fn new(log: LogId, public: PublicKey) -> Self {
        Self { log, seq: 0, hash: Digest::NONE, open: BTreeSet::new(), public }
    }

    /// Adds a record, as a line at the end of `lines`; its number.
    pub fn append(&mut self, lines: &mut Vec<u8>, at: &str, event: &Event) -> u64 {
        self.hash = record::write(lines, self.seq + 1, at, self.hash, event);
        self.seq += 1;
        self.account(event);
        self.seq
    }

    /// Goes one record on; false: it does not follow.
    pub fn follow(&mut self, record: &Record) -> bool {
        if record.seq != self.seq + 1 || record.prev != self.hash {
            return false;
        }
        (self.seq, self.hash) = (record.seq, record.hash);
        // What a later version says has no meaning here.
        if let Ok(event) = serde_json::from_value(record.event.clone()) {
            self.account(&event);
        }
        true
    }

    fn account(&mut self, event: &Event) {
        match event {
            Event::Intent { .. } => drop(self.open.insert(self.seq)),
            Event::KeyRotated { public_key, .. } => self.public = *public_key,
            Event::SegmentOpened { log, public_key, open, .. } => {
                self.log.clone_from(log);
                self.public = *public_key;
                self.open = open.iter().copied().collect();
            }
            other => {
                if let Some(intent) = other.closes() {
                    self.open.remove(&intent);
                }
            }
        }
    }
}
