//! What a viewer's terminal emulator says by itself: answers to the agent's queries.
//!
//! Every window that shows the output sees the queries in it, and its terminal answers each of them, also those that are
//! only shown again after a reconnection. The agent asked once: only the size owner's terminal is heard, once for each
//! query that it owes an answer to.

use bytes::Bytes;

use super::Terminal;

/// Longest answer that is waited for when its bytes are split.
const LONGEST: usize = 1024;

/// Which kind of query it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// DA1, DA2, DA3
    Attributes,
    /// DSR 5
    Status,
    /// DSR 6
    Cursor,
    /// DECRQM
    Mode,
    /// kitty's flags
    Keyboard,
    /// XTWINOPS
    Window,
    /// XTVERSION, XTGETTCAP, DECRQSS
    Device,
    /// OSC 4, 10, 11 …
    Colour,
}

impl Kind {
    /// Of an answer as a whole.
    pub(super) fn of(answer: &[u8]) -> Option<Self> {
        match part(answer) {
            Part::Reply(kind, length) if length == answer.len() => Some(kind),
            _ => None,
        }
    }
}

/// What lies in front of typed bytes.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// An answer of so many bytes.
    Reply(Kind, usize),
    /// So many bytes that are none.
    Typed(usize),
    /// What may become one.
    Open,
}

fn part(bytes: &[u8]) -> Part {
    match bytes {
        [0x1b, b'[', rest @ ..] => csi(rest),
        [0x1b, b']', b'0'..=b'9', ..] => string(bytes, Kind::Colour),
        [0x1b, b'P', b'>' | b'0' | b'1' | b'!', ..] => string(bytes, Kind::Device),
        [] => Part::Typed(0),
        // A key: up to the next escape.
        [_, rest @ ..] => Part::Typed(1 + memchr::memchr(0x1b, rest).unwrap_or(rest.len())),
    }
}

fn csi(rest: &[u8]) -> Part {
    let length = rest.iter().position(|byte| !(0x20..=0x3f).contains(byte));
    let Some(length) = length else {
        let begun = rest.first().is_some_and(|byte| byte.is_ascii_digit() || b"?>=".contains(byte));
        return if begun && rest.len() < LONGEST { Part::Open } else { Part::Typed(2 + rest.len()) };
    };
    let (parameters, last) = (&rest[..length], rest[length]);
    let asked = matches!(parameters.first(), Some(b'?' | b'>' | b'='));
    let kind = match last {
        b'c' if asked => Kind::Attributes,
        b'n' if parameters == b"0" || parameters == b"3" => Kind::Status,
        b'R' if parameters.contains(&b';') => Kind::Cursor,
        b'y' if parameters.ends_with(b"$") => Kind::Mode,
        b'u' if parameters.first() == Some(&b'?') => Kind::Keyboard,
        b't' if parameters.contains(&b';') => Kind::Window,
        _ => return Part::Typed(2 + length + 1),
    };
    Part::Reply(kind, 2 + length + 1)
}

fn string(bytes: &[u8], kind: Kind) -> Part {
    let bell = memchr::memchr(0x07, bytes).map(|at| at + 1);
    let end = memchr::memmem::find(&bytes[1..], b"\x1b\\").map(|at| at + 3);
    match bell.into_iter().chain(end).min() {
        Some(length) => Part::Reply(kind, length),
        None if bytes.len() < LONGEST => Part::Open,
        None => Part::Typed(bytes.len()),
    }
}

/// Shift-F3 and its like look like the cursor in the first row.
fn is_key(reply: &[u8]) -> bool {
    let modifier = reply.strip_prefix(b"\x1b[1;").and_then(|rest| rest.strip_suffix(b"R"));
    let number = modifier.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u8>().ok());
    number.is_some_and(|number| (2..=16).contains(&number))
}

/// Takes replies out of what one viewer types.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// The beginning of an answer whose end has not come.
    held: Vec<u8>,
}

impl Replies {
    /// What of these bytes reaches the agent.
    pub(crate) async fn pass(&mut self, terminal: &Terminal, bytes: Bytes, owns: impl Fn() -> bool) -> Bytes {
        if self.held.is_empty() && memchr::memchr(0x1b, &bytes).is_none() {
            return bytes;
        }
        self.held.extend_from_slice(&bytes);
        let all = std::mem::take(&mut self.held);
        let mut passed = Vec::with_capacity(all.len());
        let mut rest = &all[..];
        while !rest.is_empty() {
            let used = match part(rest) {
                Part::Typed(length) => {
                    passed.extend_from_slice(&rest[..length]);
                    length
                }
                Part::Reply(kind, length) => {
                    if owns() && (is_owed(terminal, kind).await || is_key(&rest[..length])) {
                        passed.extend_from_slice(&rest[..length]);
                    }
                    length
                }
                Part::Open => {
                    self.held = rest.to_vec();
                    break;
                }
            };
            rest = &rest[used..];
        }
        passed.into()
    }
}

/// The window may have been faster than the screen: whoever answers has seen the query, so the log has it.
async fn is_owed(terminal: &Terminal, kind: Kind) -> bool {
    if terminal.viewers().pays(kind) {
        return true;
    }
    terminal.feed().caught_up().await;
    terminal.viewers().pays(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_ours_is_known_as_one_and_a_key_is_not() {
        let answers: [(&[u8], Kind); 9] = [
            (b"\x1b[?62;22c", Kind::Attributes),
            (b"\x1b[>1;10;0c", Kind::Attributes),
            (b"\x1b[0n", Kind::Status),
            (b"\x1b[12;40R", Kind::Cursor),
            (b"\x1b[?2026;2$y", Kind::Mode),
            (b"\x1b[?1u", Kind::Keyboard),
            (b"\x1bP>|xterm(370)\x1b\\", Kind::Device),
            (b"\x1b]11;rgb:0000/0000/0000\x1b\\", Kind::Colour),
            (b"\x1b]11;rgb:0000/0000/0000\x07", Kind::Colour),
        ];
        for (answer, kind) in answers {
            assert_eq!(part(answer), Part::Reply(kind, answer.len()), "{answer:?}");
        }
        let keys: [&[u8]; 9] = [
            b"\x1b",
            b"\x1b[A",
            b"\x1b[1;5C",
            b"\x1bP",
            b"\x1b[<0;3;4M",
            b"\x1b[I",
            b"\x1b[200~",
            b"\x1b]",
            b"\x1b[97;5u",
        ];
        for key in keys {
            assert_eq!(part(key), Part::Typed(key.len()), "{key:?}");
        }
        assert!(is_key(b"\x1b[1;2R") && !is_key(b"\x1b[2;2R"));
        assert_eq!(part(b"\x1b[?62;2"), Part::Open);
    }
}
