//! What an agent's output has switched on in the caller's terminal, so that exactly that can be switched off again.
//!
//! A program that is killed leaves its alternate screen, mouse reports and keyboard protocol behind, and the
//! caller's shell becomes unusable. This is not a terminal emulator: it watches for the few control sequences that
//! outlive a program (xterm's ctlseqs, kitty's keyboard protocol), in constant memory, and never alters a byte.
//!
//! ```text
//!            ESC              [                 final byte
//!  Ground ─────────▶ Escape ─────────▶ Csi ──────────────────▶ Ground
//!                      │ ( )                       any byte
//!                      ├─────────▶ Charset ──────────────────▶ Ground
//!                      │ ] P X ^ _              BEL, CAN, ESC \
//!                      └─────────▶ Text ─────────────────────▶ Ground
//! ```

use memchr::{memchr, memchr3};

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

/// DEC private modes that are watched, in the order in which they are undone, and whether they start switched on.
const PRIVATE: &[(u16, bool)] = &[
    (2026, false), // synchronised output: first, or nothing after it shows
    (9, false),    // mouse: X10 …
    (1000, false),
    (1001, false),
    (1002, false),
    (1003, false),
    (1005, false), // … and its encodings
    (1006, false),
    (1015, false),
    (1016, false),
    (1004, false), // focus reports
    (2004, false), // bracketed paste
    (2031, false), // colour-scheme reports
    (2048, false), // resize reports
    (1, false),    // application cursor keys
    (66, false),   // application keypad
    (5, false),    // reverse video
    (6, false),    // origin mode
    (69, false),   // left and right margins
    (7, true),     // wrap at the right edge
    (45, false),   // reverse wrap
    (47, false),   // alternate screen, three ways
    (1047, false),
    (1049, false),
    (25, true), // cursor: last, so that it appears where it belongs
];
const ALTERNATE: [u16; 3] = [47, 1047, 1049];
const CURSOR: u16 = 25;

/// The kitty keyboard protocol's stack of one screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Keyboard {
    pushed: u8,
    /// In force now; 0 if they are the caller's.
    flags: u16,
    /// Whether flags were set without being pushed.
    set: bool,
}

/// Switches that are not DEC private modes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Others {
    keypad: bool,
    insert: bool,
    newline: bool,
    modified_keys: bool,
    style: bool,
    margins: bool,
    cursor_shape: bool,
    charset: bool,
}

/// What differs from the terminal as the caller left it.
#[derive(Debug, Clone, Default)]
pub struct Modes {
    state: State,
    sequence: Sequence,
    /// One bit for each of `PRIVATE` that is not as it starts.
    private: u32,
    /// Of the main and of the alternate screen.
    keyboards: [Keyboard; 2],
    others: Others,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Charset,
    Csi,
    Text,
}

/// A control sequence so far. Parameters beyond the capacity are dropped: xterm takes 30.
#[derive(Debug, Clone, Copy)]
struct Sequence {
    prefix: u8,
    intermediate: u8,
    parameters: [u16; 32],
    count: usize,
    /// Within a sub-parameter (`4:3`), which is of no interest.
    sub: bool,
}

impl Default for Sequence {
    fn default() -> Self {
        Self { prefix: 0, intermediate: 0, parameters: [0; 32], count: 1, sub: false }
    }
}

impl Sequence {
    fn parameters(&self) -> &[u16] {
        &self.parameters[..self.count.min(self.parameters.len())]
    }

    fn first(&self) -> u16 {
        self.parameters[0]
    }

    fn take(&mut self, byte: u8) {
        match byte {
            b'0'..=b'9' if !self.sub => {
                if let Some(value) = self.parameters.get_mut(self.count - 1) {
                    *value = value.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                }
            }
            b':' => self.sub = true,
            b';' => {
                self.sub = false;
                self.count = (self.count + 1).min(self.parameters.len() + 1);
            }
            b'<'..=b'?' => self.prefix = byte,
            0x20..=0x2f => self.intermediate = byte,
            _ => {}
        }
    }
}

