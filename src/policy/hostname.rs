//! The name of a host, in the one spelling that it has: ASCII, lower case, no dot at the end.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the gateway itself answers inside every sandbox that has one.
pub const GATEWAY: &str = "stockade.internal";

/// Longest name in the form with dots (RFC 1035, 2.3.4).
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostname {
    /// Nothing at all, or a label with nothing in it.
    #[error("{0:?} is not a host name: it has an empty part")]
    Empty(String),
    /// Longer than DNS can carry.
    #[error("{0:?} is not a host name: it is longer than 253 letters, or a part of it longer than 63")]
    Long(String),
    /// Not ASCII.
    #[error("{0:?} is not a host name in ASCII: write it in its xn-- form")]
    Unicode(String),
    /// A character that no host name has.
    #[error("{0:?} is not a host name: use letters, digits, '-' and '_' between the dots")]
    Character(String),
    /// Programs read such a name as an address.
    #[error(
        "{0:?} ends in a number, so that programs take it for an address: write four numbers from 0 to 255"
    )]
    Numeric(String),
}

/// A name that DNS can ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

impl Hostname {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name is `base` with at least one more label in front.
    pub fn is_below(&self, base: &Self) -> bool {
        self.0.strip_suffix(base.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
    }
}

impl FromStr for Hostname {
    type Err = InvalidHostname;

    fn from_str(given: &str) -> Result<Self, InvalidHostname> {
        let shown = || given.chars().take(80).collect();
        let name = given.strip_suffix('.').unwrap_or(given);
        if !name.is_ascii() {
            return Err(InvalidHostname::Unicode(shown()));
        }
        if name.len() > LONGEST || name.split('.').any(|label| label.len() > LONGEST_LABEL) {
            return Err(InvalidHostname::Long(shown()));
        }
        if name.split('.').any(str::is_empty) {
            return Err(InvalidHostname::Empty(shown()));
        }
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        if !name.bytes().all(plain) || name.starts_with('-') {
            return Err(InvalidHostname::Character(shown()));
        }
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(InvalidHostname::Numeric(shown()));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

/// Whether a last label makes inet_aton(3) and the URL standard read the whole name as an address: `1`, `0x7f`.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    let all_hex = |digits: &str| digits.bytes().all(|c| c.is_ascii_hexdigit());
    label.bytes().all(|c| c.is_ascii_digit()) || hex.is_some_and(all_hex)
}

impl TryFrom<String> for Hostname {
    type Error = InvalidHostname;
    fn try_from(given: String) -> Result<Self, InvalidHostname> {
        given.parse()
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> String {
        name.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        let name: Hostname = "API.Example.ORG.".parse().expect("a name");
        assert_eq!(name.as_str(), "api.example.org");
        assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn what_a_program_would_read_as_an_address_or_as_something_else_is_no_name() {
        let (long, label) = ("a.".repeat(130), "a".repeat(64));
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "127.1",
            "0x7f000001",
            "1",
            "a.0x1",
            "a b",
            "a/b",
            "a:b",
            "a@b",
            "a\0b",
            "*.a",
            "-a.org",
            "münchen.de",
            "[::1]",
            &long,
            &label,
        ] {
            assert!(text.parse::<Hostname>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn below_means_at_least_one_label_in_front() {
        let name = |text: &str| text.parse::<Hostname>().expect("a name");
        let base = name("example.org");
        assert!(name("a.example.org").is_below(&base));
        assert!(name("a.b.example.org").is_below(&base));
        for other in ["example.org", "anexample.org", "org", "example.org.evil.net"] {
            assert!(!name(other).is_below(&base), "{other}");
        }
    }
}
