//! The path of a request, checked once: a path that two programs could read differently is not passed on.

/// Why a path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// `*`, or no slash in front.
    #[error("it does not begin with a slash")]
    NotRooted,
    /// `.` or `..`.
    #[error("it has a '.' or '..' segment")]
    Dots,
    /// `//`.
    #[error("it has an empty segment")]
    Empty,
    /// `\`.
    #[error("it has a backslash")]
    Backslash,
    /// `;`.
    #[error("it has a ';', which some servers cut off and others do not")]
    Parameters,
    /// `%2e`, `%2f`, `%5c`, `%3b`, `%25` or what some take for them, a control character, no UTF-8, or no hex digits.
    #[error("it has a percent sign in front of what must be written plainly or not at all")]
    Encoded,
    /// A byte that no URL has.
    #[error("it has a byte that must be percent-encoded")]
    Byte,
}

/// What compatibility normalisation, or Windows' best fit, makes into dots, slashes, backslashes, `;` or `%`.
const LIKENESSES: [char; 20] = [
    '\u{2024}', '\u{2025}', '\u{2026}', '\u{fe19}', '\u{fe30}', '\u{fe52}', '\u{ff0e}', // dots
    '\u{2044}', '\u{2215}', '\u{ff0f}', '\u{2216}', '\u{29f5}', '\u{fe68}', '\u{ff3c}', // slashes
    '\u{37e}', '\u{fe14}', '\u{fe54}', '\u{ff1b}', // semicolons
    '\u{fe6a}', '\u{ff05}', // percent signs
];

/// Refuses a path that is not in its one plain form.
pub fn check(path: &str) -> Result<(), Ambiguous> {
    let inner = path.strip_prefix('/').ok_or(Ambiguous::NotRooted)?;
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(Ambiguous::Dots),
            // Only the last may be empty: `/v1/`.
            "" if segments.peek().is_some() => return Err(Ambiguous::Empty),
            _ => check_segment(segment.as_bytes())?,
        }
    }
    Ok(())
}

fn check_segment(segment: &[u8]) -> Result<(), Ambiguous> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'\\' => return Err(Ambiguous::Backslash),
            b';' => return Err(Ambiguous::Parameters),
            b'%' => {
                let (hex, tail) = tail.split_at_checked(2).ok_or(Ambiguous::Encoded)?;
                let byte = decode(hex).ok_or(Ambiguous::Encoded)?;
                if b"./\\;%".contains(&byte) {
                    return Err(Ambiguous::Encoded);
                }
                decoded.push(byte);
                rest = tail;
            }
            b'!' | b'"'..=b'~' if !b"\"<>?#^`{|}".contains(first) => decoded.push(*first),
            _ => return Err(Ambiguous::Byte),
        }
    }
    // Lenient decoders read overlong sequences (`%c0%ae`) as dots and slashes; a strict one has none of them.
    let text = std::str::from_utf8(&decoded).map_err(|_| Ambiguous::Encoded)?;
    if text.chars().any(|c| c.is_control() || LIKENESSES.contains(&c)) {
        return Err(Ambiguous::Encoded);
    }
    Ok(())
}