impl Modes {
    /// Takes note of bytes that the terminal has received. They may end anywhere in a sequence.
    pub fn observe(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            let skipped = match self.state {
                State::Ground => memchr(ESC, rest),
                State::Text => memchr3(ESC, BEL, CAN, rest),
                _ => {
                    self.step(byte);
                    rest = after;
                    continue;
                }
            };
            let Some(at) = skipped else { return };
            self.state = if rest[at] == ESC { State::Escape } else { State::Ground };
            rest = &rest[at + 1..];
        }
    }

    /// The bytes that put the terminal back: none if nothing is left on. Neither title nor screen content changes.
    pub fn undo(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.state != State::Ground {
            // The agent ended within a sequence, which would swallow what the shell prints next.
            out.extend_from_slice(b"\x1b\\");
        }
        let alternate = self.is_alternate();
        if alternate {
            self.keyboards[1].undo(&mut out);
        }
        for (_, number, starts_on) in self.changed() {
            out.extend_from_slice(format!("\x1b[?{number}{}", set_or_reset(starts_on)).as_bytes());
        }
        self.keyboards[0].undo(&mut out);
        self.others.undo(&mut out);
        out
    }

    /// The bytes that bring back what `undo` took away, for an agent that was stopped and goes on.
    pub fn redo(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.keyboards[0].redo(&mut out);
        for (_, number, starts_on) in self.changed() {
            out.extend_from_slice(format!("\x1b[?{number}{}", set_or_reset(!starts_on)).as_bytes());
        }
        if self.is_alternate() {
            self.keyboards[1].redo(&mut out);
        }
        if self.others.keypad {
            out.extend_from_slice(b"\x1b=");
        }
        if self.others.modified_keys {
            out.extend_from_slice(b"\x1b[>4;1m");
        }
        out
    }

    fn changed(&self) -> impl Iterator<Item = (usize, u16, bool)> + '_ {
        let each = PRIVATE.iter().enumerate().map(|(bit, &(number, on))| (bit, number, on));
        each.filter(|(bit, ..)| self.private & (1 << bit) != 0)
    }

    fn is_alternate(&self) -> bool {
        self.changed().any(|(_, number, _)| ALTERNATE.contains(&number))
    }

    /// One byte within a sequence.
    fn step(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (_, ESC) => State::Escape,
            (_, CAN | SUB) => State::Ground,
            // Other control characters act at once, even within a sequence, and do not end it.
            (state, 0..=0x1f | 0x7f) => state,
            (State::Escape, b'[') => {
                self.sequence = Sequence::default();
                State::Csi
            }
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Text,
            (State::Escape, b'(' | b')') => State::Charset,
            (State::Escape, 0x20..=0x2f) => State::Escape,
            (State::Escape, byte) => {
                self.escape(byte);
                State::Ground
            }
            (State::Charset, byte) => {
                self.others.charset = byte != b'B';
                State::Ground
            }
            (State::Csi, 0x20..=0x3f) => {
                self.sequence.take(byte);
                State::Csi
            }
            (State::Csi, 0x40..=0x7e) => {
                self.control(byte);
                State::Ground
            }
            (State::Csi, _) => State::Ground,
            (state @ (State::Ground | State::Text), _) => state,
        };
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'=' => self.others.keypad = true,
            b'>' => self.others.keypad = false,
            b'c' => *self = Self::default(), // RIS: a full reset
            _ => {}
        }
    }

    fn control(&mut self, last: u8) {
        let sequence = self.sequence;
        let on = last == b'h';
        match (sequence.prefix, sequence.intermediate, last) {
            (b'?', 0, b'h' | b'l') => sequence.parameters().iter().for_each(|&n| self.switch(n, on)),
            (0, 0, b'h' | b'l') => {
                for number in sequence.parameters() {
                    match number {
                        4 => self.others.insert = on,
                        20 => self.others.newline = on,
                        _ => {}
                    }
                }
            }
            (0, 0, b'm') => self.others.style = leaves_style(self.others.style, sequence.parameters()),
            (0, 0, b'r') => self.others.margins = sequence.parameters().iter().any(|&n| n != 0),
            (0, b' ', b'q') => self.others.cursor_shape = sequence.first() != 0,
            (0, b'!', b'p') => self.soft_reset(),
            (b'>', 0, b'm') => match sequence.parameters() {
                [4, level, ..] => self.others.modified_keys = *level != 0,
                [0 | 4] => self.others.modified_keys = false,
                _ => {}
            },
            (b'>' | b'<' | b'=', 0, b'u') => {
                let screen = usize::from(self.is_alternate());
                self.keyboards[screen].change(&sequence);
            }
            _ => {}
        }
    }

    fn switch(&mut self, number: u16, on: bool) {
        let Some(bit) = PRIVATE.iter().position(|&(n, _)| n == number) else { return };
        if ALTERNATE.contains(&number) {
            // The three share one screen: leaving it by any of them leaves it.
            for alternate in ALTERNATE {
                let bit =
                    PRIVATE.iter().position(|&(n, _)| n == alternate).expect("ALTERNATE is part of PRIVATE");
                self.private &= !(1 << bit);
            }
        }
        if on == PRIVATE[bit].1 {
            self.private &= !(1 << bit);
        } else {
            self.private |= 1 << bit;
        }
    }

    /// DECSTR: what the VT510 manual resets, of what is watched here.
    fn soft_reset(&mut self) {
        for number in [1, 6, 66] {
            self.switch(number, false);
        }
        self.switch(CURSOR, true);
        self.others = Others {
            modified_keys: self.others.modified_keys,
            cursor_shape: self.others.cursor_shape,
            ..Others::default()
        };
    }
}

