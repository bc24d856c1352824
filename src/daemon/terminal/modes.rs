//! What a terminal is set to besides what the emulator knows, and what it says when it is asked.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::scan::Sequence;

/// The private modes (DECSET) that are known to be there.
const KNOWN: &[u16] = &[
    1, 6, 7, 9, 12, 25, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 1047, 1048, 1049, 2004,
    2026,
];

/// Those that are on before anybody says anything.
const ON: &[u16] = &[7, 25];

/// Those that a drawing restores itself; the emulator restores the rest, or they mean nothing to whoever comes later.
const RESTORED: &[u16] = &[7, 1004, 1007, 1015, 1016];

/// Deepest stack of keyboard flags, as in kitty.
const DEEPEST: usize = 8;

/// Longest title.
const LONGEST_TITLE: usize = 512;

/// The settings of one terminal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Modes {
    /// Those that differ from how they were at first.
    changed: BTreeSet<u16>,
    /// The stack of kitty's keyboard flags.
    keyboard: Vec<u16>,
    /// DECSTBM, from 1; none: the whole screen.
    region: Option<(u16, u16)>,
    /// OSC 0 and 2.
    pub(crate) title: String,
}

impl Modes {
    /// Whether a private mode is on.
    pub(crate) fn is_on(&self, mode: u16) -> bool {
        ON.contains(&mode) != self.changed.contains(&mode)
    }

    /// Whether the alternate screen is.
    pub(crate) fn alternate(&self) -> bool {
        [47, 1047, 1049].into_iter().any(|mode| self.is_on(mode))
    }

    /// Takes note of a sequence.
    pub(crate) fn apply(&mut self, sequence: &Sequence) {
        match sequence {
            Sequence::Csi { prefix: b'?', parameters, intermediate: 0, last: last @ (b'h' | b'l') } => {
                parameters.iter().for_each(|mode| self.set(*mode, *last == b'h'));
            }
            Sequence::Csi { prefix: 0, parameters, intermediate: 0, last: b'r' } => {
                let part = |at: usize| parameters.get(at).copied().unwrap_or(0);
                self.region = ((part(0), part(1)) != (0, 0)).then_some((part(0).max(1), part(1)));
            }
            Sequence::Csi { prefix, parameters, intermediate: 0, last: b'u' } => {
                self.set_keyboard(*prefix, parameters);
            }
            // DECSTR
            Sequence::Csi { prefix: 0, intermediate: b'!', last: b'p', .. } => {
                self.region = None;
                self.changed.retain(|mode| ![1, 6, 7, 25].contains(mode));
            }
            Sequence::Osc(text) => {
                if let Some(title) = text.strip_prefix(b"0;").or_else(|| text.strip_prefix(b"2;")) {
                    let title = String::from_utf8_lossy(title);
                    self.title = title.chars().filter(|c| !c.is_control()).take(LONGEST_TITLE).collect();
                }
            }
            Sequence::Reset => *self = Self::default(),
            _ => {}
        }
    }

    fn set(&mut self, mode: u16, on: bool) {
        // Three modes for one screen.
        if matches!(mode, 47 | 1047 | 1049) && !on {
            self.changed.retain(|mode| !matches!(mode, 47 | 1047 | 1049));
        } else if KNOWN.contains(&mode) {
            if ON.contains(&mode) != on {
                self.changed.insert(mode)
            } else {
                self.changed.remove(&mode)
            };
        }
    }

    /// <https://sw.kovidgoyal.net/kitty/keyboard-protocol/>: push, pop, set.
    fn set_keyboard(&mut self, prefix: u8, parameters: &[u16]) {
        let part = |at: usize| parameters.get(at).copied().unwrap_or(0);
        match prefix {
            b'>' => {
                if self.keyboard.len() == DEEPEST {
                    self.keyboard.remove(0);
                }
                self.keyboard.push(part(0));
            }
            b'<' => {
                let left = self.keyboard.len().saturating_sub(usize::from(part(0).max(1)));
                self.keyboard.truncate(left);
            }
            b'=' => {
                let now = self.keyboard();
                let flags = match part(1) {
                    2 => now | part(0),
                    3 => now & !part(0),
                    _ => part(0),
                };
                self.keyboard.pop();
                self.keyboard.push(flags);
            }
            _ => {}
        }
    }

    fn keyboard(&self) -> u16 {
        self.keyboard.last().copied().unwrap_or(0)
    }

    /// Brings a terminal whose modes are all as at first to these, except for what the emulator restores.
    pub(crate) fn restore(&self, bytes: &mut String) {
        for mode in RESTORED.iter().filter(|mode| self.changed.contains(mode)) {
            let _ = write!(bytes, "\x1b[?{mode}{}", if self.is_on(*mode) { 'h' } else { 'l' });
        }
        for flags in &self.keyboard {
            let _ = write!(bytes, "\x1b[>{flags}u");
        }
        if !self.title.is_empty() {
            let _ = write!(bytes, "\x1b]2;{}\x07", self.title);
        }
    }

    /// Sets the scroll region, if there is one; the cursor is moved by that.
    pub(crate) fn restore_region(&self, bytes: &mut String) -> bool {
        let Some((top, bottom)) = self.region else { return false };
        let bottom = if bottom == 0 { String::new() } else { bottom.to_string() };
        let _ = write!(bytes, "\x1b[{top};{bottom}r");
        true
    }

