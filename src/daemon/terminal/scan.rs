//! Finds in a terminal's output the sequences that the emulator does not keep for us: queries, modes, the title.
//!
//! ECMA-48 and xterm's ctlseqs, as far as that takes: it never misses the end of a sequence, however its bytes are split.

/// Longest sequence that is looked into; a longer one is passed over.
const LONGEST: usize = 4096;

/// A sequence that somebody may care for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// `CSI prefix parameters intermediate final`
    Csi {
        /// `?`, `>`, `=`, `<` or 0.
        prefix: u8,
        /// Numbers; a missing one is 0.
        parameters: Vec<u16>,
        /// `$`, `!`, space … or 0.
        intermediate: u8,
        /// What it does.
        last: u8,
    },
    /// `OSC … ST`
    Osc(Vec<u8>),
    /// `DCS … ST`
    Dcs(Vec<u8>),
    /// `ESC c`
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    EscapeIntermediate,
    Csi,
    Osc,
    Dcs,
    /// SOS, PM, APC: nobody cares for what is in them.
    Ignored,
    /// An escape within a string: `\` ends it.
    Terminator,
}

/// Where it is between two pieces of output.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scanner {
    state: State,
    /// Which string `Terminator` is in.
    within: State,
    held: Vec<u8>,
}

impl Scanner {
    /// Whether it is between two sequences.
    pub(crate) fn is_between(&self) -> bool {
        self.state == State::Ground
    }

