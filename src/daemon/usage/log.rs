//! The node's usage log: records appended and synced by one thread, many at a time; what was used is nowhere else.
//!
//! ```text
//!  var/lib/stockade/daemon/usage/
//!    0000000000000001.jsonl      each named after its first record, a record a line
//!    ledger.json                 what they come to, up to some record: so that a start need not read all of them
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tracing::warn;

use super::Waiting;
use super::ledger::Ledger;
use crate::api::usage::Record;
use crate::audit::segment::{self, Segment};

/// Bytes of one file.
const SEGMENT: u64 = 8 << 20;

/// A disk that takes nothing is tried again after so long.
const AGAIN: Duration = Duration::from_millis(250);

/// Records in one write.
const BATCH: usize = 1024;

/// What they come to.
const LEDGER: &str = "ledger.json";

/// What the log is told, in order.
pub(super) enum Entry {
    /// To be written, and whom to tell that it is on disk.
    Record(Box<Record>, oneshot::Sender<()>),
    /// This agent is no more.
    Forget(String),
    /// No more bytes of records are kept than this.
    Keep(u64),
}

/// The end of the log.
pub(super) struct Log {
    dir: PathBuf,
    keep: u64,
    file: File,
    /// Bytes of the file that are records.
    length: u64,
    next: u64,
    /// What is on disk.
    ledger: Ledger,
}

impl Log {
    /// Opens it, cuts off a line that broke off, and adds up what is there.
    pub(super) fn open(dir: &Path, keep: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut ledger = read_ledger(dir);
        let segments = segment::list(dir)?;
        let mut next = ledger.through + 1;
        for (at, segment) in segments.iter().enumerate() {
            let behind = segments.get(at + 1).map_or(u64::MAX, |later| later.first);
            next = segment.first.max(next);
            if behind > ledger.through {
                next = replay(segment, &mut ledger)?;
            }
        }
        let path = segments.last().map_or_else(|| dir.join(segment::name(next)), |last| last.path.clone());
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { dir: dir.into(), keep, file, length, next, ledger })
    }

    /// What is on disk.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes what comes, until nobody can send any more.
    pub(super) fn run(mut self, entries: &Receiver<Entry>, synced: &watch::Sender<u64>, not_yet: &Waiting) {
        self.take(entries, synced, not_yet);
    }

    pub(super) fn take(&mut self, entries: &Receiver<Entry>, synced: &watch::Sender<u64>, not_yet: &Waiting) {
        let mut waiting: Vec<Entry> = Vec::new();
        loop {
            let first = if waiting.is_empty() {
                entries.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                entries.recv_timeout(AGAIN)
            };
            let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
            waiting.extend(first);
            waiting.extend(entries.try_iter().take(BATCH));
            match self.write(&waiting) {
                Ok(()) => {
                    synced.send_replace(self.next - 1);
                    settle(not_yet, &waiting);
                    waiting.drain(..).for_each(|entry| self.done(entry));
                }
                Err(error) => warn!(%error, records = waiting.len(), "usage cannot be recorded"),
            }
            if is_over {
                return;
            }
        }
    }

    fn write(&mut self, entries: &[Entry]) -> io::Result<()> {
        let records = entries.iter().filter_map(|entry| match entry {
            Entry::Record(record, _) => Some(&**record),
            Entry::Forget(_) | Entry::Keep(_) => None,
        });
        let number =
            |(record, number): (&Record, u64)| Record { sequence: format!("{number:016}"), ..record.clone() };
        let records: Vec<Record> = records.zip(self.next..).map(number).collect();
        if records.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for record in &records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What is half written is no record.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += text.len() as u64;
        self.next += records.len() as u64;
        records.iter().for_each(|record| self.ledger.apply(record));
        if self.length >= SEGMENT {
            // Its records are on disk: what cannot be tidied up now is at the next turn.
            self.turn().unwrap_or_else(|error| warn!(%error, "the usage log goes on in its old file"));
        }
        Ok(())
    }

    /// What was written before it is on disk.
    fn done(&mut self, entry: Entry) {
        match entry {
            // Whoever waited may have given up.
            Entry::Record(_, done) => done.send(()).unwrap_or_default(),
            Entry::Forget(agent) => drop(self.ledger.marks.remove(&agent)),
            Entry::Keep(bytes) => self.keep = bytes,
        }
    }

    /// Goes on in a new file.
    fn turn(&mut self) -> io::Result<()> {
        let path = self.dir.join(segment::name(self.next));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        segment::sync_directory_of(&path)?;
        (self.file, self.length) = (file, 0);
        self.keep_ledger()?;
        let mut kept = 0;
        for segment in segment::list(&self.dir)?.iter().rev() {
            kept += fs::metadata(&segment.path)?.len();
            if kept > self.keep && segment.first < self.next {
                fs::remove_file(&segment.path)?;
            }
        }
        Ok(())
    }

    fn keep_ledger(&self) -> io::Result<()> {
        let (path, beside) = (self.dir.join(LEDGER), self.dir.join("ledger.json~"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(&self.ledger)?)?;
        file.sync_all()?;
        fs::rename(beside, &path)?;
        segment::sync_directory_of(&path)
    }

    /// Forgets how far agents are recorded that are no more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.ledger.marks.retain(|agent, _| is_there(agent));
    }
}

