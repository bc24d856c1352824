//! A record that is not the one that should follow: what became of the one that should. Reads on, and back, to find out.

use super::VerifyError;
use super::finding::{Finding, Kind};
use super::lines::{Line, Lines};
use crate::audit::digest::Digest;
use crate::audit::record::Record;

/// What should have followed.
pub struct Expected {
    /// This number.
    pub seq: u64,
    /// With this before it.
    pub prev: Digest,
    /// Whether this is the first record that was read.
    pub is_first: bool,
}

/// Says what happened where `record`, whole in itself, stands instead of what was expected.
pub fn explain(
    expected: &Expected,
    record: &Record,
    line: &Line,
    lines: &mut Lines,
) -> Result<Finding, VerifyError> {
    let again = lines.anew();
    let (kind, seq, through, detail) = match record.seq {
        seq if seq == expected.seq => rewritten(expected, record, lines)?,
        seq if seq > expected.seq => ahead(expected, record, lines)?,
        _ => back(record, line, again)?,
    };
    Ok(Finding { kind, seq, through, file: lines.path(line.segment), line: line.number, detail })
}

type Told = (Kind, u64, Option<u64>, String);

/// The right number, on top of another record: either this one or the one before was written anew, hash and all.
fn rewritten(expected: &Expected, record: &Record, lines: &mut Lines) -> Result<Told, VerifyError> {
    let next = lines.next()?.and_then(|line| Record::parse(&line.bytes).ok());
    // If what follows goes on from this one, this one is as it was.
    let is_old = next.is_some_and(|next| next.prev == record.hash) && !expected.is_first;
    let seq = if is_old { expected.seq - 1 } else { expected.seq };
    let detail = match is_old {
        true => {
            format!("record {} follows another record {seq} than the one that stands there", expected.seq)
        }
        false => format!("record {seq} does not follow the record before it"),
    };
    Ok((Kind::Altered, seq, None, detail))
}

/// A later record: the expected one is gone, or comes later; or this one is a copy.
fn ahead(expected: &Expected, record: &Record, lines: &mut Lines) -> Result<Told, VerifyError> {
    let (mut comes_later, mut comes_again) = (false, false);
    while let Some(line) = lines.next()? {
        let seq = Record::seq_of(&line.bytes);
        let is_whole = |wanted| seq == Some(wanted) && Record::parse(&line.bytes).is_ok();
        comes_later |= is_whole(expected.seq);
        comes_again |= is_whole(record.seq);
        if comes_later && comes_again {
            break;
        }
    }
    let (wanted, found) = (expected.seq, record.seq);
    Ok(match (comes_later, comes_again) {
        (true, true) => {
            let detail = format!("record {found} stands before record {wanted}, and again where it belongs");
            (Kind::Duplicated, found, None, detail)
        }
        (true, false) => {
            let detail = format!("record {found} stands where record {wanted} belongs, which comes later");
            (Kind::Reordered, wanted, None, detail)
        }
        (false, _) => {
            let last = found - 1;
            let detail = match last - wanted {
                0 => format!("record {wanted} is missing: record {found} stands in its place"),
                _ => format!("records {wanted} to {last} are missing: record {found} stands in their place"),
            };
            (Kind::Deleted, wanted, (last > wanted).then_some(last), detail)
        }
    })
}

/// An earlier record: a copy, or something that took its number.
fn back(record: &Record, line: &Line, mut lines: Lines) -> Result<Told, VerifyError> {
    let seq = record.seq;
    while let Some(earlier) = lines.next()? {
        if (earlier.segment, earlier.number) == (line.segment, line.number) {
            break;
        }
        if Record::seq_of(&earlier.bytes) == Some(seq) && earlier.bytes == line.bytes {
            return Ok((Kind::Duplicated, seq, None, format!("record {seq} stands a second time")));
        }
    }
    Ok((
        Kind::Altered,
        seq,
        None,
        format!("a record {seq} stands here that is not the record {seq} of this log"),
    ))
}
