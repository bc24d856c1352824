//! A terminal emulator that may fail: the agent's output decides what it does, so a panic costs a screen and nothing else.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vt100::capture::{BasicFormattedCaptureState, RowContents, basic_formatted_to_plain};

use super::strings::Strings;
use super::view::{Row, View};
use crate::api::agent::Size;

/// Rows kept above the screen: a login page that is taller than a small terminal begins there.
const ABOVE: usize = 60;
/// What a terminal may measure (`api::agent::Size`).
const LARGEST: u16 = 1000;

/// One terminal.
pub struct Emulator {
    parser: vt100::Parser<Lost>,
    strings: Strings,
    size: Size,
    failures: u64,
}

impl Emulator {
    /// An empty terminal.
    pub fn new(size: Size) -> Self {
        let size = within(size);
        Self { parser: parser(size), strings: Strings::default(), size, failures: 0 }
    }

    /// Puts output on the screen.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { parser, strings, .. } = self;
        let fed = catch_unwind(AssertUnwindSafe(|| {
            strings.filter(bytes, |piece| parser.process(piece));
        }));
        if fed.is_err() {
            self.begin_again();
        }
    }

    /// Gives it another size.
    pub fn resize(&mut self, size: Size) {
        let size = within(size);
        self.size = size;
        let (rows, cols) = dimensions(size);
        if catch_unwind(AssertUnwindSafe(|| self.parser.set_size(rows, cols))).is_err() {
            self.begin_again();
        }
    }

    /// Its size.
    pub fn size(&self) -> Size {
        self.size
    }

    /// How often it had to begin again with an empty screen.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// What can be seen.
    pub fn view(&mut self) -> View {
        let view = catch_unwind(AssertUnwindSafe(|| seen(&mut self.parser, self.size)));
        let mut view = view.unwrap_or_else(|_| {
            self.begin_again();
            View::default()
        });
        view.title.clone_from(&self.strings.title);
        view.report.clone_from(&self.strings.report);
        view.links.clone_from(&self.strings.links);
        view.opened.clone_from(&self.strings.opened);
        view
    }

    fn begin_again(&mut self) {
        self.failures += 1;
        self.parser = parser(self.size);
    }
}

/// Rows that left the alternate screen at its top: the emulator keeps only those of the other one.
#[derive(Default)]
struct Lost {
    rows: VecDeque<Row>,
}

impl vt100::Callbacks for Lost {
    fn on_scroll(&mut self, contents: RowContents<'_>, alternate: bool) {
        if !alternate {
            return;
        }
        let mut formatted = String::new();
        // Writing to a string cannot fail.
        let _ = contents.write_formatted_basic(&mut formatted, &mut BasicFormattedCaptureState::default());
        let plain: String = basic_formatted_to_plain(&formatted).collect();
        let text = plain.trim_end().to_owned();
        if self.rows.len() == ABOVE {
            self.rows.pop_front();
        }
        // Whether the terminal broke it is not told; whoever joins rows gets along without.
        self.rows.push_back(Row { width: text.chars().count(), text, wrapped: false });
    }
}

fn parser(size: Size) -> vt100::Parser<Lost> {
    let (rows, cols) = dimensions(size);
    vt100::Parser::new_with_callbacks(rows, cols, ABOVE, Lost::default())
}

fn within(size: Size) -> Size {
    Size { cols: size.cols.clamp(1, LARGEST), rows: size.rows.clamp(1, LARGEST) }
}

fn dimensions(size: Size) -> (NonZeroU16, NonZeroU16) {
    let positive = |count: u16| NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN);
    (positive(size.rows), positive(size.cols))
}

fn seen(parser: &mut vt100::Parser<Lost>, size: Size) -> View {
    let (row, column) = parser.screen().cursor_position();
    let rows = (0..size.rows).map(|row| line(parser.screen(), row, size.cols)).collect();
    let mut view = View::new(rows, size.cols.into(), (row.into(), column.into()));
    view.alternate = parser.screen().alternate_screen();
    view.paste = parser.screen().bracketed_paste();
    let lost = &mut parser.callbacks_mut().rows;
    if view.alternate {
        view.above = lost.iter().cloned().collect();
    } else {
        lost.clear();
        view.above = above(parser, size);
    }
    view
}

/// The screen is moved up over what was scrolled off, window by window, and back.
fn above(parser: &mut vt100::Parser<Lost>, size: Size) -> Vec<Row> {
    let screen = parser.screen_mut();
    let mut left = screen.scrollback_len().min(ABOVE);
    let mut above = Vec::new();
    while left > 0 {
        screen.set_scrollback(left);
        let window = left.min(size.rows.into());
        let rows = u16::try_from(window).unwrap_or(size.rows);
        above.extend((0..rows).map(|row| line(screen, row, size.cols)));
        left -= window;
    }
    screen.set_scrollback(0);
    above
}

fn line(screen: &vt100::Screen, row: u16, cols: u16) -> Row {
    let mut text = String::new();
    let mut full = 0;
    let mut width = 0;
    for column in 0..cols {
        let Some(cell) = screen.cell(row, column) else { break };
        if cell.is_wide_continuation() {
            width = usize::from(column) + 1;
            continue;
        }
        let contents = cell.contents();
        let blank = contents.is_empty() || contents == " ";
        text.push_str(if blank { " " } else { contents });
        if !blank {
            full = text.len();
            width = usize::from(column) + 1;
        }
    }
    text.truncate(full);
    Row { text, width, wrapped: screen.row_wrapped(row) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(size: (u16, u16), bytes: &[u8]) -> View {
        let mut emulator = Emulator::new(Size { cols: size.0, rows: size.1 });
        emulator.feed(bytes);
        emulator.view()
    }

    #[test]
    fn cursor_moves_leave_blanks_and_wrapped_lines_are_known() {
        let view = shown((20, 4), b"Paste\x1b[8Gcode\x1b[13Ghere\r\n01234567890123456789abc");
        assert_eq!(view.rows[0].text, "Paste  code here");
        assert!(view.rows[1].wrapped && !view.rows[2].wrapped);
        assert_eq!(view.rows[2].text, "abc");
    }

    #[test]
    fn what_left_the_screen_is_above_it_in_its_order() {
        let lines: String = (0..12).map(|line| format!("line {line}\r\n")).collect();
        let view = shown((20, 5), lines.as_bytes());
        let above: Vec<_> = view.above.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(above, ["line 0", "line 1", "line 2", "line 3", "line 4", "line 5", "line 6", "line 7"]);
        assert_eq!(view.rows[0].text, "line 8");
    }

    #[test]
    fn what_left_the_alternate_screen_is_above_it_too() {
        let lines: String = (0..7).map(|line| format!("\x1b[1mline\x1b[m {line}\r\n")).collect();
        let view = shown((20, 5), format!("before\r\n\x1b[?1049h{lines}").as_bytes());
        let above: Vec<_> = view.above.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(above, ["line 0", "line 1", "line 2"]);
    }

    proptest! {
        #[test]
        fn hostile_output_does_no_harm_at_any_size(
            cols in 1u16..12, rows in 1u16..6, other in (0u16..4, 0u16..4),
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b']'), Just(b';'), 0x30u8..0x3a], 0..400),
        ) {
            let mut emulator = Emulator::new(Size { cols, rows });
            emulator.feed("宽e\u{301}".as_bytes());
            emulator.feed(&bytes);
            emulator.resize(Size { cols: other.0, rows: other.1 });
            emulator.feed(&bytes);
            emulator.view();
        }
    }
}
