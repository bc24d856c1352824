//! What a CA has issued and revoked: one JSON object a line, only ever added to.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{PkiError, Result, files};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Entry {
    /// A certificate was made.
    #[serde(rename_all = "camelCase")]
    Issued {
        /// Hexadecimal.
        serial: String,
        /// Its file's stem.
        name: String,
        /// Who it is for: a SPIFFE id, or names and addresses.
        identity: Vec<String>,
        /// Until when, ISO 8601.
        not_after: String,
    },
    /// It was revoked.
    #[serde(rename_all = "camelCase")]
    Revoked {
        /// Hexadecimal.
        serial: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// A CRL was written.
    Crl {
        /// Its number; grows.
        number: u64,
    },
}

/// The index of one directory, locked while it is held: two programs never write the same CRL number.
pub struct Index {
    path: PathBuf,
    file: File,
    /// The oldest first.
    pub entries: Vec<Entry>,
}

impl Index {
    /// Waits for the lock and reads it.
    ///
    /// # Errors
    /// As files go, and when a line is none.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("index.ndjson");
        let failed = |what, source| PkiError::File { what, path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(files::SECRET)
            .open(&path)
            .map_err(|source| failed("open", source))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| failed("lock", errno.into()))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|source| failed("read", source))?;
        let parsed = text.lines().enumerate().map(|(at, line)| {
            serde_json::from_str(line).map_err(|_| PkiError::Index { path: path.clone(), line: at + 1 })
        });
        let entries = parsed.collect::<Result<_>>()?;
        Ok(Self { path, file, entries })
    }

    /// Adds a line, on disk before this returns.
    ///
    /// # Errors
    /// As files go.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        let mut line = serde_json::to_vec(&entry).expect("an entry is always JSON");
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_all());
        written.map_err(|source| PkiError::File { what: "write", path: self.path.clone(), source })?;
        self.entries.push(entry);
        Ok(())
    }
}
