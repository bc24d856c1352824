//! The files of a log that is written: appended to, synced, rotated, mended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Options;
use super::queue::{Entry, now};
use crate::audit::SCHEMA;
use crate::audit::chain::Chain;
use crate::audit::event::Event;
use crate::audit::head::{Head, is_at};
use crate::audit::key::{Key, KeyError};
use crate::audit::seal::{self, Seal};
use crate::audit::segment::{self, HEAD, sync_directory_of};
use crate::audit::text::Word;
use crate::audit::ticket::Unavailable;

/// With nothing to sign: how long the thread sleeps.
const IDLE: Duration = Duration::from_secs(60);

/// Why the log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file.
    #[error("cannot {verb} {}: {source}", path.display())]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    /// It is not there any more.
    #[error("{} was removed or replaced while the service wrote it: put it back, or empty the directory", path.display())]
    Gone { path: PathBuf },
    /// The key.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// It is not as it was left.
    #[error("{} was tampered with ({detail}): look with `stockade audit verify`, and move it away to begin another", dir.display())]
    Tampered { dir: PathBuf, detail: String },
}

impl StoreError {
    /// For the log itself.
    pub fn word(&self) -> Word {
        Word::new(match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "disk-full",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::QuotaExceeded => "disk-full",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => "gone",
            Self::Io { .. } => "failed",
            Self::Gone { .. } => "gone",
            Self::Key(_) => "key",
            Self::Tampered { .. } => "tampered",
        })
    }
}

impl From<&StoreError> for Unavailable {
    fn from(error: &StoreError) -> Self {
        Self { reason: error.to_string() }
    }
}

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Self {
        (&error).into()
    }
}

pub fn io_error(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { verb, path, source }
}

/// A log, open.
pub struct Store {
    pub key: Key,
    pub chain: Chain,
    pub segment: OpenSegment,
    pub head: Head,
    pub head_path: PathBuf,
    /// Records since the last checkpoint.
    pub unsealed: u64,
    pub sealed: Instant,
    /// What is behind `segment.length` may be anything.
    pub broken: bool,
}

/// The segment that is written to.
pub struct OpenSegment {
    pub file: File,
    pub path: PathBuf,
    /// Bytes that are synced.
    pub length: u64,
    /// When it was begun.
    pub since: jiff::Timestamp,
}

impl Store {
    /// The last record.
    pub fn end(&self) -> u64 {
        self.chain.seq
    }

    /// How long until a checkpoint is due.
    pub fn next_seal(&self, options: &Options) -> Duration {
        if self.unsealed == 0 { IDLE } else { options.seal_after.saturating_sub(self.sealed.elapsed()) }
    }

    /// Appends these and syncs them, with a checkpoint if one is due. The number of the last of them.
    pub fn commit(&mut self, entries: &[Entry], options: &Options) -> Result<u64, StoreError> {
        let before = (self.chain.clone(), self.unsealed);
        let mut lines = Vec::new();
        for entry in entries {
            self.chain.append(&mut lines, &entry.at, &entry.event);
        }
        let last = self.chain.seq;
        self.unsealed += entries.len() as u64;
        let due = self.unsealed >= options.seal_records || self.sealed.elapsed() >= options.seal_after;
        let result = self.write(lines, due && self.unsealed > 0);
        if result.is_err() {
            (self.chain, self.unsealed) = before;
        }
        result.map(|()| last)
    }

    /// A checkpoint over everything, if there is anything new.
    pub fn seal(&mut self) -> Result<(), StoreError> {
        if self.unsealed == 0 {
            return Ok(());
        }
        let before = (self.chain.clone(), self.unsealed);
        let result = self.write(Vec::new(), true);
        if result.is_err() {
            (self.chain, self.unsealed) = before;
        }
        result
    }

    /// What stands in `lines` is on disk afterwards, and the head says so; or nothing of it is.
    fn write(&mut self, mut lines: Vec<u8>, seal: bool) -> Result<(), StoreError> {
        let at = now();
        if seal {
            let seal = Seal::sign(&self.key, &self.chain.log, self.chain.seq, self.chain.hash, &at);
            self.chain.append(&mut lines, &at, &Event::Checkpoint { seal });
        }
        if lines.is_empty() {
            return Ok(());
        }
        let head = Seal::sign(&self.key, &self.chain.log, self.chain.seq, self.chain.hash, &at);
        // Until all of it is there, nothing of it is.
        self.broken = true;
        if let Err(error) = self
            .append(&lines)
            .and_then(|()| self.head.renew(&head).map_err(io_error("write", &self.head_path)))
        {
            // If this fails, too, it is tried again before anything is written.
            let _ = self.segment.file.set_len(self.segment.length);
            return Err(error);
        }
        self.broken = false;
        self.segment.length += lines.len() as u64;
        if seal {
            (self.unsealed, self.sealed) = (0, Instant::now());
            // An older head than the log is no harm; whatever keeps this from being synced will keep the log from it, too.
            let _ = self.head.sync();
        }
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), StoreError> {
        let OpenSegment { file, path, .. } = &mut self.segment;
        file.write_all(lines).map_err(io_error("write", path))?;
        file.sync_data().map_err(io_error("sync", path))?;
        // A file that was removed can be written to, and is gone all the same.
        self.in_place()
    }

