//! The log read as what it was: output, at its times, in its sizes.

use std::io;

use super::log::{Found, Log, Position};
use crate::api::agent::Size;
use crate::wire::service::log::{Mark, SEGMENT};

/// One moment of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Moment<'a> {
    /// Output that came at this time, in microseconds since 1970.
    Output(u64, &'a [u8]),
    /// The terminal had another size from this time on.
    Size(u64, Size),
}

/// Shows everything that is kept from `from` up to `to`, in order; how far it came.
pub(crate) fn walk(log: &Log, from: u64, to: u64, mut see: impl FnMut(Moment<'_>)) -> io::Result<u64> {
    let mut position = Position::new(log.clone(), from);
    let mut now = 0;
    while position.offset < to {
        let segments = log.segments()?;
        let after = segments.partition_point(|first| *first <= position.offset);
        let first = after.checked_sub(1).map(|at| segments[at]);
        // Up to the next segment, so that its own marks are at hand then.
        let end = segments.get(after).copied().unwrap_or(to).min(to);
        let marks = first.map(|first| log.marks(first)).unwrap_or_default();
        let most = usize::try_from(end - position.offset).unwrap_or(usize::MAX).min(2 * SEGMENT as usize);
        let at = position.offset;
        match position.read(most)? {
            Found::Bytes(bytes) => show(&bytes, at, &marks, &mut now, &mut see),
            Found::Gap(next) => position.seek(next),
            Found::Nothing => break,
        }
    }
    Ok(position.offset)
}

/// Shows bytes from offset `at` on, divided by marks.
fn show(bytes: &[u8], at: u64, marks: &[Mark], now: &mut u64, see: &mut impl FnMut(Moment<'_>)) {
    let mut shown = 0;
    let size = |mark: &Mark| mark.size.map(|(cols, rows)| Size { cols, rows });
    let before = marks.partition_point(|mark| mark.offset < at);
    if let Some(last) = marks[..before].last() {
        *now = last.at;
        if let Some(size) = marks[..before].iter().rev().find_map(size) {
            see(Moment::Size(*now, size));
        }
    }
    for mark in &marks[before..] {
        let Ok(until) = usize::try_from(mark.offset - at) else { break };
        if until >= bytes.len() {
            break;
        }
        if until > shown {
            see(Moment::Output(*now, &bytes[shown..until]));
            shown = until;
        }
        *now = mark.at;
        if let Some(size) = size(mark) {
            see(Moment::Size(*now, size));
        }
    }
    see(Moment::Output(*now, &bytes[shown..]));
}

/// From which segment on everything is kept that came at this time or later.
pub(crate) fn since(log: &Log, at: u64) -> io::Result<u64> {
    let segments = log.segments()?;
    let begun = |first: &u64| log.marks(*first).first().map_or(0, |mark| mark.at);
    // The newest are the likely ones, and a log has few.
    let found = segments.iter().rev().find(|first| begun(first) <= at);
    Ok(found.or(segments.first()).copied().unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::service::{log, places};
    use std::fs;

    /// Offset, time and size.
    pub(crate) type Marked = (u64, u64, Option<(u16, u16)>);

    /// A log with these segments and marks.
    pub(crate) fn written(segments: &[(u64, &str)], marks: &[Marked]) -> (tempfile::TempDir, Log) {
        let agent = tempfile::tempdir().expect("a directory");
        let directory = agent.path().join(places::TERMINAL);
        fs::create_dir(&directory).expect("made");
        for (at, (first, text)) in segments.iter().enumerate() {
            fs::write(directory.join(log::segment(*first)), text).expect("written");
            let next = segments.get(at + 1).map_or(u64::MAX, |(next, _)| *next);
            let own = marks.iter().filter(|(offset, ..)| (*first..next).contains(offset));
            let bytes: Vec<u8> = own
                .flat_map(|(offset, at, size)| Mark { offset: *offset, at: *at, size: *size }.encode())
                .collect();
            fs::write(directory.join(log::index(*first)), bytes).expect("written");
        }
        let log = Log::of(agent.path());
        (agent, log)
    }

    #[test]
    fn output_is_divided_by_its_marks() {
        let (_agent, log) = written(
            &[(0, "abcd"), (4, "efg")],
            &[(0, 10, Some((80, 24))), (2, 20, None), (4, 30, None), (6, 40, Some((90, 25)))],
        );
        let mut seen = Vec::new();
        walk(&log, 0, 7, |moment| {
            seen.push(match moment {
                Moment::Output(at, bytes) => format!("{at} {}", String::from_utf8_lossy(bytes)),
                Moment::Size(at, size) => format!("{at} {}x{}", size.cols, size.rows),
            });
        })
        .expect("read");
        assert_eq!(seen, ["10 80x24", "10 ab", "20 cd", "30 ef", "40 90x25", "40 g"]);
        assert_eq!((since(&log, 29).expect("read"), since(&log, 30).expect("read")), (0, 4));
    }
}
