//! The ways in which one text is written: plainly, escaped for JSON, a URL or HTML, or inside of Base64.

/// Longest spelling of one byte: `\u002f`, `&#x2f;`.
const LONGEST: usize = 6;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A text to be found, each byte of it in any of its spellings.
#[derive(Debug)]
pub struct Pattern {
    /// What each byte may be: two for Base64, whose last two digits differ in URLs.
    steps: Vec<[u8; 2]>,
    /// Whether the digit before the first, or behind the last, tells some bits of the text.
    shares: (bool, bool),
}

impl Pattern {
    /// Every way in which `text` may be written. `is_folded`: where it was put in lower case.
    pub fn of(text: &[u8], is_folded: bool) -> impl Iterator<Item = Self> {
        let plain = Self { steps: text.iter().map(|byte| [*byte, *byte]).collect(), shares: (false, false) };
        let all = [plain].into_iter().chain((0..3).map(|shift| Self::in_base64(text, shift)));
        all.map(move |mut pattern| {
            if is_folded {
                pattern.steps.as_flattened_mut().make_ascii_lowercase();
            }
            pattern
        })
    }

    /// The digits that only `text` decides, where `shift` bytes (modulo 3) come before it.
    fn in_base64(text: &[u8], shift: usize) -> Self {
        let padded = [&b"\0\0"[..shift], text].concat();
        let bit = |at: usize| padded[at / 8] >> (7 - at % 8) & 1;
        let digit = |at: usize| (at * 6..at * 6 + 6).fold(0, |sum, at| sum << 1 | usize::from(bit(at)));
        let (first, end) = ((shift * 8).div_ceil(6), padded.len() * 8 / 6);
        let step = |at: usize| match BASE64[digit(at)] {
            b'+' => [b'+', b'-'],
            b'/' => [b'/', b'_'],
            digit => [digit, digit],
        };
        let steps = (first..end).map(step).collect();
        Self { steps, shares: (shift > 0, !(padded.len() * 8).is_multiple_of(6)) }
    }

    /// Most bytes that it takes, with those that share bits with it.
    pub fn longest(&self) -> usize {
        self.steps.len() * LONGEST + 2
    }

    /// Whether it may begin with `byte`.
    pub fn begins(&self, byte: u8) -> bool {
        let first = self
            .steps
            .first()
            .is_some_and(|step| step.contains(&byte) || step.contains(&b' ') && byte == b'+');
        first || b"\\%&".contains(&byte)
    }

    /// Which bytes of `text` belong to it, if it begins at `start`.
    pub fn at(&self, text: &[u8], start: usize) -> Option<std::ops::Range<usize>> {
        // Where the text itself has a '%' or a '\', two readings go on side by side.
        let mut ends = vec![start];
        for step in &self.steps {
            let mut next: Vec<usize> = Vec::with_capacity(ends.len());
            for end in ends {
                let lengths = spelt(text.get(end..)?, *step);
                next.extend(lengths.into_iter().flatten().map(|length| end + length));
            }
            next.dedup();
            ends = next;
            ends.first()?;
        }
        let end = ends.into_iter().max()?;
        let is_digit = |at: &usize| {
            text.get(*at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte))
        };
        let before = start.checked_sub(1).filter(|at| self.shares.0 && is_digit(at));
        let behind = Some(end).filter(|at| self.shares.1 && is_digit(at));
        Some(before.unwrap_or(start)..behind.map_or(end, |at| at + 1))
    }
}

/// How many bytes at the beginning of `text` spell one of `bytes`: as it is, and escaped.
fn spelt(text: &[u8], bytes: [u8; 2]) -> [Option<usize>; 2] {
    let is_plain = |byte: &u8| bytes.contains(byte) || *byte == b'+' && bytes.contains(&b' ');
    let plain = text.first().filter(|byte| is_plain(byte)).map(|_| 1);
    let escaped = escaped(text).filter(|(byte, _)| bytes.contains(byte)).map(|(_, length)| length);
    [plain, escaped]
}

/// The byte that an escape at the beginning of `text` stands for, and the length of the escape.
fn escaped(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'\\', b'u', b'0', b'0', digits @ ..] => Some((hex(digits.get(..2)?)?, 6)),
        [b'\\', byte @ (b'"' | b'\'' | b'/' | b'\\'), ..] => Some((*byte, 2)),
        [b'%', digits @ ..] => Some((hex(digits.get(..2)?)?, 3)),
        [b'&', rest @ ..] => {
            let length = rest.iter().take(LONGEST - 1).position(|byte| *byte == b';')?;
            Some((entity(&rest[..length])?, length + 2))
        }
        _ => None,
    }
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
            for pattern in Pattern::of(text.as_bytes(), false) {
                let found = (0..encoded.len()).filter_map(|at| pattern.at(encoded.as_bytes(), at));
                found.for_each(|digits| covered[digits].fill(true));
            }
            // Every digit that has a bit of the text in it.
            let all = before.len() * 8 / 6..((before.len() + text.len()) * 8).div_ceil(6);
            prop_assert!(!covered[all].contains(&false), "{}: {:?}", encoded, covered);
        }

        #[test]
        fn every_mixture_of_spellings_is_found(text in "[ -~]{8,30}", seed in proptest::collection::vec(0_usize..5, 30)) {
            let spell = |(byte, how): (u8, &usize)| match how {
                0 => format!("%{byte:02X}"),
                1 => format!("%{byte:02x}"),
                2 => format!("\\u{byte:04x}"),
                3 => format!("&#{byte};"),
                _ => char::from(byte).to_string(),
            };
            let spelt: String = text.bytes().zip(&seed).map(spell).collect();
            let mut patterns = Pattern::of(text.as_bytes(), false);
            let plain = patterns.next().expect("the plain one");
            prop_assert_eq!(plain.at(spelt.as_bytes(), 0), Some(0..spelt.len()));
            prop_assert!(spelt.len() <= plain.longest() && plain.begins(spelt.as_bytes()[0]));
        }

        #[test]
        fn no_bytes_make_the_search_panic(text in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..60) {
            for pattern in Pattern::of(b"%2&#\\ a+/", false) {
                let _ = pattern.at(&text, at);
            }
        }
    }
}
