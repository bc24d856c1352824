//! The log's files: where they are, what is in them, and what is no longer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::wire::service::log::{self, MARK, Mark};
use crate::wire::service::places;

/// One agent's log.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    directory: Arc<Path>,
}

impl Log {
    /// Of the agent with this directory.
    pub(crate) fn of(agent: &Path) -> Self {
        Self { directory: agent.join(places::TERMINAL).into() }
    }

    /// The first offsets of its segments, in order.
    pub(crate) fn segments(&self) -> io::Result<Vec<u64>> {
        let entries = match std::fs::read_dir(&self.directory) {
            // It has put nothing out yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut firsts = Vec::new();
        for entry in entries {
            firsts.extend(entry?.file_name().to_str().and_then(log::first_offset));
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    /// The oldest offset that is kept and the offset of the next byte, as the files say.
    pub(crate) fn extent(&self) -> io::Result<(u64, u64)> {
        let segments = self.segments()?;
        let (Some(oldest), Some(newest)) = (segments.first(), segments.last()) else { return Ok((0, 0)) };
        let length = std::fs::metadata(self.path(*newest)).map(|file| file.len()).unwrap_or(0);
        Ok((*oldest, newest + length))
    }

    /// When something was last written, in milliseconds since 1970.
    pub(crate) fn written(&self) -> Option<u64> {
        let newest = self.segments().ok()?.last().copied()?;
        let modified = std::fs::metadata(self.path(newest)).ok()?.modified().ok()?;
        u64::try_from(modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
    }

    /// The marks of one segment; none, if it is gone.
    pub(crate) fn marks(&self, first: u64) -> Vec<Mark> {
        let bytes = std::fs::read(self.directory.join(log::index(first))).unwrap_or_default();
        // A mark that was cut off by a power cut is none.
        bytes.chunks_exact(MARK).map(|mark| Mark::decode(mark.try_into().expect("a mark's length"))).collect()
    }

    fn path(&self, first: u64) -> PathBuf {
        self.directory.join(log::segment(first))
    }
}

/// What lies at a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing any more; the next bytes that are kept begin here.
    Gap(u64),
    /// Nothing yet.
    Nothing,
}

/// A place in the log. It keeps its segment open: rotation does not take away what is being read.
#[derive(Debug)]
pub(crate) struct Position {
    log: Log,
    /// Of the next byte.
    pub(crate) offset: u64,
    open: Option<(u64, File)>,
}

impl Position {
    /// At this offset.
    pub(crate) fn new(log: Log, offset: u64) -> Self {
        Self { log, offset, open: None }
    }

    /// Goes elsewhere.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.offset = offset;
        self.open = None;
    }

    /// Reads on, at most `most` bytes. A gap is not skipped: the caller seeks.
    pub(crate) fn read(&mut self, most: usize) -> io::Result<Found> {
        if let Some(bytes) = self.read_open(most)? {
            return Ok(Found::Bytes(bytes));
        }
        // Twice: a segment may be rotated away between the list and its opening.
        for _ in 0..2 {
            self.open = None;
            let segments = self.log.segments()?;
            let after = segments.partition_point(|first| *first <= self.offset);
            let next = segments.get(after).copied();
            if let Some(first) = after.checked_sub(1).map(|at| segments[at]) {
                match File::open(self.log.path(first)) {
                    Ok(file) => self.open = Some((first, file)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                if let Some(bytes) = self.read_open(most)? {
                    return Ok(Found::Bytes(bytes));
                }
            }
            return Ok(next.map_or(Found::Nothing, Found::Gap));
        }
        Ok(Found::Nothing)
    }

    fn read_open(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let Some((first, file)) = &self.open else { return Ok(None) };
        let mut bytes = vec![0; most];
        let count = file.read_at(&mut bytes, self.offset - first)?;
        bytes.truncate(count);
        self.offset += count as u64;
        Ok((count > 0).then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn written(segments: &[(u64, &str)]) -> (tempfile::TempDir, Log) {
        let agent = tempfile::tempdir().expect("a directory");
        let log = Log::of(agent.path());
        fs::create_dir(&*log.directory).expect("made");
        for (first, text) in segments {
            fs::write(log.path(*first), text).expect("written");
        }
        (agent, log)
    }

    #[test]
    fn reading_goes_over_the_ends_of_segments_without_a_lost_or_doubled_byte() {
        let (_agent, log) = written(&[(0, "abc"), (3, "de"), (5, "f")]);
        let mut position = Position::new(log.clone(), 1);
        let mut all = Vec::new();
        while let Found::Bytes(bytes) = position.read(2).expect("read") {
            all.extend(bytes);
        }
        assert_eq!(all, b"bcdef");
        assert_eq!(log.extent().expect("read"), (0, 6));
    }

    #[test]
    fn what_was_rotated_away_is_a_gap_and_what_is_being_read_is_not() {
        let (_agent, log) = written(&[(0, "abc"), (3, "de"), (5, "f")]);
        let mut reading = Position::new(log.clone(), 0);
        assert_eq!(reading.read(1).expect("read"), Found::Bytes(b"a".into()));
        fs::remove_file(log.path(0)).expect("removed");
        fs::remove_file(log.path(3)).expect("removed");
        assert_eq!(reading.read(9).expect("read"), Found::Bytes(b"bc".into()));
        assert_eq!(reading.read(9).expect("read"), Found::Gap(5));
        assert_eq!(Position::new(log, 0).read(9).expect("read"), Found::Gap(5));
    }

    #[test]
    fn a_segment_that_a_power_cut_shortened_ends_where_it_ends() {
        let (_agent, log) = written(&[(0, "ab")]);
        let mut position = Position::new(log, 0);
        assert_eq!(position.read(9).expect("read"), Found::Bytes(b"ab".into()));
        assert_eq!(position.read(9).expect("read"), Found::Nothing);
    }

    #[test]
    fn an_agent_that_has_put_nothing_out_has_an_empty_log() {
        let agent = tempfile::tempdir().expect("a directory");
        let log = Log::of(agent.path());
        assert_eq!(log.extent().expect("read"), (0, 0));
        assert_eq!(Position::new(log, 0).read(9).expect("read"), Found::Nothing);
    }
}
