//! Reads the log as it stands in the files, while it is written: whole lines, from some record on.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use super::record::Record;
use super::segment::{self, Segment};

/// A place in the log.
pub struct Reader {
    dir: PathBuf,
    /// The next record.
    next: u64,
    open: Option<(Segment, BufReader<File>)>,
}

impl Reader {
    /// Behind record `since`; 0: at the beginning.
    pub fn new(dir: impl Into<PathBuf>, since: u64) -> Self {
        Self { dir: dir.into(), next: since.saturating_add(1), open: None }
    }

    /// The record that was read last.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// The next lines, byte for byte, up to record `synced`, and about `most` bytes of them; nothing: that was all.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn lines(&mut self, synced: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        while self.next <= synced && lines.len() < most {
            if self.open.is_none() && !self.open_segment()? {
                break;
            }
            let Some((_, file)) = &mut self.open else { break };
            let start = lines.len();
            let read = file.read_until(b'\n', &mut lines)?;
            match Record::seq_of(&lines[start..]) {
                Some(seq) if lines.ends_with(b"\n") && seq <= synced => {
                    if seq < self.next {
                        lines.truncate(start);
                    } else {
                        self.next = seq + 1;
                    }
                }
                // The end of the segment: a whole one is followed by another.
                None if read == 0 => {
                    if !self.goes_on()? {
                        break;
                    }
                }
                // Not synced yet, or being written.
                _ => {
                    lines.truncate(start);
                    file.seek(SeekFrom::Current(-i64::try_from(read).map_err(io::Error::other)?))?;
                    break;
                }
            }
        }
        Ok(lines)
    }

    /// Opens the segment that the next record is in, or the first behind it.
    fn open_segment(&mut self) -> io::Result<bool> {
        let segments = segment::list(&self.dir)?;
        let at = segments.partition_point(|segment| segment.first <= self.next);
        let Some(segment) = segments.get(at.saturating_sub(1)) else { return Ok(false) };
        let file = BufReader::new(File::open(&segment.path)?);
        self.open = Some((segment.clone(), file));
        Ok(true)
    }

    /// Leaves a segment that was read, if there is a later one.
    fn goes_on(&mut self) -> io::Result<bool> {
        let Some((read, _)) = &self.open else { return Ok(false) };
        let segments = segment::list(&self.dir)?;
        let Some(later) = segments.into_iter().find(|segment| segment.first > read.first) else {
            return Ok(false);
        };
        self.open = Some((later.clone(), BufReader::new(File::open(&later.path)?)));
        Ok(true)
    }
}
