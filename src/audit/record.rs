//! One line of the log.
//!
//! `{"seq":…,"at":…,"prev":…,"event":{…},"hash":…}`: the hash is SHA-256 over the bytes of the line before `,"hash":"`, and
//! `prev` is the hash of the line before. The bytes are hashed as they stand, so nobody has to agree on how JSON is written.

use serde::Deserialize;

use super::digest::Digest;
use super::event::Event;

/// What stands between what is hashed and the hash.
const HASH: &[u8] = b",\"hash\":\"";
/// That, 64 digits, a quote and a brace.
const TAIL: usize = HASH.len() + 64 + 2;
/// Longest line; a longer one is none of ours.
pub const LONGEST: usize = 1024 * 1024;

/// A line that was read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number, from 1.
    pub seq: u64,
    /// When it was recorded, RFC 3339.
    pub at: String,
    /// The hash of the record before.
    pub prev: Digest,
    /// What happened: an [`Event`], perhaps of a later version.
    pub event: serde_json::Value,
    /// Its own hash.
    pub hash: Digest,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It stops too early.
    #[error("it breaks off")]
    Cut,
    /// It is none.
    #[error("it is no record: {0}")]
    NotARecord(String),
    /// It says otherwise than its hash.
    #[error("its bytes do not have the hash that stands in it")]
    Hash,
}

impl Record {
    /// Reads a line, without its line break, and compares it with its hash.
    ///
    /// # Errors
    /// When it is no record, or not the one that was written.
    pub fn parse(line: &[u8]) -> Result<Self, Broken> {
        let record: Self = serde_json::from_slice(line).map_err(|error| match error.is_eof() {
            true => Broken::Cut,
            false => Broken::NotARecord(error.to_string()),
        })?;
        let body = line.len().checked_sub(TAIL).map(|end| line.split_at(end));
        match body {
            Some((body, tail)) if tail.starts_with(HASH) && Digest::of(body) == record.hash => Ok(record),
            _ => Err(Broken::Hash),
        }
    }

    /// What kind of event this is.
    pub fn kind(&self) -> &str {
        self.event["type"].as_str().unwrap_or_default()
    }

    /// The number of a line, without more than a look at it.
    pub fn seq_of(line: &[u8]) -> Option<u64> {
        let digits = line.strip_prefix(b"{\"seq\":")?;
        let end = digits.iter().position(|c| !c.is_ascii_digit())?;
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    }
}

/// Writes a line, with its line break; gives its hash.
pub fn write(line: &mut Vec<u8>, seq: u64, at: &str, prev: Digest, event: &Event) -> Digest {
    let start = line.len();
    line.extend_from_slice(
        format!("{{\"seq\":{seq},\"at\":\"{at}\",\"prev\":\"{prev}\",\"event\":").as_bytes(),
    );
    serde_json::to_writer(&mut *line, event).expect("an event is always JSON");
    let hash = Digest::of(&line[start..]);
    line.extend_from_slice(HASH);
    line.extend_from_slice(hash.to_string().as_bytes());
    line.extend_from_slice(b"\"}\n");
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::text::Word;

    #[test]
    fn no_byte_of_a_line_can_change() {
        let mut line = Vec::new();
        let event = Event::ServiceStopped { reason: Word::new("asked") };
        let hash = write(&mut line, 7, "2026-01-01T00:00:00Z", Digest::NONE, &event);
        line.pop();
        let record = Record::parse(&line).expect("as it was written");
        assert_eq!((record.seq, record.hash, record.kind()), (7, hash, "serviceStopped"));
        assert_eq!(Record::seq_of(&line), Some(7));
        for at in 0..line.len() {
            for other in [b' ', b'0', b'"', line[at] ^ 1, line[at] ^ 0x20] {
                let mut changed = line.clone();
                changed[at] = other;
                assert!(other == line[at] || Record::parse(&changed).is_err(), "byte {at} became {other}");
            }
            assert!(Record::parse(&line[..at]).is_err(), "cut at {at}");
        }
        assert!(Record::parse(&[&line[..], b" "].concat()).is_err());
    }
}
