//! The screen of one terminal: an emulator, what it does not know (`modes`), and a drawing of both.
//!
//! The emulator is a library that has panicked before: a panic costs the picture, never the daemon, and the agent draws it
//! anew. Of a screen that nobody uses only the drawing is kept, from which the emulator is made again.

use std::fmt::Write as _;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::Drawing;
use super::modes::Modes;
use super::scan::{Scanner, Sequence};
use crate::api::agent::Size;

/// Brings any terminal into the state of a fresh one, without clearing what it has scrolled back.
const FRESH: &str = "\x1b[!p\x1b[?1049l\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\
    \x1b[?1015l\x1b[?1016l\x1b[?2004l\x1b[?2026l\x1b[?7h\x1b[<8u\x1b[r\x1b[m\x1b[H\x1b[2J";

/// A query of the agent's, and what a terminal answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// Where in the output it ends.
    pub(crate) offset: u64,
    /// The answer.
    pub(crate) answer: Vec<u8>,
}

/// One screen.
pub(crate) struct Screen {
    emulator: Option<vt100::Parser>,
    /// What the emulator is made from again while there is none.
    asleep: Bytes,
    scanner: Scanner,
    modes: Modes,
    /// The main screen, while the alternate one is shown.
    behind: Option<String>,
    size: Size,
    /// Of the next byte.
    offset: u64,
}

impl Screen {
    /// An empty one at this offset.
    pub(crate) fn new(size: Size, offset: u64) -> Self {
        Self {
            emulator: None,
            asleep: Bytes::new(),
            scanner: Scanner::default(),
            modes: Modes::default(),
            behind: None,
            size,
            offset,
        }
    }

    /// The offset of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a private mode is on.
    pub(crate) fn is_on(&self, mode: u16) -> bool {
        self.modes.is_on(mode)
    }

    /// Goes on with output; the queries in it, with their answers.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Query> {
        self.read(bytes, true)
    }

    /// Goes over output without showing it: modes and queries are taken note of.
    pub(crate) fn skip(&mut self, bytes: &[u8]) -> Vec<Query> {
        self.forget_picture();
        self.read(bytes, false)
    }

    /// Output is missing: what is shown is wrong until it is drawn anew.
    pub(crate) fn jump(&mut self, offset: u64) {
        self.forget_picture();
        self.scanner = Scanner::default();
        self.offset = offset;
    }

    fn forget_picture(&mut self) {
        if self.emulator.is_some() || !self.asleep.is_empty() {
            self.emulator = None;
            self.behind = self.modes.alternate().then(String::new);
            self.asleep = Bytes::new();
        }
    }

    fn read(&mut self, bytes: &[u8], show: bool) -> Vec<Query> {
        let mut queries = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (used, sequence) = self.scanner.next(rest);
            let (now, later) = rest.split_at(used);
            // The last byte of a sequence carries it out.
            let (before, last) = now.split_at(used - usize::from(sequence.is_some()));
            if show {
                self.process(before);
            }
            self.note(sequence.as_ref(), show);
            if show {
                self.process(last);
                self.translate(sequence.as_ref());
            }
            self.offset += used as u64;
            if let Some(sequence) = sequence {
                let answer = self.modes.answer(&sequence, self.cursor(), (self.size.rows, self.size.cols));
                queries.extend(answer.map(|answer| Query { offset: self.offset, answer }));
            }
            rest = later;
        }
        queries
    }

    /// Takes note of a sequence before it is carried out.
    fn note(&mut self, sequence: Option<&Sequence>, show: bool) {
        let Some(sequence) = sequence else { return };
        let alternate = self.modes.alternate();
        let may_enter = matches!(sequence, Sequence::Csi { prefix: b'?', last: b'h', .. });
        let main = (show && !alternate && may_enter).then(|| self.awake().screen().contents_formatted());
        self.modes.apply(sequence);
        match (alternate, self.modes.alternate()) {
            (false, true) => self.behind = Some(main.unwrap_or_default()),
            (true, false) => self.behind = None,
            _ => {}
        }
    }

    /// The emulator knows the alternate screen by two of its three numbers only.
    fn translate(&mut self, sequence: Option<&Sequence>) {
        if let Some(Sequence::Csi { prefix: b'?', parameters, intermediate: 0, last: last @ (b'h' | b'l') }) =
            sequence
            && parameters.contains(&1047)
        {
            self.process(&[b"\x1b[?47".as_slice(), &[*last]].concat());
        }
    }

    fn process(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let emulator = self.awake();
        if catch_unwind(AssertUnwindSafe(|| emulator.process(bytes))).is_err() {
            tracing::warn!(offset = self.offset, "the terminal emulator panicked: its picture is given up");
            self.forget_picture();
        }
    }

    fn awake(&mut self) -> &mut vt100::Parser {
        let asleep = std::mem::take(&mut self.asleep);
        let (size, modes) = (self.size, &self.modes);
        self.emulator.get_or_insert_with(|| {
            let mut emulator = vt100::Parser::new(side(size.rows), side(size.cols), 0);
            if asleep.is_empty() && modes.alternate() {
                emulator.process(b"\x1b[?1049h");
            }
            emulator.process(&asleep);
            emulator
        })
    }

    /// Its size from now on.
    pub(crate) fn resize(&mut self, size: Size) {
        if self.size == size {
            return;
        }
        self.awake();
        self.size = size;
        if let Some(emulator) = &mut self.emulator
            && catch_unwind(AssertUnwindSafe(|| emulator.set_size(side(size.rows), side(size.cols)))).is_err()
        {
            self.forget_picture();
        }
    }

    /// Row and column of the cursor, from 1.
    fn cursor(&self) -> (u16, u16) {
        let (row, column) =
            self.emulator.as_ref().map_or((0, 0), |emulator| emulator.screen().cursor_position());
        // Behind the last column it still is in it.
        (row + 1, (column + 1).min(self.size.cols))
    }

    /// A drawing of it.
    pub(crate) fn draw(&mut self) -> Drawing {
        let (size, offset) = (self.size, self.offset);
        self.awake();
        let bytes = self.drawn();
        let screen = self.awake().screen();
        let (row, column) = screen.cursor_position();
        let lines = screen.rows(0, size.cols).map(trimmed).collect();
        Drawing {
            offset,
            bytes: format!("{FRESH}{bytes}").into(),
            lines,
            cursor: (column, row),
            title: self.modes.title.clone(),
            alternate: self.modes.alternate(),
            size,
        }
    }

    /// What brings a fresh terminal into this state.
    fn drawn(&mut self) -> String {
        let mut bytes = String::new();
        if let Some(behind) = &self.behind {
            bytes.push_str(behind);
            bytes.push_str("\x1b[?1049h");
        }
        let screen = self.awake().screen();
        let (contents, input) = (screen.contents_formatted(), screen.input_mode_formatted());
        let ((row, column), attributes) = (screen.cursor_position(), screen.attributes_formatted());
        bytes.push_str(&contents);
        bytes.push_str(&input);
        self.modes.restore(&mut bytes);
        if self.modes.restore_region(&mut bytes) {
            // Setting a region takes the cursor home.
            let _ = write!(bytes, "\x1b[{};{}H{attributes}", row + 1, column + 1);
        }
        bytes
    }

    /// Gives the emulator up until it is needed again; not in the middle of a sequence.
    pub(crate) fn sleep(&mut self) {
        if self.emulator.is_some() && self.scanner.is_between() {
            self.asleep = self.drawn().into();
            self.emulator = None;
        }
    }
}

