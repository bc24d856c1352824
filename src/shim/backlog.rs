//! Bytes on their way from one descriptor to another: a fixed amount of memory, first in, first out.

use std::os::fd::AsFd;

use rustix::io::Errno;

/// At most this many bytes wait in one direction.
pub const CAPACITY: usize = 64 * 1024;

/// Bytes that were read and not yet written.
#[derive(Debug)]
pub struct Backlog {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { bytes: vec![0; CAPACITY].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Backlog {
    /// What waits, oldest first.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether more can be read.
    pub fn has_room(&self) -> bool {
        self.end - self.start < CAPACITY
    }

    /// Reads once, as much as there is room for; 0 at the end of file. Must not be called without room, which a
    /// read of 0 bytes would make look like the end.
    pub fn fill(&mut self, from: impl AsFd) -> Result<usize, Errno> {
        debug_assert!(self.has_room(), "a full backlog cannot tell the end of file from itself");
        self.compact();
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&from, &mut self.bytes[self.end..]))?;
        self.end += read;
        Ok(read)
    }

    /// Adds a few bytes of our own if they fit, all or none.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.compact();
        let fits = self.bytes.len() - self.end >= bytes.len();
        if fits {
            self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
            self.end += bytes.len();
        }
        fits
    }

    /// Forgets the oldest `count` bytes: they were written.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "more consumed than waited");
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    fn compact(&mut self) {
        // Moving is worth it only once it wins much; else a slow reader would make every read a memmove.
        if self.end == CAPACITY || self.start > CAPACITY / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}
