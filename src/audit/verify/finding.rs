//! What was tampered with, how, and where.

use std::path::PathBuf;

use serde::Serialize;

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A record is not as it was written.
    Altered,
    /// Records are missing.
    Deleted,
    /// Records stand in another order.
    Reordered,
    /// A record stands twice.
    Duplicated,
    /// Records are missing at the end, of which the head still knows.
    Truncated,
    /// The log is as it was once: a checkpoint from elsewhere, or the log itself, knows of more.
    RolledBack,
    /// A checkpoint, a head or a change of keys that the log's key has not signed.
    ForgedCheckpoint,
}

impl Kind {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Deleted => "deleted",
            Self::Reordered => "reordered",
            Self::Duplicated => "duplicated",
            Self::Truncated => "truncated",
            Self::RolledBack => "rolled back",
            Self::ForgedCheckpoint => "forged checkpoint",
        }
    }
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How.
    pub kind: Kind,
    /// The first record that it concerns.
    pub seq: u64,
    /// The last one, if there may be several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<u64>,
    /// The file in which it shows.
    pub file: PathBuf,
    /// The line on which it shows; 0: it shows in no line.
    pub line: u64,
    /// In words.
    pub detail: String,
}