    /// Reads up to the end of the next sequence; how many bytes that took.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> (usize, Option<Sequence>) {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Ground {
                match memchr::memchr(0x1b, &bytes[at..]) {
                    Some(skip) => at += skip,
                    None => return (bytes.len(), None),
                }
            }
            let found = self.step(bytes[at]);
            at += 1;
            if found.is_some() {
                return (at, found);
            }
        }
        (at, None)
    }

    fn step(&mut self, byte: u8) -> Option<Sequence> {
        match (self.state, byte) {
            (State::Osc | State::Dcs | State::Ignored, 0x1b) => {
                self.within = self.state;
                self.state = State::Terminator;
            }
            (_, 0x1b) => self.enter(State::Escape),
            // CAN and SUB put an end to everything.
            (_, 0x18 | 0x1a) => self.enter(State::Ground),
            (State::Ground, _) => {}
            (State::Escape, b'[') => self.enter(State::Csi),
            (State::Escape, b']') => self.enter(State::Osc),
            (State::Escape, b'P') => self.enter(State::Dcs),
            (State::Escape, b'X' | b'^' | b'_') => self.enter(State::Ignored),
            (State::Escape, b'c') => {
                self.enter(State::Ground);
                return Some(Sequence::Reset);
            }
            (State::Escape, 0x20..=0x2f) => self.enter(State::EscapeIntermediate),
            (State::Escape | State::EscapeIntermediate, 0x30..=0x7e) => self.enter(State::Ground),
            (State::Csi, 0x40..=0x7e) => return self.csi(byte),
            (State::Csi, 0x20..=0x3f) => self.hold(byte),
            (State::Osc, 0x07) => return self.string(State::Osc),
            (State::Osc | State::Dcs, _) => self.hold(byte),
            (State::Terminator, b'\\') => return self.string(self.within),
            (State::Terminator, _) => {
                // The escape began another sequence.
                self.enter(State::Escape);
                return self.step(byte);
            }
            // Control characters within a sequence are carried out at once, and change nothing of it.
            _ => {}
        }
        None
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.held.clear();
    }

    fn hold(&mut self, byte: u8) {
        if self.held.len() <= LONGEST {
            self.held.push(byte);
        }
    }

    fn string(&mut self, state: State) -> Option<Sequence> {
        let held = std::mem::take(&mut self.held);
        self.enter(State::Ground);
        match state {
            State::Osc if held.len() <= LONGEST => Some(Sequence::Osc(held)),
            State::Dcs if held.len() <= LONGEST => Some(Sequence::Dcs(held)),
            _ => None,
        }
    }

    fn csi(&mut self, last: u8) -> Option<Sequence> {
        let held = std::mem::take(&mut self.held);
        self.enter(State::Ground);
        // Most of them paint: they are the emulator's.
        if !matches!(last, b'c' | b'h' | b'l' | b'n' | b'p' | b'q' | b'r' | b't' | b'u')
            || held.len() > LONGEST
        {
            return None;
        }
        let (prefix, rest) = match held.split_first() {
            Some((prefix @ b'<'..=b'?', rest)) => (*prefix, rest),
            _ => (0, &held[..]),
        };
        let digits = rest.iter().position(|byte| !(b'0'..=b';').contains(byte)).unwrap_or(rest.len());
        let (parameters, intermediates) = rest.split_at(digits);
        let number = |part: &[u8]| {
            let digits = part.iter().take_while(|byte| byte.is_ascii_digit());
            digits.fold(0u16, |n, digit| n.saturating_mul(10).saturating_add(u16::from(digit - b'0')))
        };
        let parameters = parameters.split(|byte| *byte == b';').map(number).collect();
        let intermediate = match intermediates {
            [] => 0,
            [one] => *one,
            // Nobody knows such a sequence.
            _ => return None,
        };
        Some(Sequence::Csi { prefix, parameters, intermediate, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(scanner: &mut Scanner, mut bytes: &[u8]) -> Vec<Sequence> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let (used, sequence) = scanner.next(bytes);
            found.extend(sequence);
            bytes = &bytes[used..];
        }
        found
    }

    fn csi(prefix: u8, parameters: &[u16], intermediate: u8, last: u8) -> Sequence {
        Sequence::Csi { prefix, parameters: parameters.into(), intermediate, last }
    }

    #[test]
    fn every_kind_of_query_is_found_between_text_and_paint() {
        let output = b"a\x1b[31mb\x1b[c\x1b[>q\x1b[?2026$p\x1b]11;?\x07\x1b]10;?\x1b\\\x1bP+q544e\x1b\\\x1b[?1;2hx\x1bc";
        let expected = [
            csi(0, &[0], 0, b'c'),
            csi(b'>', &[0], 0, b'q'),
            csi(b'?', &[2026], b'$', b'p'),
            Sequence::Osc(b"11;?".into()),
            Sequence::Osc(b"10;?".into()),
            Sequence::Dcs(b"+q544e".into()),
            csi(b'?', &[1, 2], 0, b'h'),
            Sequence::Reset,
        ];
        assert_eq!(all(&mut Scanner::default(), output), expected);
    }

    #[test]
    fn what_is_quoted_in_a_string_is_no_query_and_what_is_cut_off_ends() {
        assert_eq!(
            all(&mut Scanner::default(), b"\x1b_\x1b\\x\x1b]0;[c\x07"),
            [Sequence::Osc(b"0;[c".into())]
        );
        assert_eq!(all(&mut Scanner::default(), b"\x1b[?1\x18c\x1b[5\x1b[6n"), [csi(0, &[6], 0, b'n')]);
        assert_eq!(all(&mut Scanner::default(), b"\x1b]0;x\x1b[6n"), [csi(0, &[6], 0, b'n')]);
    }

    proptest! {
        #[test]
        fn it_finds_the_same_however_the_output_is_split(
            bytes in proptest::collection::vec(prop_oneof![
                Just(0x1bu8), Just(b'['), Just(b']'), Just(b'?'), Just(b'\\'), Just(7u8), Just(b'c'), any::<u8>()
            ], 0..200),
            cut in 0..200usize,
        ) {
            let whole = all(&mut Scanner::default(), &bytes);
            let (one, two) = bytes.split_at(cut.min(bytes.len()));
            let mut scanner = Scanner::default();
            let mut split = all(&mut scanner, one);
            split.extend(all(&mut scanner, two));
            prop_assert_eq!(whole, split);
        }
    }
}
