//! The terminal log: every byte that an agent's terminal put out, at an absolute offset, the newest of them kept.
//!
//! ```text
//!  terminal/0000000000000000.out   bytes from offset 0
//!           0000000000000000.idx   24-byte marks: from which offset on, when, which size
//!           0000000000100000.out   bytes from offset 0x100000; the name is the first offset, in 16 hexadecimal digits
//! ```
//! A segment is written by appending only; the oldest are removed as a whole. A reader that finds its segment gone has
//! missed what was in it: an explicit gap. After a power cut the last segment may be shorter than was said, never longer.

/// Bytes of one segment, at most.
pub const SEGMENT: u64 = 1024 * 1024;

/// Bytes of one mark.
pub const MARK: usize = 24;

/// The file name of the segment that begins at this offset.
pub fn segment(first: u64) -> String {
    format!("{first:016x}.out")
}

/// The file name of its marks.
pub fn index(first: u64) -> String {
    format!("{first:016x}.idx")
}

/// The first offset of the segment with this file name.
pub fn first_offset(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".out")?;
    let plain = digits.len() == 16 && digits.bytes().all(|c| c.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// One mark: the byte at `offset`, and those after it, came at this time; or the terminal was resized there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Absolute.
    pub offset: u64,
    /// Microseconds since 1970.
    pub at: u64,
    /// Columns and rows from here on; none: as before.
    pub size: Option<(u16, u16)>,
}

impl Mark {
    /// As bytes: offset, time, columns, rows (little endian; 0 and 0: as before), four bytes of zero.
    pub fn encode(self) -> [u8; MARK] {
        let (cols, rows) = self.size.unwrap_or_default();
        let mut bytes = [0; MARK];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.to_le_bytes());
        bytes[16..18].copy_from_slice(&cols.to_le_bytes());
        bytes[18..20].copy_from_slice(&rows.to_le_bytes());
        bytes
    }

    /// The mark in these bytes.
    pub fn decode(bytes: &[u8; MARK]) -> Self {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let short = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"));
        let size = (short(16), short(18));
        Self { offset: long(0), at: long(8), size: (size != (0, 0)).then_some(size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_its_segment_begins_and_nothing_else_is_one() {
        for first in [0, 1, SEGMENT, u64::MAX] {
            assert_eq!(first_offset(&segment(first)), Some(first));
        }
        for other in ["0.out", "0000000000000000.idx", "000000000000000g.out", "+00000000000000f.out"] {
            assert_eq!(first_offset(other), None, "{other}");
        }
    }

    #[test]
    fn a_mark_survives_the_file() {
        for size in [None, Some((120, 40))] {
            let mark = Mark { offset: 7 << 33, at: 1_790_000_000_000_000, size };
            assert_eq!(Mark::decode(&mark.encode()), mark);
        }
    }
}
