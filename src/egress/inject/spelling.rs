//! The ways in which one text is written: plainly, escaped for JSON, a URL or HTML, or inside of Base64.
//!
//! The agent can have its guesses echoed, a million times in one answer, and measure how long the gateway takes. So the search
//! compares sums of windows, not byte after byte: it takes as long for a text that begins like a secret as for any other.

use std::ops::Range;

/// Longest spelling of one byte: `\u002f`, `&#x2f;`.
const LONGEST: usize = 6;

/// Odd, so that no byte of a window is lost from the sum.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How a text may be escaped. One kind at a time: what looks like an escape in one is plain text in the others.
#[derive(Debug, Clone, Copy)]
pub enum Escapes {
    None,
    Json,
    Url,
    Html,
}

impl Escapes {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::None, Self::Json, Self::Url, Self::Html];

    /// Whether `text` reads the same as without escapes.
    pub fn are_absent(self, text: &[u8]) -> bool {
        let mark = match self {
            Self::None => return false,
            Self::Json => b'\\',
            Self::Url => b'%',
            Self::Html => b'&',
        };
        !text.contains(&mark)
    }

    /// What `text` says, from `start` on.
    pub fn read(self, text: &[u8], start: usize) -> Vec<Unit> {
        let mut units = Vec::with_capacity(text.len());
        let mut start = start;
        while let Some(byte) = text.get(start) {
            let (byte, length) = self.escaped(&text[start..]).unwrap_or((*byte, 1));
            units.push(Unit { byte: normal(byte), start });
            start += length;
        }
        units
    }

    /// The byte that an escape at the beginning of `text` stands for, and the length of the escape.
    fn escaped(self, text: &[u8]) -> Option<(u8, usize)> {
        match (self, text) {
            (Self::Json, [b'\\', b'u', b'0', b'0', digits @ ..]) => Some((hex(digits.get(..2)?)?, 6)),
            (Self::Json, [b'\\', byte @ (b'"' | b'\'' | b'/' | b'\\'), ..]) => Some((*byte, 2)),
            (Self::Url, [b'%', digits @ ..]) => Some((hex(digits.get(..2)?)?, 3)),
            (Self::Html, [b'&', rest @ ..]) => {
                let length = rest.iter().take(LONGEST - 1).position(|byte| *byte == b';')?;
                Some((entity(&rest[..length])?, length + 2))
            }
            _ => None,
        }
    }
}

/// One byte of what a text says, and where its spelling begins.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    byte: u8,
    /// In the text as it is written.
    pub start: usize,
}

/// A URL has `+` for a space, and its Base64 has `-` and `_`: a search that confuses them finds no less.
fn normal(byte: u8) -> u8 {
    match byte {
        b' ' | b'-' => b'+',
        b'_' => b'/',
        other => other,
    }
}

/// A text to be found.
#[derive(Debug)]
pub struct Needle {
    bytes: Vec<u8>,
    sum: u64,
    /// What a byte that leaves the window has become in the sum.
    leaving: u64,
    /// Whether the digit before the first, or behind the last, tells some bits of the text.
    shares: (bool, bool),
}

impl Needle {
    /// `text` itself and what it is in Base64. `is_folded`: where it was put in lower case.
    pub fn all(text: &[u8], is_folded: bool) -> impl Iterator<Item = Self> {
        let plain = (text.to_vec(), (false, false));
        let all = [plain].into_iter().chain((0..3).map(|shift| in_base64(text, shift)));
        all.map(move |(mut bytes, shares)| {
            if is_folded {
                bytes.make_ascii_lowercase();
            }
            bytes.iter_mut().for_each(|byte| *byte = normal(*byte));
            let sum = bytes.iter().fold(0, |sum, byte| entered(sum, *byte));
            let leaving = bytes.iter().fold(1, |power: u64, _| power.wrapping_mul(BASE));
            Self { bytes, sum, leaving, shares }
        })
    }

    /// Most bytes that it takes, with those that share bits with it.
    pub fn longest(&self) -> usize {
        (self.bytes.len() + 2) * LONGEST
    }

    /// Calls `found` with each place of it in a text of `length` bytes.
    pub fn find(&self, units: &[Unit], length: usize, mut found: impl FnMut(Range<usize>)) {
        let count = self.bytes.len();
        let mut sum = 0;
        for (at, unit) in units.iter().enumerate() {
            sum = entered(sum, unit.byte);
            if let Some(left) = at.checked_sub(count) {
                sum = sum.wrapping_sub(value(units[left].byte).wrapping_mul(self.leaving));
            }
            if sum == self.sum && count > 0 && at + 1 >= count {
                let first = at + 1 - count;
                if units[first..=at].iter().map(|unit| unit.byte).eq(self.bytes.iter().copied()) {
                    found(self.extent(units, first, at, length));
                }
            }
        }
    }

