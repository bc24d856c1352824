//! Writes the terminal log: every byte of the terminal at its offset, the newest kept.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::kept::beside;
use crate::wire::service::log::{MARK, Mark, SEGMENT, first_offset, index, segment};

/// Bytes that come within this time of each other share a mark.
const PACE: Duration = Duration::from_millis(10);

/// The shortest segment.
const SHORTEST: u64 = 16 * 1024;

/// The log of one agent's terminal.
pub struct Log {
    directory: PathBuf,
    /// How much is kept of output and marks together, in bytes.
    kept: u64,
    /// Those that are complete, oldest first: first offset, and bytes on disk.
    complete: VecDeque<(u64, u64)>,
    current: Segment,
    end: u64,
    size: (u16, u16),
    marked: Option<Instant>,
}

struct Segment {
    first: u64,
    output: File,
    marks: File,
    marks_length: u64,
}

impl Log {
    /// Goes on with what is there, or begins. `kept`: how much stays, in bytes.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn open(directory: &Path, kept: u64, size: (u16, u16)) -> io::Result<Self> {
        begin(directory)?;
        let mut complete = VecDeque::from(found(directory)?);
        let end = complete.back().map_or(0, |(first, _)| *first)
            + complete.back().map_or(Ok(0), |(first, _)| length(&directory.join(segment(*first))))?;
        // An earlier run's last segment stays as it is, unless nothing was written to it.
        complete.retain(|(first, _)| *first != end);
        let current = Segment::begin(directory, end)?;
        let mut log = Self { directory: directory.into(), kept, complete, current, end, size, marked: None };
        log.make_room(0);
        log.mark(Some(size))?;
        Ok(log)
    }

    /// The offset of the next byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Appends as much as the disk takes; how much that was.
    ///
    /// # Errors
    /// As write(2): StorageFull when nothing at all could be written, even without the older segments.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.append_once(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) && self.give_way() => {}
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    /// From here on the terminal has another size.
    ///
    /// # Errors
    /// As write(2).
    pub fn resize(&mut self, size: (u16, u16)) -> io::Result<()> {
        self.size = size;
        self.mark(Some(size))
    }

    fn append_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let filled = self.end - self.current.first;
        if filled >= self.longest() || self.current.marks_length + MARK as u64 > self.longest() {
            self.begin_segment()?;
        }
        let room = self.longest() - (self.end - self.current.first);
        let part = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if self.current.marks_length == 0 {
            self.mark(Some(self.size))?;
        } else if self.marked.is_none_or(|at| at.elapsed() >= PACE) {
            self.mark(None)?;
        }
        let written = self.current.output.write(part)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.end += written as u64;
        Ok(written)
    }

    fn longest(&self) -> u64 {
        (self.kept / 4).clamp(SHORTEST, SEGMENT)
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        self.make_room(self.longest());
        let next = Segment::begin(&self.directory, self.end)?;
        let last = std::mem::replace(&mut self.current, next);
        self.complete.push_back((last.first, (self.end - last.first) + last.marks_length));
        self.mark(Some(self.size))
    }

    /// Removes the oldest until as much as is to come fits into what is kept.
    fn make_room(&mut self, to_come: u64) {
        let current = (self.end - self.current.first) + self.current.marks_length;
        let sum = |complete: &VecDeque<(u64, u64)>| complete.iter().map(|(_, bytes)| bytes).sum::<u64>();
        while sum(&self.complete) + current + to_come > self.kept && self.drop_oldest() {}
    }

    /// Makes room on a full disk, for what is newest is worth more: the oldest segment goes, in the end the one before the
    /// very last byte.
    fn give_way(&mut self) -> bool {
        if self.drop_oldest() {
            return true;
        }
        let has_some = self.end > self.current.first;
        // The first mark of the new segment may find no room yet: it is written with the first byte.
        if has_some {
            let _ = self.begin_segment();
        }
        has_some && self.drop_oldest()
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((first, _)) = self.complete.pop_front() else { return false };
        // Marks without output mean nothing; output without marks would.
        let _ = fs::remove_file(self.directory.join(segment(first)));
        let _ = fs::remove_file(self.directory.join(index(first)));
        true
    }

    fn mark(&mut self, size: Option<(u16, u16)>) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let mark = Mark { offset: self.end, at, size }.encode();
        let Segment { marks, marks_length, .. } = &mut self.current;
        if let Err(error) = marks.write_all(&mark) {
            // No half mark stays, or every later one would be read wrongly.
            marks.set_len(*marks_length)?;
            return Err(error);
        }
        *marks_length += MARK as u64;
        self.marked = Some(Instant::now());
        Ok(())
    }
}

/// The directory, which may have been made in advance.
fn begin(directory: &Path) -> io::Result<()> {
    if fs::rename(beside(directory), directory).is_ok() {
        return Ok(());
    }
    match fs::DirBuilder::new().mode(0o750).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

impl Segment {
    fn begin(directory: &Path, first: u64) -> io::Result<Self> {
        let open = |name: String| {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW);
            options.open(directory.join(name))
        };
        // The marks first: a reader that finds the output finds them, too.
        let marks = open(index(first))?;
        marks.set_len(0)?;
        Ok(Self { first, output: open(segment(first))?, marks, marks_length: 0 })
    }
}