/// These are on disk.
fn settle(not_yet: &Waiting, entries: &[Entry]) {
    let mut not_yet = not_yet.lock().unwrap_or_else(PoisonError::into_inner);
    for entry in entries {
        let Entry::Record(record, _) = entry else { continue };
        if let Some(count) = not_yet.get_mut(&record.subject) {
            *count -= 1;
            if *count == 0 {
                not_yet.remove(&record.subject);
            }
        }
    }
}

/// Without one, or with one that is not whole, everything is added up anew.
fn read_ledger(dir: &Path) -> Ledger {
    fs::read(dir.join(LEDGER)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Adds up what is behind the ledger in one file; the number after its last record.
fn replay(segment: &Segment, ledger: &mut Ledger) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(&segment.path)?);
    let (mut number, mut whole, mut line) = (segment.first, 0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(number);
        }
        if !line.ends_with(b"\n") {
            // Power was cut while it was written; nobody was told that it is there.
            warn!(path = %segment.path.display(), "a usage record broke off, and is cut off");
            let file = OpenOptions::new().write(true).open(&segment.path)?;
            file.set_len(whole)?;
            file.sync_all()?;
            return Ok(number);
        }
        whole += read as u64;
        match serde_json::from_slice::<Record>(&line) {
            Ok(record) if number > ledger.through => ledger.apply(&record),
            Ok(_) => {}
            Err(error) => warn!(path = %segment.path.display(), number, %error, "this is no usage record"),
        }
        number += 1;
    }
}

/// Reads the records behind `since`, while others are written.
pub(crate) struct Reader {
    dir: PathBuf,
    next: u64,
    open: Option<(u64, BufReader<File>)>,
}

impl Reader {
    /// Behind this record.
    pub(crate) fn new(dir: PathBuf, since: u64) -> Self {
        Self { dir, next: since.saturating_add(1), open: None }
    }

    /// Whole lines up to record `synced`, about `most` bytes; nothing: that was all.
    pub(crate) fn lines(&mut self, synced: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        while self.next <= synced && lines.len() < most {
            if self.open.is_none() && !self.open_segment()? {
                break;
            }
            let Some((at, file)) = &mut self.open else { break };
            let start = lines.len();
            if file.read_until(b'\n', &mut lines)? == 0 {
                // It goes on in the next file.
                self.open = None;
                if !segment::list(&self.dir)?.iter().any(|segment| segment.first == self.next) {
                    break;
                }
                continue;
            }
            if *at < self.next {
                lines.truncate(start);
            } else {
                self.next = *at + 1;
            }
            *at += 1;
        }
        Ok(lines)
    }

    fn open_segment(&mut self) -> io::Result<bool> {
        let segments = segment::list(&self.dir)?;
        let at = segments.partition_point(|segment| segment.first <= self.next);
        let Some(segment) = segments.get(at.saturating_sub(1)) else { return Ok(false) };
        // What was kept no longer is left out.
        self.next = self.next.max(segment.first);
        self.open = Some((segment.first, BufReader::new(File::open(&segment.path)?)));
        Ok(true)
    }
}
