//! Output as lines of plain text: what a terminal without a last line would show, and when each line was begun.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vt100::capture::{
    BasicFormattedCaptureRange, BasicFormattedCaptureState, RowContents, basic_formatted_to_plain,
};

use crate::api::agent::Size;

/// Longest line, in bytes: what is longer is cut into several.
const LONGEST: usize = 64 * 1024;

/// Most lines at once, and what they may take together: the newest. A few bytes of output can be a wide line, and each
/// newline is one; what is cut off here is still in the log as it is.
const MOST: usize = 200_000;
const LARGEST: usize = 64 * 1024 * 1024;
/// What a line takes beside its text.
const ENTRY: usize = 32;

/// Makes lines of output.
pub(crate) struct Lines {
    emulator: vt100::Parser<Collector>,
    most: usize,
}

/// Takes the rows that leave the screen.
#[derive(Default)]
struct Collector {
    state: BasicFormattedCaptureState,
    /// The line that the last row belongs to, while it may go on in the next one.
    open: String,
    begun: u64,
    done: VecDeque<(u64, String)>,
    /// What `done` takes.
    bytes: usize,
    most: usize,
    /// When each row of the screen was first written.
    times: VecDeque<Option<u64>>,
    now: u64,
}

impl vt100::Callbacks for Collector {
    fn on_scroll(&mut self, contents: RowContents<'_>, alternate: bool) {
        // What leaves the alternate screen is no line of a log: it is drawn over and over.
        if alternate {
            return;
        }
        let at = self.times.pop_front().flatten().unwrap_or(self.now);
        self.times.push_back(None);
        let mut row = String::new();
        // Writing into a String does not fail.
        let _ = contents.write_formatted_basic(&mut row, &mut self.state);
        let row: String = basic_formatted_to_plain(&row).collect();
        let (ends, row) = row.strip_prefix('\n').map_or((false, row.as_str()), |row| (true, row));
        if ends || self.open.len() > LONGEST {
            self.close();
        }
        if self.open.is_empty() {
            self.begun = at;
        }
        self.open.push_str(row);
    }
}

impl Collector {
    fn close(&mut self) {
        let line = std::mem::take(&mut self.open);
        self.push(self.begun, &line);
    }

    fn push(&mut self, at: u64, line: &str) {
        let line = line.trim_end().to_owned();
        self.bytes += line.len() + ENTRY;
        self.done.push_back((at, line));
        while self.done.len() > self.most || self.bytes > LARGEST {
            let Some((_, oldest)) = self.done.pop_front() else { break };
            self.bytes -= oldest.len() + ENTRY;
        }
    }
}

impl Lines {
    /// Keeps at most the last `most` lines, and never more than [`MOST`].
    pub(crate) fn new(size: Size, most: usize) -> Self {
        let most = most.min(MOST);
        let side = |n: u16| NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN);
        let times = vec![None; usize::from(size.rows)].into();
        let collector = Collector { most, times, ..Collector::default() };
        let emulator = vt100::Parser::new_with_callbacks(side(size.rows), side(size.cols), 0, collector);
        Self { emulator, most }
    }

    /// Goes on with output that came at this time, in microseconds since 1970.
    pub(crate) fn feed(&mut self, at: u64, bytes: &[u8]) {
        self.emulator.callbacks_mut().now = at;
        let emulator = &mut self.emulator;
        if catch_unwind(AssertUnwindSafe(|| emulator.process(bytes))).is_err() {
            // What was collected stays; the picture begins anew.
            let (rows, cols) = self.emulator.screen().size();
            let collector = std::mem::take(self.emulator.callbacks_mut());
            self.emulator = vt100::Parser::new_with_callbacks(rows, cols, 0, collector);
        }
        let (row, column) = self.emulator.screen().cursor_position();
        if !self.emulator.screen().alternate_screen() {
            // The cursor's own row is begun by what is written there.
            let begun = usize::from(row) + usize::from(column > 0);
            let times = &mut self.emulator.callbacks_mut().times;
            times.iter_mut().take(begun).for_each(|time| *time = time.or(Some(at)));
        }
    }

    /// The terminal has this size from here on.
    pub(crate) fn resize(&mut self, size: Size) {
        let side = |n: u16| NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN);
        let emulator = &mut self.emulator;
        // What a smaller screen pushes out is collected.
        let _ = catch_unwind(AssertUnwindSafe(|| emulator.set_size(side(size.rows), side(size.cols))));
        self.emulator.callbacks_mut().times.resize(usize::from(size.rows), None);
    }

    /// All lines, those on the screen included: of the main screen first, then what the alternate one shows, if it is on.
    pub(crate) fn finish(mut self) -> VecDeque<(u64, String)> {
        let (_, cols) = self.emulator.screen().size();
        let alternate: Vec<String> = match self.emulator.screen().alternate_screen() {
            true => self.emulator.screen().rows(0, cols.get()).collect(),
            false => Vec::new(),
        };
        let emulator = &mut self.emulator;
        let _ = catch_unwind(AssertUnwindSafe(|| emulator.process(b"\x1b[?47l")));
        let mut collector = std::mem::take(self.emulator.callbacks_mut());
        collector.most = self.most;
        collector.screen(self.emulator.screen());
        let now = collector.now;
        let shown = alternate.iter().rposition(|row| !row.trim().is_empty()).map_or(0, |last| last + 1);
        alternate[..shown].iter().for_each(|row| collector.push(now, row));
        collector.done
    }
}