impl Keyboard {
    fn change(&mut self, sequence: &Sequence) {
        match sequence.prefix {
            b'>' => {
                self.pushed = self.pushed.saturating_add(1);
                self.flags = sequence.first();
            }
            b'<' => {
                let popped = u8::try_from(sequence.first().max(1)).unwrap_or(u8::MAX);
                *self = Self { pushed: self.pushed.saturating_sub(popped), ..*self };
                if self.pushed == 0 {
                    self.flags = 0;
                }
            }
            _ => {
                self.flags = sequence.first();
                self.set = self.pushed == 0 && self.flags != 0;
            }
        }
    }

    fn undo(self, out: &mut Vec<u8>) {
        if self.pushed > 0 {
            out.extend_from_slice(format!("\x1b[<{}u", self.pushed).as_bytes());
        }
        if self.set {
            out.extend_from_slice(b"\x1b[=0u");
        }
    }

    fn redo(self, out: &mut Vec<u8>) {
        for _ in 0..self.pushed {
            out.extend_from_slice(format!("\x1b[>{}u", self.flags).as_bytes());
        }
        if self.set {
            out.extend_from_slice(format!("\x1b[={}u", self.flags).as_bytes());
        }
    }
}

impl Others {
    fn undo(self, out: &mut Vec<u8>) {
        let switches: [(bool, &[u8]); 8] = [
            (self.keypad, b"\x1b>"),
            (self.insert, b"\x1b[4l"),
            (self.newline, b"\x1b[20l"),
            (self.modified_keys, b"\x1b[>4m"),
            (self.charset, b"\x0f\x1b(B\x1b)B"),
            (self.style, b"\x1b[m"),
            // Resetting the margins moves the cursor home, so it is saved around that.
            (self.margins, b"\x1b7\x1b[r\x1b8"),
            (self.cursor_shape, b"\x1b[0 q"),
        ];
        switches.iter().filter(|(on, _)| *on).for_each(|(_, bytes)| out.extend_from_slice(bytes));
    }
}

fn set_or_reset(on: bool) -> char {
    if on { 'h' } else { 'l' }
}

/// Whether a style is in force after these SGR parameters. The values after 38, 48 and 58 are colours: `38;5;0` is no reset.
fn leaves_style(mut style: bool, parameters: &[u16]) -> bool {
    let mut rest = parameters.iter();
    while let Some(&parameter) = rest.next() {
        style = parameter != 0;
        if matches!(parameter, 38 | 48 | 58) {
            match rest.next() {
                Some(5) => _ = rest.next(),
                Some(2) => _ = rest.nth(2),
                _ => {}
            }
        }
    }
    style
}

#[cfg(test)]
mod tests;