    fn extent(&self, units: &[Unit], first: usize, last: usize, length: usize) -> Range<usize> {
        let is_digit = |at: &usize| {
            units.get(*at).is_some_and(|unit| unit.byte.is_ascii_alphanumeric() || b"+/".contains(&unit.byte))
        };
        let before = first.checked_sub(1).filter(|at| self.shares.0 && is_digit(at)).unwrap_or(first);
        let behind = Some(last + 1).filter(|at| self.shares.1 && is_digit(at)).unwrap_or(last);
        units[before].start..units.get(behind + 1).map_or(length, |unit| unit.start)
    }
}

fn value(byte: u8) -> u64 {
    u64::from(byte) + 1
}

fn entered(sum: u64, byte: u8) -> u64 {
    sum.wrapping_mul(BASE).wrapping_add(value(byte))
}

/// The digits that only `text` decides, where `shift` bytes (modulo 3) come before it; and whether digits beside them have
/// bits of it, too.
fn in_base64(text: &[u8], shift: usize) -> (Vec<u8>, (bool, bool)) {
    let padded = [&b"\0\0"[..shift], text].concat();
    let bit = |at: usize| padded[at / 8] >> (7 - at % 8) & 1;
    let digit = |at: usize| (at * 6..at * 6 + 6).fold(0, |sum, at| sum << 1 | usize::from(bit(at)));
    let (first, end) = ((shift * 8).div_ceil(6), padded.len() * 8 / 6);
    let digits = (first..end).map(|at| BASE64[digit(at)]).collect();
    (digits, (shift > 0, !(padded.len() * 8).is_multiple_of(6)))
}

fn entity(name: &[u8]) -> Option<u8> {
    match name {
        b"amp" => Some(b'&'),
        b"lt" => Some(b'<'),
        b"gt" => Some(b'>'),
        b"quot" => Some(b'"'),
        b"apos" => Some(b'\''),
        [b'#', b'x' | b'X', digits @ ..] => u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok(),
        [b'#', digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A careful encoder, to hold the patterns to.
    fn base64(bytes: &[u8]) -> String {
        let mut out = String::new();
        for three in bytes.chunks(3) {
            let sum = (0..3).fold(0_u32, |sum, at| sum << 8 | u32::from(*three.get(at).unwrap_or(&0)));
            let digits = (0..4).map(|at| char::from(BASE64[(sum >> (18 - 6 * at) & 63) as usize]));
            out.extend(digits.take(three.len() + 1));
            out.extend(std::iter::repeat_n('=', 3 - three.len()));
        }
        out
    }

    #[test]
    fn base64_is_what_others_make_of_it() {
        for (text, encoded) in [("foobar", "Zm9vYmFy"), ("fooba", "Zm9vYmE="), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    proptest! {
        #[test]
        fn base64_hides_nothing_whatever_stands_around_it(
            before in "[ -~]{0,7}", text in "[ -~]{8,40}", behind in "[ -~]{0,7}", for_urls: bool
        ) {
            let mut encoded = base64(format!("{before}{text}{behind}").as_bytes());
            if for_urls {
                encoded = encoded.replace('+', "-").replace('/', "_");
            }
            let mut covered = vec![false; encoded.len()];
            let units = Escapes::None.read(encoded.as_bytes(), 0);
            for needle in Needle::all(text.as_bytes(), false) {
                needle.find(&units, encoded.len(), |digits| covered[digits].fill(true));
            }
            let all = before.len() * 8 / 6..((before.len() + text.len()) * 8).div_ceil(6);
            prop_assert!(!covered[all].contains(&false), "{}: {:?}", encoded, covered);
        }

        #[test]
        fn every_spelling_is_found_with_any_bytes_escaped(
            text in "[ -$'-~]{8,30}", kind in 0_usize..4, chosen in proptest::collection::vec(any::<bool>(), 30)
        ) {
            let (escapes, mark) = [(Escapes::Json, '\\'), (Escapes::Url, '%'), (Escapes::Html, '&'), (Escapes::Html, '&')][kind];
            let spell = |(byte, is_chosen): (u8, &bool)| match (kind, *is_chosen || char::from(byte) == mark) {
                (_, false) => char::from(byte).to_string(),
                (0, _) => format!("\\u{byte:04x}"),
                (1, _) => format!("%{byte:02X}"),
                (2, _) => format!("&#x{byte:02x};"),
                (_, _) => format!("&#{byte};"),
            };
            let spelt: String = text.bytes().zip(&chosen).map(|(byte, is_chosen)| spell((byte, is_chosen))).collect();
            let plain = Needle::all(text.as_bytes(), false).next().expect("the plain one");
            let mut covered = vec![false; spelt.len()];
            plain.find(&escapes.read(spelt.as_bytes(), 0), spelt.len(), |place| covered[place].fill(true));
            prop_assert!(!covered.contains(&false), "{}: {:?}", spelt, covered);
            prop_assert!(spelt.len() <= plain.longest());
        }

        #[test]
        fn no_bytes_make_the_search_panic(text in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..60) {
            for escapes in Escapes::ALL {
                let units = escapes.read(&text, at);
                for needle in Needle::all(b"%2&#\\ a+/", false) {
                    needle.find(&units, text.len(), |_| {});
                }
            }
        }
    }
}