    fn in_place(&self) -> Result<(), StoreError> {
        let gone = |path: &Path| Err(StoreError::Gone { path: path.into() });
        match () {
            () if !is_at(&self.segment.file, &self.segment.path) => gone(&self.segment.path),
            () if !self.head.is_at(&self.head_path) => gone(&self.head_path),
            () => Ok(()),
        }
    }

    /// Makes it possible to write again, after something failed.
    pub fn mend(&mut self, options: &Options) -> Result<(), StoreError> {
        if !self.broken {
            return Ok(());
        }
        match self.in_place() {
            Ok(()) => {
                let OpenSegment { file, path, length, .. } = &self.segment;
                file.set_len(*length).map_err(io_error("truncate", path))?;
            }
            Err(gone) => {
                // An empty directory is somebody's decision: the log goes on, and verification tells what is missing.
                let left = segment::list(&options.dir).map_err(io_error("list", &options.dir))?;
                if !left.is_empty() {
                    return Err(gone);
                }
                self.head = Head::open(&self.head_path).map_err(io_error("open", &self.head_path))?;
                self.begin_segment(options)?;
            }
        }
        self.broken = false;
        Ok(())
    }

    /// One record of the log's own, with a checkpoint over it.
    pub fn say_sealed(&mut self, at: &str, event: &Event) -> Result<(), StoreError> {
        let before = (self.chain.clone(), self.unsealed);
        let mut line = Vec::new();
        self.chain.append(&mut line, at, event);
        let result = self.write(line, true);
        if result.is_err() {
            (self.chain, self.unsealed) = before;
        }
        result
    }

    /// Ends a segment that is long or old enough; whether it did.
    pub fn rotate_if_due(&mut self, options: &Options) -> Result<bool, StoreError> {
        let age = jiff::Timestamp::now().duration_since(self.segment.since).unsigned_abs();
        if self.segment.length < options.segment_bytes && age < options.segment_age {
            return Ok(false);
        }
        self.seal()?;
        self.begin_segment(options)?;
        Ok(true)
    }

    fn begin_segment(&mut self, options: &Options) -> Result<(), StoreError> {
        let mut chain = self.chain.clone();
        self.segment = begin(&options.dir, &mut chain)?;
        self.chain = chain;
        self.unsealed += 1;
        self.renew_head()
    }

    /// Both slots, synced.
    pub fn renew_head(&mut self) -> Result<(), StoreError> {
        let head = Seal::sign(&self.key, &self.chain.log, self.chain.seq, self.chain.hash, &now());
        write_whole_head(&mut self.head, &head).map_err(io_error("write", &self.head_path))
    }

    /// Signs with another key from here on. The number of the record that says so.
    pub fn rotate_key(&mut self, options: &Options) -> Result<u64, StoreError> {
        let next = options.key.with_extension("next");
        if Key::load(&next).is_ok_and(|key| key.public() == self.key.public()) {
            // The last rotation was announced, and not brought to its end.
            let failed = io_error("rename", &next);
            fs::rename(&next, &options.key).and_then(|()| sync_directory_of(&options.key)).map_err(failed)?;
        }
        // One that was never announced is worth nothing.
        let _ = fs::remove_file(&next);
        let key = Key::make(&next)?;
        let public_key = key.public();
        let signature = self.key.sign(&seal::rotation(&self.chain.log, &public_key));
        let by = self.key.public().id();
        let event = Event::KeyRotated { key_id: public_key.id(), public_key, by, signature };
        let before = self.chain.clone();
        let mut line = Vec::new();
        let last = self.chain.append(&mut line, &now(), &event);
        // No checkpoint with it: what follows this record is signed by the other key.
        self.write(line, false).inspect_err(|_| self.chain = before)?;
        self.key = key;
        self.unsealed += 1;
        self.seal()?;
        let failed = io_error("rename", &next);
        fs::rename(&next, &options.key).and_then(|()| sync_directory_of(&options.key)).map_err(failed)?;
        Ok(last)
    }
}

/// Both slots, synced.
pub fn write_whole_head(head: &mut Head, seal: &Seal) -> io::Result<()> {
    head.renew(seal)?;
    head.renew(seal)?;
    head.sync()
}

/// Begins a segment with its first record.
pub fn begin(dir: &Path, chain: &mut Chain) -> Result<OpenSegment, StoreError> {
    let path = dir.join(segment::name(chain.seq + 1));
    let since = jiff::Timestamp::now();
    let event = Event::SegmentOpened {
        log: chain.log.clone(),
        schema: SCHEMA,
        key_id: chain.public.id(),
        public_key: chain.public,
        open: chain.open.iter().copied().collect(),
    };
    let mut line = Vec::new();
    chain.append(&mut line, &now(), &event);
    let made = (|| {
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o640).open(&path)?;
        file.write_all(&line)?;
        file.sync_all()?;
        sync_directory_of(&path)?;
        Ok(file)
    })();
    match made {
        Ok(file) => Ok(OpenSegment { file, path, length: line.len() as u64, since }),
        Err(source) => {
            if io::Error::kind(&source) != io::ErrorKind::AlreadyExists {
                // Half a segment would be in the way of the next attempt.
                let _ = fs::remove_file(&path);
            }
            Err(StoreError::Io { verb: "make", path, source })
        }
    }
}

/// The head of the log in this directory.
pub fn head_path(options: &Options) -> PathBuf {
    options.dir.join(HEAD)
}