/// The segments that are there, oldest first, each with its bytes on disk.
fn found(directory: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(first) = name.to_str().and_then(first_offset) else { continue };
        let marks = length(&directory.join(index(first))).unwrap_or(0);
        found.push((first, length(&directory.join(segment(first)))? + marks));
    }
    found.sort_unstable();
    Ok(found)
}

fn length(path: &Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.len())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(directory: &Path) -> (u64, Vec<u8>) {
        let found = found(directory).expect("listed");
        let first = found.first().expect("a segment").0;
        let mut bytes = Vec::new();
        for (at, _) in found {
            assert_eq!(at, first + bytes.len() as u64, "a gap between segments");
            bytes.extend(fs::read(directory.join(segment(at))).expect("read"));
        }
        (first, bytes)
    }

    fn pattern(from: u64, count: usize) -> Vec<u8> {
        (from..from + count as u64).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn the_newest_bytes_are_kept_at_their_offsets_and_no_more_than_was_asked_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let log_directory = directory.path().join("terminal");
        let kept = 256 * 1024;
        let mut log = Log::open(&log_directory, kept, (80, 24)).expect("opened");
        for _ in 0..100 {
            let bytes = pattern(log.end(), 10_000);
            assert_eq!(log.append(&bytes).expect("written"), bytes.len());
        }
        assert_eq!(log.end(), 1_000_000);
        let (first, bytes) = all(&log_directory);
        assert_eq!(first + bytes.len() as u64, 1_000_000);
        assert_eq!(bytes, pattern(first, bytes.len()));
        assert!(bytes.len() as u64 <= kept && bytes.len() as u64 > kept / 2, "{}", bytes.len());
    }

    #[test]
    fn every_segment_begins_with_a_mark_that_has_the_size() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = Log::open(directory.path(), 1 << 20, (80, 24)).expect("opened");
        log.append(&pattern(0, 10)).expect("written");
        log.resize((120, 40)).expect("marked");
        log.append(&pattern(10, 600_000)).expect("written");
        for (first, _) in found(directory.path()).expect("listed") {
            let marks = fs::read(directory.path().join(index(first))).expect("marks");
            let mark = Mark::decode(marks[..MARK].try_into().expect("one"));
            let size = if first == 0 { (80, 24) } else { (120, 40) };
            assert_eq!((mark.offset, mark.size), (first, Some(size)));
        }
    }

    #[test]
    fn a_later_run_goes_on_where_the_earlier_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        for run in 0..3 {
            let mut log = Log::open(directory.path(), 1 << 20, (80, 24)).expect("opened");
            assert_eq!(log.end(), run * 1000);
            let bytes = pattern(log.end(), 1000);
            log.append(&bytes).expect("written");
        }
        assert_eq!(all(directory.path()), (0, pattern(0, 3000)));
        drop(Log::open(directory.path(), 1 << 20, (80, 24)).expect("opened, and nothing written"));
        let log = Log::open(directory.path(), 1 << 20, (80, 24)).expect("opened");
        assert_eq!(log.end(), 3000);
    }

    #[test]
    fn a_full_disk_keeps_the_newest_and_never_stops_the_terminal() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_path_buf();
        // In a mount namespace of this thread's own, so that nothing of it is left.
        let thread = std::thread::spawn(move || {
            use nix::mount::{MsFlags, mount};
            let flags = nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS;
            nix::sched::unshare(flags).expect("a mount namespace: these tests run as root");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=256k")).expect("mounted");
            let mut log = Log::open(&path, 1 << 30, (80, 24)).expect("opened");
            while log.end() < 3_000_000 {
                let bytes = pattern(log.end(), 10_000);
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    rest = &rest[log.append(rest).expect("it gives way")..];
                }
            }
            let (first, bytes) = all(&path);
            assert_eq!(first + bytes.len() as u64, log.end());
            assert_eq!(bytes, pattern(first, bytes.len()));
            let marks = fs::read(path.join(index(first))).expect("marks");
            let mark = Mark::decode(marks[..MARK].try_into().expect("one"));
            assert_eq!((mark.offset, mark.size), (first, Some((80, 24))));
        });
        thread.join().expect("it holds");
    }

    #[test]
    fn many_small_writes_do_not_fill_the_disk_with_marks() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = Log::open(directory.path(), 64 * 1024, (80, 24)).expect("opened");
        for _ in 0..20_000 {
            log.resize((80, 24)).expect("marked");
            log.append(b"x").expect("written");
        }
        let sum: u64 = found(directory.path()).expect("listed").iter().map(|(_, bytes)| bytes).sum();
        assert!(sum <= 96 * 1024, "{sum} bytes");
    }
}
