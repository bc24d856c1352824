//! Text of a terminal in the forms that Parallax takes: whole characters, a turn's output, its summary and confidence.

use std::borrow::Cow;

/// The most characters of output in one event.
pub const LONGEST_OUTPUT: usize = 8000;

const LONGEST_SUMMARY: usize = 1000;

/// Cuts a stream of bytes only where a character ends. What is no UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub struct Characters {
    begun: Vec<u8>,
}

impl Characters {
    /// All whole characters so far; the beginning of one waits for its rest.
    pub fn feed(&mut self, bytes: &[u8]) -> String {
        self.begun.extend_from_slice(bytes);
        let whole = self.begun.len() - begun_character(&self.begun);
        let rest = self.begun.split_off(whole);
        let whole = std::mem::replace(&mut self.begun, rest);
        lossy(&whole)
    }

    /// Nothing comes any more: what is left.
    pub fn finish(&mut self) -> String {
        lossy(&std::mem::take(&mut self.begun))
    }
}

fn lossy(bytes: &[u8]) -> String {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// How many bytes at the end are the beginning of a character whose rest may come.
fn begun_character(bytes: &[u8]) -> usize {
    match std::str::from_utf8(&bytes[bytes.len().saturating_sub(3)..]) {
        Ok(_) => 0,
        Err(_) => (1..=3.min(bytes.len()))
            .find(|n| {
                let tail = &bytes[bytes.len() - n..];
                std::str::from_utf8(tail).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
            })
            .unwrap_or(0),
    }
}

/// The last [`LONGEST_OUTPUT`] characters.
pub fn last(text: &str) -> &str {
    last_characters(text, LONGEST_OUTPUT)
}

fn last_characters(text: &str, most: usize) -> &str {
    match text.char_indices().rev().nth(most.saturating_sub(1)) {
        Some((at, _)) if most > 0 => &text[at..],
        _ => text,
    }
}

/// The last five lines that are not blank, at most 1000 characters.
pub fn summary(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(5)..].join("\n");
    last_characters(&last, LONGEST_SUMMARY).to_owned()
}

/// What the last `CONFIDENCE: 0.85` says, whatever its case, between 0 and 1. One whose number is none is no marker.
pub fn confidence(text: &str) -> Option<f64> {
    const MARKER: &str = "confidence:";
    let lower = text.to_ascii_lowercase();
    lower.rmatch_indices(MARKER).find_map(|(at, _)| number(&lower[at + MARKER.len()..]))
}

fn number(text: &str) -> Option<f64> {
    let text = text.trim_start_matches([' ', '\t', '*']);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let digits = text[..end].trim_end_matches('.');
    let value: f64 = digits.parse().ok()?;
    Some(value.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_never_cut_wherever_the_stream_is() {
        let text = "aé…𝄞 ❯ x";
        for size in 1..=text.len() {
            let mut characters = Characters::default();
            let pieces: Vec<String> = text.as_bytes().chunks(size).map(|c| characters.feed(c)).collect();
            assert_eq!(pieces.concat() + &characters.finish(), text, "in pieces of {size}");
            assert!(!pieces.concat().contains('\u{FFFD}'));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_passed_on_at_once_and_do_not_wait() {
        let mut characters = Characters::default();
        assert_eq!(characters.feed(b"a\xffb"), "a\u{FFFD}b");
        assert_eq!(characters.feed(b"\x80\x80"), "\u{FFFD}\u{FFFD}");
        assert_eq!(characters.feed(b"x\xe2"), "x");
        assert_eq!(characters.feed(b"y"), "\u{FFFD}y");
        assert_eq!(characters.feed(b"\xf0\x9d"), "");
        assert_eq!(characters.finish(), "\u{FFFD}");
    }

    #[test]
    fn the_last_marker_counts_and_is_held_within_bounds() {
        for (text, confidence) in [
            ("done\nCONFIDENCE: 0.85", Some(0.85)),
            ("End with CONFIDENCE: 0.9 they said.\nDone.\nconfidence: 0.42", Some(0.42)),
            ("Confidence:1.7", Some(1.0)),
            ("**CONFIDENCE:** 0.5", Some(0.5)),
            ("CONFIDENCE: 0.7.", Some(0.7)),
            ("CONFIDENCE: 0.3\nCONFIDENCE: <0.0-1.0>", Some(0.3)),
            ("CONFIDENCE: high", None),
            ("no marker", None),
        ] {
            assert_eq!(super::confidence(text), confidence, "{text:?}");
        }
    }

    #[test]
    fn a_summary_is_the_last_five_lines_that_say_something() {
        assert_eq!(summary("1\n2\n\n3\n  4 \n5\n6\n\n"), "2\n3\n4\n5\n6");
        assert_eq!(summary(&"é".repeat(3000)).chars().count(), 1000);
        assert_eq!(summary(""), "");
    }

    #[test]
    fn of_a_long_output_the_end_is_kept() {
        let long = "é".repeat(LONGEST_OUTPUT) + "end";
        assert_eq!(last(&long).chars().count(), LONGEST_OUTPUT);
        assert!(last(&long).ends_with("end"));
        assert_eq!(last("short"), "short");
    }
}
