//! How a message is typed into a CLI: which bytes, in which writes, after which pauses.
//!
//! Text and the key that submits it in one write lose the key in Ink and ratatui interfaces; text with line breaks that is
//! not framed as a paste is submitted at the first of them.

use std::time::Duration;

use super::kind::Typing;

const PASTE: (&str, &str) = ("\x1b[200~", "\x1b[201~");

/// A text that is clean, framed as a paste: nothing in it presses a key.
pub fn pasted(clean: &str) -> String {
    format!("{}{clean}{}", PASTE.0, PASTE.1)
}

/// A text that is clean, as keys that only write: a tab alone would complete what stands before it.
pub fn typed(clean: &str) -> String {
    clean.replace('\t', " ")
}

/// Between a text of so many characters and the key that submits it.
pub fn pause(typing: &Typing, length: usize) -> Duration {
    let thousands = u64::try_from(length / 1000).unwrap_or(u64::MAX);
    let more = typing.submit_delay_per_thousand.saturating_mul(thousands);
    let delay = typing.submit_delay.saturating_add(more);
    Duration::from_millis(delay.min(typing.submit_delay_most.max(typing.submit_delay)))
}

/// What a terminal sends for a key by its name; an unknown name is typed as it is.
pub fn key(name: &str) -> Vec<u8> {
    let name = name.trim();
    let lower = name.to_ascii_lowercase().replace("control", "ctrl").replace("option", "alt");
    let parts: Vec<&str> = lower.split('+').map(str::trim).collect();
    let (modifiers, last) = parts.split_at(parts.len() - 1);
    let has = |modifier: &str| modifiers.contains(&modifier);
    if modifiers.iter().any(|modifier| !["ctrl", "alt", "shift"].contains(modifier)) {
        return name.as_bytes().to_vec();
    }
    let code = 1 + u8::from(has("shift")) + 2 * u8::from(has("alt")) + 4 * u8::from(has("ctrl"));
    if let Some(bytes) = special(last[0], code) {
        return bytes;
    }
    let mut letters = last[0].chars();
    let (Some(letter), None) = (letters.next(), letters.next()) else { return name.as_bytes().to_vec() };
    let letter = if has("shift") { letter.to_ascii_uppercase() } else { letter };
    let mut bytes = if has("alt") { vec![0x1b] } else { Vec::new() };
    match u8::try_from(letter) {
        // Control characters are the letters' lower five bits (ECMA-48).
        Ok(byte) if has("ctrl") && byte.is_ascii() => bytes.push(byte.to_ascii_uppercase() & 0x1f),
        _ if modifiers.is_empty() => return name.as_bytes().to_vec(),
        _ => bytes.extend(letter.to_string().bytes()),
    }
    bytes
}

/// Keys with names of their own; `code` is xterm's number for the modifiers, 1 for none.
fn special(name: &str, code: u8) -> Option<Vec<u8>> {
    let plain = code == 1;
    let simple = |byte: &[u8]| {
        let mut bytes = if (code - 1) & 2 != 0 { vec![0x1b] } else { Vec::new() };
        bytes.extend(byte);
        Some(bytes)
    };
    let csi = |last: char| {
        Some(if plain { format!("\x1b[{last}") } else { format!("\x1b[1;{code}{last}") }.into_bytes())
    };
    let tilde = |number: u8| {
        Some(if plain { format!("\x1b[{number}~") } else { format!("\x1b[{number};{code}~") }.into_bytes())
    };
    match name {
        "enter" | "return" => simple(b"\r"),
        "tab" if (code - 1) & 1 != 0 => Some(b"\x1b[Z".to_vec()),
        "tab" => simple(b"\t"),
        "escape" | "esc" => simple(b"\x1b"),
        "space" if (code - 1) & 4 != 0 => simple(b"\0"),
        "space" => simple(b" "),
        "backspace" => simple(b"\x7f"),
        "up" => csi('A'),
        "down" => csi('B'),
        "right" => csi('C'),
        "left" => csi('D'),
        "home" => csi('H'),
        "end" => csi('F'),
        "insert" => tilde(2),
        "delete" => tilde(3),
        "pageup" => tilde(5),
        "pagedown" => tilde(6),
        "f1" | "f2" | "f3" | "f4" => {
            let last = char::from(b'P' + name.as_bytes()[1] - b'1');
            Some(if plain { format!("\x1bO{last}") } else { format!("\x1b[1;{code}{last}") }.into_bytes())
        }
        _ => {
            let number: usize = name.strip_prefix('f')?.parse().ok()?;
            tilde(*[15, 17, 18, 19, 20, 21, 23, 24].get(number.checked_sub(5)?)?)
        }
    }
}

