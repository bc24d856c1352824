//! `--report FILE`: the attestation and the outcome as one JSON document.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cgroup::Usage;
use crate::shim::Outcome;
use crate::shim::attestation::Attestation;
use crate::shim::denials::Denial;
use crate::sys::process::End;

/// A report that will be written; opened before the agent starts, so that a bad path is known at once.
pub struct Report {
    path: PathBuf,
    file: File,
}

/// The document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    attestation: &'a Attestation,
    exit: Exit,
    usage: &'a Usage,
    denials: &'a [Denial],
    landlock_audit: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exit {
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    out_of_memory: bool,
}

impl Report {
    /// Opens the file, empty.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), file: File::create(path)? })
    }

    /// Writes it all.
    pub fn write(mut self, outcome: &Outcome) -> io::Result<()> {
        let signal = match outcome.end {
            End::Exited(_) => None,
            End::Signaled(signal) => Some(signal),
        };
        let document = Document {
            attestation: &outcome.attestation,
            exit: Exit { code: outcome.end.code(), signal, out_of_memory: outcome.out_of_memory },
            usage: &outcome.usage,
            denials: &outcome.denials,
            landlock_audit: outcome.landlock_audit.to_string(),
        };
        let mut text = serde_json::to_vec_pretty(&document)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }

    /// Takes the empty file away again, after a start that failed.
    pub fn abandon(self) {
        if self.file.metadata().is_ok_and(|found| found.is_file() && found.len() == 0) {
            let _ = std::fs::remove_file(self.path);
        }
    }
}