fn trimmed(line: String) -> String {
    line.trim_end().to_owned()
}

fn side(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { cols: 20, rows: 5 };

    fn showing(output: &str) -> Screen {
        let mut screen = Screen::new(SIZE, 0);
        screen.feed(output.as_bytes());
        screen
    }

    /// What a terminal shows that draws it.
    fn drawn_elsewhere(screen: &mut Screen) -> Screen {
        let mut other = Screen::new(SIZE, 0);
        other.feed(b"rubbish\x1b[?1049h\x1b[?1003hmore\x1b[2;3r\x1b[31m");
        other.feed(&screen.draw().bytes);
        other
    }

    #[test]
    fn a_drawing_brings_any_terminal_into_its_state() {
        let states = [
            "one\r\n\x1b[1;31mtwo\x1b[m three",
            "main\x1b[?1049h\x1b[2;4Halt\x1b[?2004h\x1b[?1002h\x1b[?1006h\x1b[?1004h\x1b[?1h\x1b=",
            "\x1b]2;title\x07\x1b[?25lx",
            "a\r\nb\r\nc\x1b[2;4r\x1b[3;2H",
            "12345678901234567890",
            "\x1b[>5u\x1b[?7l",
        ];
        for state in states {
            let mut screen = showing(state);
            let mut other = drawn_elsewhere(&mut screen);
            let (mut here, mut there) = (screen.draw(), other.draw());
            (here.offset, there.offset) = (0, 0);
            assert_eq!(here, there, "{state:?}");
            // And they go on alike.
            for screen in [&mut screen, &mut other] {
                screen.feed(b"x\x1b[?1049l\r\ny\n\n\nz");
            }
            let (here, there) = (screen.draw(), other.draw());
            assert_eq!((here.lines, here.cursor), (there.lines, there.cursor), "{state:?}");
        }
    }

    #[test]
    fn a_screen_that_was_asleep_is_as_before() {
        let mut screen = showing("main\r\n$ \x1b[?1049hfull\x1b[?2004h");
        let before = screen.draw();
        screen.sleep();
        assert!(screen.emulator.is_none());
        assert_eq!(screen.draw(), before);
        screen.sleep();
        screen.feed(b"\x1b[?1049l");
        assert_eq!(screen.draw().lines[..2], ["main", "$"]);
    }

    #[test]
    fn queries_are_found_with_the_cursor_where_it_was_then() {
        let mut screen = Screen::new(SIZE, 100);
        let queries = screen.feed(b"abc\x1b[6n\r\n\x1b[6n");
        assert_eq!(queries[0], Query { offset: 107, answer: b"\x1b[1;4R".to_vec() });
        assert_eq!(queries[1], Query { offset: 113, answer: b"\x1b[2;1R".to_vec() });
    }

    #[test]
    fn what_is_skipped_loses_the_picture_but_no_mode_and_no_query() {
        let mut screen = showing("old");
        let queries = screen.skip(b"\x1b[?2004h\x1b[c\x1b[?1049h");
        assert_eq!(queries.len(), 1);
        screen.feed(b"\x1b[Hnew");
        let drawing = screen.draw();
        assert!(screen.is_on(2004) && drawing.alternate);
        assert_eq!(drawing.lines[0], "new");
    }

    #[test]
    fn the_third_number_of_the_alternate_screen_is_known_too() {
        let mut screen = showing("main\x1b[?1047h\x1b[Halt!");
        assert_eq!(screen.draw().lines[0], "alt!");
        screen.feed(b"\x1b[?1047l");
        assert_eq!(screen.draw().lines[0], "main");
    }
}