    /// What a terminal answers to a query; none: it is not one, or one that is better left without an answer. `cursor`:
    /// row and column from 1; `size`: rows and columns.
    pub(crate) fn answer(&self, query: &Sequence, cursor: (u16, u16), size: (u16, u16)) -> Option<Vec<u8>> {
        let answer = match query {
            Sequence::Csi { prefix, parameters, intermediate, last } => {
                let first = parameters.first().copied().unwrap_or(0);
                match (prefix, intermediate, last, first) {
                    // DA1: a VT220 with colours.
                    (0, 0, b'c', 0) => "\x1b[?62;22c".to_owned(),
                    // DA2: a VT220, as xterm's old ones.
                    (b'>', 0, b'c', 0) => "\x1b[>1;10;0c".to_owned(),
                    // XTVERSION
                    (b'>', 0, b'q', 0) => format!("\x1bP>|stockade({})\x1b\\", env!("CARGO_PKG_VERSION")),
                    (0, 0, b'n', 5) => "\x1b[0n".to_owned(),
                    (0, 0, b'n', 6) => format!("\x1b[{};{}R", cursor.0, cursor.1),
                    (b'?', 0, b'n', 6) => format!("\x1b[?{};{}R", cursor.0, cursor.1),
                    // DECRQM
                    (b'?', b'$', b'p', mode) => {
                        let is = if !KNOWN.contains(&mode) {
                            0
                        } else if self.is_on(mode) {
                            1
                        } else {
                            2
                        };
                        format!("\x1b[?{mode};{is}$y")
                    }
                    (0, b'$', b'p', mode) => format!("\x1b[{mode};0$y"),
                    // kitty's keyboard flags
                    (b'?', 0, b'u', 0) => format!("\x1b[?{}u", self.keyboard()),
                    // XTWINOPS: the size in characters.
                    (0, 0, b't', 18) => format!("\x1b[8;{};{}t", size.0, size.1),
                    _ => return None,
                }
            }
            // Light on dark, as nearly every terminal is; nobody looks at this one.
            Sequence::Osc(text) if text == b"10;?" => "\x1b]10;rgb:e5e5/e5e5/e5e5\x1b\\".to_owned(),
            Sequence::Osc(text) if text == b"11;?" => "\x1b]11;rgb:0000/0000/0000\x1b\\".to_owned(),
            // XTGETTCAP, DECRQSS: not known here, said as xterm says it.
            Sequence::Dcs(text) if text.starts_with(b"+q") => "\x1bP0+r\x1b\\".to_owned(),
            Sequence::Dcs(text) if text.starts_with(b"$q") => "\x1bP0$r\x1b\\".to_owned(),
            _ => return None,
        };
        Some(answer.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::Scanner;
    use super::*;

    fn answers(modes: &mut Modes, mut output: &[u8]) -> Vec<String> {
        let mut scanner = Scanner::default();
        let mut all = Vec::new();
        while !output.is_empty() {
            let (used, sequence) = scanner.next(output);
            output = &output[used..];
            if let Some(sequence) = sequence {
                let answer = modes.answer(&sequence, (3, 7), (40, 120));
                all.extend(answer.map(|bytes| String::from_utf8(bytes).expect("text")));
                modes.apply(&sequence);
            }
        }
        all
    }

    #[test]
    fn each_query_has_one_answer_and_a_setting_has_none() {
        let mut modes = Modes::default();
        let asked =
            b"\x1b[c\x1b[0c\x1b[5n\x1b[6n\x1b[?6n\x1b[18t\x1b[?2026$p\x1b[?9999$p\x1b[?25$p\x1b]11;?\x07";
        let expected = [
            "\x1b[?62;22c",
            "\x1b[?62;22c",
            "\x1b[0n",
            "\x1b[3;7R",
            "\x1b[?3;7R",
            "\x1b[8;40;120t",
            "\x1b[?2026;2$y",
            "\x1b[?9999;0$y",
            "\x1b[?25;1$y",
            "\x1b]11;rgb:0000/0000/0000\x1b\\",
        ];
        assert_eq!(answers(&mut modes, asked), expected);
        assert!(
            answers(&mut modes, b"\x1b[2J\x1b[?1049h\x1b[ q\x1b[4;2H\x1b]0;c\x07\x1b[>1u\x1b[1;5r")
                .is_empty()
        );
    }

    #[test]
    fn keyboard_flags_are_pushed_and_popped() {
        let mut modes = Modes::default();
        let asked = b"\x1b[?u\x1b[>1u\x1b[?u\x1b[=4;2u\x1b[?u\x1b[<u\x1b[?u\x1b[<9u\x1b[?u";
        let expected = ["\x1b[?0u", "\x1b[?1u", "\x1b[?5u", "\x1b[?0u", "\x1b[?0u"];
        assert_eq!(answers(&mut modes, asked), expected);
    }

    #[test]
    fn a_title_cannot_smuggle_a_sequence_into_a_drawing() {
        let mut modes = Modes::default();
        answers(&mut modes, b"\x1b]2;a\nb\x01\xc2\x9bc\x07");
        assert_eq!(modes.title, "abc");
    }
}
