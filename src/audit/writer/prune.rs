//! What is kept no longer: said in the log, signed, and only then removed.
//!
//! ```text
//!  ▸ pruned{through, hash} ▸ checkpoint, synced ▸ the files are removed, the oldest first
//! ```
//! A log that begins later than with record 1 is intact if it has such a record about all that is missing at its beginning.

use std::fs;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::Options;
use super::queue::now;
use super::store::{Store, StoreError, io_error};
use crate::audit::event::Event;
use crate::audit::record::Record;
use crate::audit::segment::{self, Segment, sync_directory_of};

/// How much of a log is kept. Can be set while it is written; whole segments count.
#[derive(Debug)]
pub struct Keep {
    bytes: AtomicU64,
    seconds: AtomicU64,
    /// Counts changes.
    turn: AtomicU64,
}

impl Default for Keep {
    /// All of it, for ever.
    fn default() -> Self {
        Self { bytes: u64::MAX.into(), seconds: u64::MAX.into(), turn: 0.into() }
    }
}

impl Keep {
    /// So many bytes, and so long; none: without a limit.
    pub fn set(&self, bytes: Option<u64>, time: Option<Duration>) {
        self.bytes.store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.seconds.store(time.map_or(u64::MAX, |time| time.as_secs()), Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Release);
    }

    /// How often that was changed.
    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// How many of these segments, the oldest first, are kept no longer. The last one always is.
    fn surplus(&self, segments: &[(Segment, u64, SystemTime)]) -> usize {
        let (most, oldest) = (self.bytes.load(Ordering::Relaxed), self.seconds.load(Ordering::Relaxed));
        let mut all: u64 = segments.iter().map(|(_, bytes, _)| bytes).sum();
        let mut count = 0;
        for (_, bytes, last) in segments.iter().take(segments.len().saturating_sub(1)) {
            let age = last.elapsed().map_or(0, |age| age.as_secs());
            if all <= most && age <= oldest {
                break;
            }
            all -= bytes;
            count += 1;
        }
        count
    }
}

impl Store {
    /// Removes what is kept no longer, after it was said.
    pub fn prune(&mut self, options: &Options) -> Result<(), StoreError> {
        let failed = || io_error("list", &options.dir);
        let mut segments = Vec::new();
        for segment in segment::list(&options.dir).map_err(failed())? {
            let about = fs::metadata(&segment.path).map_err(failed())?;
            let last = about.modified().map_err(failed())?;
            segments.push((segment, about.len(), last));
        }
        let count = options.keep.surplus(&segments);
        if count == 0 {
            return Ok(());
        }
        let next = &segments[count].0;
        let hash = hash_before(next)?;
        let bytes = segments[..count].iter().map(|(_, bytes, _)| bytes).sum();
        let event = Event::Pruned { through: next.first - 1, hash, segments: count as u64, bytes };
        self.say_sealed(&now(), &event)?;
        for (segment, ..) in &segments[..count] {
            fs::remove_file(&segment.path).map_err(io_error("remove", &segment.path))?;
        }
        sync_directory_of(&next.path).map_err(io_error("sync", &options.dir))
    }
}

/// Of the last record before this segment.
fn hash_before(segment: &Segment) -> Result<crate::audit::Digest, StoreError> {
    let failed = || io_error("read", &segment.path);
    let mut line = Vec::new();
    let file = fs::File::open(&segment.path).map_err(failed())?;
    BufReader::new(file).read_until(b'\n', &mut line).map_err(failed())?;
    let record = Record::parse(line.strip_suffix(b"\n").unwrap_or(&line));
    let wrong = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "its first record is none");
    record.map(|record| record.prev).map_err(wrong).map_err(failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_the_last_stays_whatever_is_said() {
        let now = SystemTime::now();
        let segment = |first, bytes, age| {
            let segment = Segment { first, path: "x".into() };
            (segment, bytes, now - Duration::from_secs(age))
        };
        let segments = [segment(1, 50, 5000), segment(10, 50, 500), segment(20, 50, 1)];
        let surplus = |bytes, seconds: Option<u64>| {
            let keep = Keep::default();
            keep.set(bytes, seconds.map(Duration::from_secs));
            keep.surplus(&segments)
        };
        assert_eq!(surplus(None, None), 0);
        assert_eq!([150, 149, 100, 99, 0].map(|bytes| surplus(Some(bytes), None)), [0, 1, 1, 2, 2]);
        assert_eq!([6000, 1000, 100].map(|age| surplus(None, Some(age))), [0, 1, 2]);
    }
}
