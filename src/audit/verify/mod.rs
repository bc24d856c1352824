//! Verifies a log, or one file of it: offline, on a copy, or while it is written. Needs nothing but the files.
//!
//! ```text
//!  line ─▶ its own hash? ─▶ the next number, and the hash before it? ─▶ a checkpoint: signed by the log's key?
//!            │ no                 │ no                                       │ no
//!            ▼                    ▼                                          ▼
//!          altered, torn        deleted, reordered, duplicated, altered    forged checkpoint
//!  end  ─▶ the head's record there, and the same? a checkpoint from elsewhere, too?       truncated, rolled back
//! ```

mod ends;
mod finding;
mod lines;
mod pruned;
mod trace;
mod walk;

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use finding::{Finding, Kind};

use super::head;
use super::key::PublicKey;
use super::seal::Seal;
use super::segment::{self, HEAD, Segment};
use lines::Lines;
use walk::Walk;

/// What a verifier knows from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The log's key, or the id of it.
    pub key: Option<KnownKey>,
    /// A checkpoint that was kept elsewhere.
    pub against: Option<Seal>,
}

/// Whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownKey {
    /// Itself.
    Key(PublicKey),
    /// The 16 digits that name it.
    Id(String),
}

impl KnownKey {
    fn is(&self, key: &PublicKey) -> bool {
        match self {
            Self::Key(known) => known == key,
            Self::Id(id) => *id == key.id(),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether nothing was tampered with.
    pub intact: bool,
    /// The first thing that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// Which log.
    pub log: Option<String>,
    /// The first record.
    pub first: Option<u64>,
    /// Records up to this one were removed, as the log itself says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned: Option<u64>,
    /// The last record that follows from the first.
    pub last: Option<u64>,
    /// How many.
    pub records: u64,
    /// How many files.
    pub segments: usize,
    /// How many signatures over the chain were right.
    pub checkpoints: u64,
    /// Ids of the keys that signed.
    pub keys: Vec<String>,
    /// The record that the head speaks of.
    pub head: Option<u64>,
    /// Records that nobody has signed yet: the newest.
    pub unsealed: u64,
    /// A line that breaks off at the end: being written, or torn by a power cut. No tampering.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<Torn>,
}

/// The end of a log that broke off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Torn {
    /// In which file.
    pub file: PathBuf,
    /// On which line.
    pub line: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A directory with something else in it.
    #[error("{} holds no audit log: no segment (0000000000000001.jsonl) and no head is in it", path.display())]
    Nothing {
        /// Which.
        path: PathBuf,
    },
}

/// Verifies a directory of segments, or one file of records.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn verify(path: &Path, known: &Known) -> Result<Report, VerifyError> {
    let failed = |source| VerifyError::Read { path: path.into(), source };
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        let segments = vec![Segment { first: 0, path: path.into() }];
        return run(segments, Walk::of_file(known));
    }
    // Before the segments: a log that is being written may be ahead of its head, never behind.
    let head_path = path.join(HEAD);
    let seals = match head::read_all(&head_path) {
        Ok(seals) => Some(seals),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(VerifyError::Read { path: head_path, source }),
    };
    let segments = segment::list(path).map_err(failed)?;
    if segments.is_empty() && seals.is_none() {
        return Err(VerifyError::Nothing { path: path.into() });
    }
    let statement = pruned::statement(&segments)?;
    run(segments, Walk::of_directory(known, head_path, seals, statement))
}

fn run(segments: Vec<Segment>, mut walk: Walk<'_>) -> Result<Report, VerifyError> {
    let count = segments.len();
    let mut lines = Lines::new(segments);
    let finding = loop {
        match lines.next()? {
            None => break walk.end(&lines)?,
            Some(line) => match walk.step(&line, &mut lines)? {
                walk::Step::On => {}
                walk::Step::Torn(torn) => {
                    walk.report.torn = Some(torn);
                    break walk.end(&lines)?;
                }
                walk::Step::Found(finding) => break Some(finding),
            },
        }
    };
    let mut report = walk.report;
    report.segments = count;
    report.intact = finding.is_none();
    report.finding = finding;
    Ok(report)
}

/// Whether what stands behind the last whole record is what a power cut leaves: half a line, or blocks that were never
/// written.
pub fn is_torn(rest: &[u8]) -> bool {
    !rest.contains(&b'\n') || rest.contains(&0)
}
