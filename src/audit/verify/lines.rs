//! The lines of all segments, one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::VerifyError;
use crate::audit::record::LONGEST;
use crate::audit::segment::Segment;

/// One line.
pub struct Line {
    /// Which file it is in.
    pub segment: usize,
    /// From 1.
    pub number: u64,
    /// Without the line break.
    pub bytes: Vec<u8>,
    /// Whether a line break was there.
    pub ended: bool,
}

/// Reads on and on.
pub struct Lines {
    segments: Vec<Segment>,
    at: usize,
    number: u64,
    file: Option<BufReader<File>>,
}

impl Lines {
    /// Of these files.
    pub fn new(segments: Vec<Segment>) -> Self {
        Self { segments, at: 0, number: 0, file: None }
    }

    /// From the beginning again.
    pub fn anew(&self) -> Self {
        Self::new(self.segments.clone())
    }

    /// The file with this number.
    pub fn path(&self, segment: usize) -> PathBuf {
        self.segments.get(segment).map(|segment| segment.path.clone()).unwrap_or_default()
    }

    /// The last file.
    pub fn last_path(&self) -> PathBuf {
        self.path(self.segments.len().saturating_sub(1))
    }

    /// Whether a line is in the last file.
    pub fn is_in_last(&self, line: &Line) -> bool {
        line.segment + 1 == self.segments.len()
    }

    /// Whether a line's file is named after this record.
    pub fn is_named(&self, line: &Line, first: u64) -> bool {
        self.segments.get(line.segment).is_some_and(|segment| segment.first == first)
    }

    /// The next one.
    pub fn next(&mut self) -> Result<Option<Line>, VerifyError> {
        while let Some(segment) = self.segments.get(self.at) {
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(BufReader::new(open(&segment.path)?)),
            };
            let failed = |source| VerifyError::Read { path: segment.path.clone(), source };
            let mut bytes = Vec::new();
            // A line without end must not fill the memory: what is longer is no record in any case.
            let most = LONGEST as u64 + 2;
            if file.take(most).read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
                (self.at, self.number, self.file) = (self.at + 1, 0, None);
                continue;
            }
            self.number += 1;
            let ended = bytes.pop_if(|last| *last == b'\n').is_some();
            return Ok(Some(Line { segment: self.at, number: self.number, bytes, ended }));
        }
        Ok(None)
    }

    /// Everything behind the last line that is still in this file, at most as much as a batch may be.
    pub fn rest(&mut self) -> Result<Vec<u8>, VerifyError> {
        let mut rest = Vec::new();
        if let Some(file) = &mut self.file {
            let path = self.segments[self.at].path.clone();
            file.take(1 << 28).read_to_end(&mut rest).map_err(|source| VerifyError::Read { path, source })?;
        }
        Ok(rest)
    }
}

fn open(path: &Path) -> Result<File, VerifyError> {
    File::open(path).map_err(|source| VerifyError::Read { path: path.into(), source })
}
