//! Texts that may stand in the log. Each has an alphabet and a length, and comes from a place where no secret is: a
//! certificate, the table of endpoints, the name of a variable. There is no type for "some text".

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Stands for a text that is not what it should be: the record is written all the same, and the text is not in it.
pub const UNFIT: &str = "(unfit)";

/// Not a text of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not fit for the audit log")]
pub struct Unfit;

macro_rules! text {
    ($(#[$doc:meta])* $type:ident, $most:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// This text; [`UNFIT`] if it is none of this kind.
            pub fn of(text: &str) -> Self {
                Self(if Self::fits(text) { text } else { UNFIT }.to_owned())
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            fn fits(text: &str) -> bool {
                let fits: fn(char) -> bool = $fits;
                !text.is_empty() && text.len() <= $most && text.chars().all(fits)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Unfit;

            fn try_from(text: String) -> Result<Self, Unfit> {
                if text == UNFIT || Self::fits(&text) { Ok(Self(text)) } else { Err(Unfit) }
            }
        }

        impl From<$type> for String {
            fn from(text: $type) -> Self {
                text.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    /// Who: URI SAN or DNS SAN of a certificate.
    Identity, 512, |c| c.is_ascii_graphic()
);
text!(
    /// Serial number of a certificate, hexadecimal.
    Serial, 128, |c| c.is_ascii_hexdigit() || c == ':'
);
text!(
    /// `X-Request-Id`
    RequestId, 128, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);
text!(
    /// The name of a variable, never its value.
    VariableName, 128, |c| c.is_ascii_alphanumeric() || c == '_'
);
text!(
    /// A host: a name or an address.
    Host, 255, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '*')
);
text!(
    /// A file or a directory.
    FilePath, 4096, |c| !c.is_control()
);
text!(
    /// A field of a request, as in its JSON.
    FieldName, 128, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '[' | ']')
);
text!(
    /// Version of a program or of a kernel, or the id of a boot.
    Release, 128, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '~' | '#')
);
text!(
    /// What a system or a policy calls something: a system call, a shortfall, a kind of event.
    Name, 128, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':')
);

/// One of our own words: it stands in the source, so that nothing from outside is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Word(Cow<'static, str>);

impl Word {
    /// This one.
    pub const fn new(word: &'static str) -> Self {
        Self(Cow::Borrowed(word))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Word {
    type Error = Unfit;

    fn try_from(text: String) -> Result<Self, Unfit> {
        let plain = text.len() <= 256 && !text.chars().any(char::is_control);
        if plain { Ok(Self(text.into())) } else { Err(Unfit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_to_be_unfit_and_is_not_repeated() {
        assert_eq!(VariableName::of("ANTHROPIC_API_KEY").as_str(), "ANTHROPIC_API_KEY");
        for hostile in ["KEY=s3cret", "", "a b", "a\nb", &"x".repeat(129)] {
            assert_eq!(VariableName::of(hostile).as_str(), UNFIT, "{hostile:?}");
        }
        assert_eq!(Identity::of("spiffe://a.org/x\n").as_str(), UNFIT);
        assert_eq!(FilePath::of("/srv/a\u{1b}[2J").as_str(), UNFIT);
        assert_eq!(RequestId::of("r-1\" ,\"x").as_str(), UNFIT);
    }
}