/// Text without anything that a terminal would act on: it could end the paste and press keys. Of a sequence that is
/// whole nothing is left, of one that is not only its text: no word is swallowed.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\x1b' => rest = &rest[sequence(rest)..],
            '\r' if rest.starts_with('\n') => {}
            '\r' | '\n' => clean.push('\n'),
            '\t' => clean.push('\t'),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

/// How many bytes belong to a whole sequence whose ESC has been read; 0: it is none.
fn sequence(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    match bytes.first() {
        Some(b'[') => {
            let last = bytes[1..].iter().position(|byte| !(0x20..=0x3f).contains(byte));
            last.map_or(0, |at| if (0x40..=0x7e).contains(&bytes[1 + at]) { at + 2 } else { 0 })
        }
        Some(b']') => {
            let end = bytes.iter().position(|byte| byte.is_ascii_control());
            end.map_or(0, |at| {
                if bytes[at] == 0x07 {
                    at + 1
                } else if bytes[at] == 0x1b {
                    at
                } else {
                    0
                }
            })
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_texts_get_more_time_and_a_tab_is_no_key() {
        let typing = Typing::default();
        let pauses = [1, 10_000, 100_000].map(|length| pause(&typing, length).as_millis());
        assert_eq!(pauses, [50, 300, 400]);
        assert_eq!(typed("cat\tfile"), "cat file");
        assert_eq!(pasted("a\nb\tc"), "\x1b[200~a\nb\tc\x1b[201~");
    }

    #[test]
    fn of_escape_codes_nothing_is_left_and_no_word_is_swallowed_with_them() {
        assert_eq!(clean("a\x1b[31mb\x1b[0m\r\nc\td\x03\x07\u{9b}e\n"), "ab\nc\tde\n");
        assert_eq!(clean("\x1b[200~x\x1b[201~"), "x");
        assert_eq!(clean("\x1b\x1b["), "[");
        assert_eq!(clean("\x1b]0;title\x07x\x1b]8;;u\x1b\\y"), "x\\y");
        assert_eq!(clean("\x1b[12\nwords, \x1b] and these"), "[12\nwords, ] and these");
    }

    #[test]
    fn keys_have_the_bytes_that_a_terminal_sends() {
        let cases = [
            ("enter", "\r"),
            ("Ctrl+C", "\x03"),
            ("control+d", "\x04"),
            ("up", "\x1b[A"),
            ("shift+tab", "\x1b[Z"),
            ("alt+b", "\x1bb"),
            ("ctrl+right", "\x1b[1;5C"),
            ("F1", "\x1bOP"),
            ("f5", "\x1b[15~"),
            ("f12", "\x1b[24~"),
            ("delete", "\x1b[3~"),
            ("y", "y"),
            ("Y", "Y"),
            ("hello", "hello"),
            ("hyper+x", "hyper+x"),
            ("f99", "f99"),
        ];
        for (name, bytes) in cases {
            assert_eq!(key(name), bytes.as_bytes(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_message_ends_its_paste_or_presses_a_key(text in "[a-z\\x00-\\x1f\\x7f\u{9b}\\[\\]0-9~\\n]{1,300}") {
            let clean = clean(&text);
            prop_assert!(!clean.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{clean:?}");
            prop_assert!(!typed(&clean).contains('\t'));
        }
    }
}