fn decode(hex: &[u8]) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16);
    u8::try_from(digit(hex[0])? << 4 | digit(hex[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_path_passes() {
        for path in [
            "/",
            "/v1/messages",
            "/v1/",
            "/a%20b/c~d",
            "/v1/models/claude-3.5:latest@x",
            "/v1/..a/...",
            "/%C3%A4",
            "/%E6%97%A5%E6%9C%AC/%f0%9f%a6%80",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        for (path, why) in [
            ("*", Ambiguous::NotRooted),
            ("v1", Ambiguous::NotRooted),
            ("/v1/../admin", Ambiguous::Dots),
            ("/v1/./x", Ambiguous::Dots),
            ("/v1/..", Ambiguous::Dots),
            ("//v1", Ambiguous::Empty),
            ("/v1//x", Ambiguous::Empty),
            ("/v1\\..\\admin", Ambiguous::Backslash),
            ("/v1/;.;/admin", Ambiguous::Parameters),
            ("/v1/..;/admin", Ambiguous::Parameters),
            ("/v1/ok/..%2fadmin", Ambiguous::Encoded),
            ("/v1/%2e%2E/admin", Ambiguous::Encoded),
            ("/v1/%252e%252e/admin", Ambiguous::Encoded),
            ("/v1/%5c", Ambiguous::Encoded),
            ("/v1/%3b", Ambiguous::Encoded),
            ("/v1/%00", Ambiguous::Encoded),
            ("/v1/%0d%0a", Ambiguous::Encoded),
            ("/v1/%", Ambiguous::Encoded),
            ("/v1/%zz", Ambiguous::Encoded),
            ("/v1/%2", Ambiguous::Encoded),
            ("/v1/a b", Ambiguous::Byte),
            ("/v1/\u{e4}", Ambiguous::Byte),
            // Longer than UTF-8 allows, halves of it, and what is no character.
            ("/v1/%c0%ae%c0%ae/admin", Ambiguous::Encoded),
            ("/v1/..%c0%afadmin", Ambiguous::Encoded),
            ("/v1/%e0%80%ae", Ambiguous::Encoded),
            ("/v1/%C3", Ambiguous::Encoded),
            ("/v1/%ff", Ambiguous::Encoded),
            ("/v1/%ed%a0%80", Ambiguous::Encoded),
            // What some servers make into a dot, a slash, a backslash, ';' or '%' when they normalise.
            ("/v1/%ef%bc%8e%ef%bc%8e/admin", Ambiguous::Encoded),
            ("/v1/..%EF%BC%8Fadmin", Ambiguous::Encoded),
            ("/v1/..%ef%bc%bcadmin", Ambiguous::Encoded),
            ("/v1/%ef%bc%852e", Ambiguous::Encoded),
            ("/v1/%e2%80%a5/admin", Ambiguous::Encoded),
            ("/v1/%c2%85", Ambiguous::Encoded),
        ] {
            assert_eq!(check(path), Err(why), "{path}");
        }
    }

    /// As decoders did that did not ask whether a sequence is the shortest.
    fn leniently(bytes: &[u8]) -> String {
        let mut plain = Vec::new();
        let mut rest = bytes;
        while let Some((first, tail)) = rest.split_first() {
            let short = (*first == 0xc0).then(|| tail.first()).flatten();
            plain.push(short.map_or(*first, |second| second & 0x3f));
            rest = &tail[usize::from(short.is_some())..];
        }
        String::from_utf8_lossy(&plain).replace('\u{ff0e}', ".").replace(['\\', '\u{ff0f}'], "/")
    }

    /// How a careless server may read a path: decoded twice, cut at `;`, with backslashes as slashes, then resolved.
    fn careless(path: &str) -> Vec<String> {
        let once = |bytes: &[u8]| {
            let mut out = Vec::new();
            let mut rest = bytes;
            while let Some((first, tail)) = rest.split_first() {
                let encoded = (*first == b'%').then(|| tail.get(..2).and_then(decode)).flatten();
                out.push(encoded.unwrap_or(*first));
                rest = &tail[if encoded.is_some() { 2 } else { 0 }..];
            }
            out
        };
        let text = leniently(&once(&once(path.as_bytes())));
        let mut found: Vec<String> = Vec::new();
        for segment in text.split('/') {
            match segment.split(';').next().unwrap_or_default() {
                "" | "." => {}
                ".." => drop(found.pop()),
                plain => found.push(plain.to_owned()),
            }
        }
        found
    }

    proptest! {
        #[test]
        fn no_path_that_passes_is_read_as_one_outside_its_prefix(
            tail in "([a./;\\\\%]|%2e|%2f|%5c|%25|%3b|%c0%ae|%c0%af|%ef%bc%8e|%ef%bc%8f|admin){0,12}"
        ) {
            let path = format!("/v1/{tail}");
            let prefix: crate::policy::PathPrefix = "/v1/".parse().expect("a prefix");
            if check(&path).is_ok() && prefix.covers(&path) {
                let read = careless(&path);
                prop_assert_eq!(read.first().map(String::as_str), Some("v1"));
            }
        }

        #[test]
        fn no_text_makes_the_check_panic(path in "\\PC{0,60}") {
            let _ = check(&path);
        }
    }
}
