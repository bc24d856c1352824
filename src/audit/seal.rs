//! A signature over how far a log reached: in its checkpoints, in its head, in files that are kept elsewhere.

use serde::{Deserialize, Serialize};

use super::Event;
use super::digest::{self, Digest};
use super::key::{Key, PublicKey};
use super::record::Record;

/// Names one log: 32 hexadecimal digits, by chance.
pub type LogId = String;

/// "The log `log` has `seq` records, the last of which has this hash."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    /// Which log.
    pub log: LogId,
    /// Number of the last record that is vouched for; 0: none yet.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
    /// When, RFC 3339.
    pub at: String,
    /// Who signed.
    pub key_id: String,
    /// Ed25519 over [`Seal::message`], hexadecimal.
    pub signature: String,
}

impl Seal {
    /// Signs this.
    pub fn sign(key: &Key, log: &str, seq: u64, hash: Digest, at: &str) -> Self {
        let key_id = key.public().id();
        let seal = Self { log: log.into(), seq, hash, at: at.into(), key_id, signature: String::new() };
        let signature = key.sign(&seal.message());
        Self { signature, ..seal }
    }

    /// What is signed: lines, so that anybody can put them together again.
    pub fn message(&self) -> Vec<u8> {
        let Self { log, seq, hash, at, key_id, .. } = self;
        format!("stockade-audit-seal-v1\n{log}\n{seq}\n{hash}\n{at}\n{key_id}\n").into_bytes()
    }

    /// Whether this key's owner says so.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.key_id == key.id() && key.has_signed(&self.message(), &self.signature)
    }

    /// The newest in this text: a head, a checkpoint's record, or a seal by itself.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let lines = text.split(|c| *c == b'\n');
        let seals = lines.filter_map(|line| match Record::parse(line) {
            Ok(Record { event, .. }) => match serde_json::from_value(event) {
                Ok(Event::Checkpoint { seal }) => Some(seal),
                _ => None,
            },
            Err(_) => serde_json::from_slice(line.trim_ascii_end()).ok(),
        });
        seals.max_by_key(|seal: &Self| seal.seq)
    }
}

/// What the old key signs when another one takes over.
pub fn rotation(log: &str, public: &PublicKey) -> Vec<u8> {
    format!("stockade-audit-key-v1\n{log}\n{}\n", public.0).into_bytes()
}

/// A name for a log that is begun now.
pub fn new_log() -> Option<LogId> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 16];
    ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
    Some(digest::hex(&bytes))
}
