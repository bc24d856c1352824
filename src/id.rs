//! Names that users choose, parsed once at the edge and then trusted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {given:?} is not a name: use 1 to {max} letters, digits, '.', '_' or '-', starting with a letter or digit"
)]
pub struct InvalidName {
    what: &'static str,
    given: String,
    max: usize,
}

fn parse(what: &'static str, max: usize, given: &str) -> Result<String, InvalidName> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let starts_well = given.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if starts_well && given.len() <= max && given.bytes().all(plain) {
        Ok(given.to_owned())
    } else {
        Err(InvalidName { what, given: given.chars().take(80).collect(), max })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(given: &str) -> Result<Self, InvalidName> {
                parse($what, $max, given).map(Self)
            }
        }
        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(given: String) -> Result<Self, InvalidName> {
                given.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// Names one agent on this node; also the last component of its cgroup.
    AgentId, "agent id", 64
);
name!(
    /// Names one policy: `base`, `claude`, a file's stem.
    PolicyName, "policy", 64
);
name!(
    /// Whose an agent is; a component of the paths of its home and of its private workspace.
    Tenant, "tenant", 64
);
name!(
    /// Names a workspace or a home that the node keeps.
    PlaceName, "name", 64
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_climb_inject_or_look_like_a_flag() {
        for hostile in
            ["", "../x", "a/b", "-rf", ".hidden", "a b", "a\nb", "a;b", "a\0b", "%2e%2e", &"x".repeat(65)]
        {
            assert!(hostile.parse::<AgentId>().is_err(), "{hostile:?} was accepted");
        }
        assert_eq!("run-17.a_b".parse::<AgentId>().expect("plain name").as_str(), "run-17.a_b");
    }
}
