//! The files of a log: each is named after its first record.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How far the log reaches, beside the segments.
pub const HEAD: &str = "head";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its first record.
    pub first: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// The file name of the segment that begins with this record.
pub fn name(first: u64) -> String {
    format!("{first:016}.jsonl")
}

/// The number in such a name.
pub fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jsonl")?;
    let plain = digits.len() == 16 && digits.bytes().all(|c| c.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// All segments in a directory, in order.
///
/// # Errors
/// When it cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(first) = entry.file_name().to_str().and_then(first_of) {
            found.push(Segment { first, path: entry.path() });
        }
    }
    found.sort();
    Ok(found)
}

/// Makes what was made, renamed or removed beside `path` survive a power cut.
///
/// # Errors
/// As fsync(2).
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