impl Collector {
    /// Takes the rows that are still on the screen, up to the last one with something in it.
    fn screen(&mut self, screen: &vt100::Screen) {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = screen
            .write_contents_formatted_basic(&mut text, BasicFormattedCaptureRange::Full(&mut self.state));
        let text: String = basic_formatted_to_plain(&text).collect();
        // One newline more than the rows have: the last row that left the screen was the end of its line.
        let rows = screen.size().0.get();
        let own = (0..rows - 1).filter(|row| !screen.row_wrapped(*row)).count();
        let ends = text.matches('\n').count() > own;
        if ends {
            self.close();
        }
        let text = if ends { &text[1..] } else { &text[..] };
        let mut row = 0;
        let mut lines = text.trim_end_matches(['\n', ' ']).split('\n').peekable();
        while let Some(line) = lines.next() {
            if self.open.is_empty() {
                self.begun = self.times.get(row).copied().flatten().unwrap_or(self.now);
            }
            self.open.push_str(line);
            if lines.peek().is_some() || !self.open.is_empty() {
                self.close();
            }
            while u16::try_from(row).is_ok_and(|row| screen.row_wrapped(row)) {
                row += 1;
            }
            row += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(size: Size, output: &[(u64, &str)]) -> Vec<(u64, String)> {
        let mut lines = Lines::new(size, usize::MAX);
        output.iter().for_each(|(at, bytes)| lines.feed(*at, bytes.as_bytes()));
        lines.finish().into()
    }

    fn texts(size: Size, output: &str) -> Vec<String> {
        lines(size, &[(0, output)]).into_iter().map(|(_, line)| line).collect()
    }

    const SMALL: Size = Size { cols: 10, rows: 3 };

    #[test]
    fn lines_have_no_codes_and_the_time_when_they_were_begun() {
        let output =
            [(1, "one\r\ntw"), (2, "o\x1b[1;31m!\x1b[m\r\n"), (3, "\r\nfour\r\nfive\r\n"), (4, "six\r\n$ ")];
        let expected = [(1, "one"), (1, "two!"), (3, ""), (3, "four"), (3, "five"), (4, "six"), (4, "$")];
        assert_eq!(lines(SMALL, &output), expected.map(|(at, line)| (at, line.to_owned())));
    }

    #[test]
    fn a_line_that_the_terminal_has_wrapped_is_one_line() {
        assert_eq!(texts(SMALL, "0123456789abcdefghijXYZ\r\nx"), ["0123456789abcdefghijXYZ", "x"]);
        let long = "0123456789".repeat(7);
        assert_eq!(texts(SMALL, &format!("{long}\r\nx\r\ny\r\nz")), [&long, "x", "y", "z"]);
        assert_eq!(texts(SMALL, &format!("a\r\n{long}")), ["a", &long]);
    }

    #[test]
    fn lines_are_never_more_and_never_larger_than_can_be_held() {
        let mut many = Collector { most: usize::MAX, ..Collector::default() };
        let line = "x".repeat(LARGEST / 4);
        (0..9).for_each(|at| many.push(at, &line));
        assert_eq!(many.done.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [6, 7, 8]);
        assert_eq!(Lines::new(SMALL, usize::MAX).most, MOST);
    }

    #[test]
    fn what_was_overwritten_is_gone() {
        assert_eq!(texts(SMALL, "10%\r20%\r100%\r\nab\x08c\r\n"), ["100%", "ac"]);
    }

    #[test]
    fn the_alternate_screen_hides_no_line_and_adds_what_it_shows() {
        assert_eq!(texts(SMALL, "a\r\nb\x1b[?1049h\x1b[Hfull"), ["a", "b", "full"]);
        assert_eq!(texts(SMALL, "a\r\nb\x1b[?1049h\x1b[Hfull\x1b[?1049l!"), ["a", "b!"]);
    }

    #[test]
    fn nothing_is_no_line() {
        assert_eq!(texts(SMALL, ""), Vec::<String>::new());
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut lines = Lines::new(SMALL, 2);
        (0..50).for_each(|n| lines.feed(n, format!("{n}\r\n").as_bytes()));
        assert_eq!(lines.finish(), [(48, "48".to_owned()), (49, "49".to_owned())]);
    }
}
