//! Grants: which identity has which role in which tenant.

use std::fmt;
use std::str::FromStr;

use super::Role;
use crate::id::Tenant;

/// An identity, or all that begin with something: `spiffe://example.org/parallax/*`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    stem: String,
    open: bool,
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nobody, or everybody.
    #[error(
        "an identity is a SPIFFE id or a DNS name, like spiffe://example.org/parallax/*: {0:?} names nobody in particular"
    )]
    Empty(String),
    /// A star that is not the last character.
    #[error(
        "{0:?} has a '*' that is not its last character: a pattern is an identity, or its beginning and one '*'"
    )]
    Star(String),
    /// A star before the path.
    #[error(
        "{0:?} ends before the path: a pattern names a whole trust domain at least, like spiffe://example.org/*"
    )]
    Open(String),
    /// What no certificate can carry.
    #[error("{0:?} has a character in it that no identity has")]
    Character(String),
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let (stem, open) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        if stem.is_empty() || stem == "spiffe://" {
            return Err(InvalidPattern::Empty(text.into()));
        }
        // `spiffe://example.org*` would mean spiffe://example.org.evil.net, too, and `build*` build.evil.net.
        let path = stem.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        if open && path.is_none_or(|(authority, _)| authority.is_empty()) {
            return Err(InvalidPattern::Open(text.into()));
        }
        if stem.contains('*') {
            return Err(InvalidPattern::Star(text.into()));
        }
        if !stem.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidPattern::Character(text.into()));
        }
        Ok(Self { stem: stem.into(), open })
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stem, if self.open { "*" } else { "" })
    }
}

impl Pattern {
    /// Whether this identity is meant.
    pub fn matches(&self, identity: &str) -> bool {
        if self.open { identity.starts_with(&self.stem) } else { identity == self.stem }
    }

    /// Larger is more specific; an exact identity is more specific than any pattern that it matches.
    pub(crate) fn rank(&self) -> (bool, usize) {
        (!self.open, self.stem.len())
    }
}

/// One `[[grant]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub identity: Pattern,
    /// What it may do at most.
    pub role: Role,
    /// Whose agents.
    pub tenant: Tenant,
}

/// All grants; the most specific one that matches is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants(Vec<Grant>);

/// Two grants for one pattern: neither is more specific.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} has two grants: an identity has one role in one tenant")]
pub struct Tie(pub Pattern);

impl Grants {
    /// Two different patterns of one length cannot match the same identity, so that only equal ones tie.
    ///
    /// # Errors
    /// When one pattern has two grants.
    pub fn new(mut grants: Vec<Grant>) -> Result<Self, Tie> {
        for (at, grant) in grants.iter().enumerate() {
            if grants[..at].iter().any(|earlier| earlier.identity == grant.identity) {
                return Err(Tie(grant.identity.clone()));
            }
        }
        grants.sort_by_key(|grant| std::cmp::Reverse(grant.identity.rank()));
        Ok(Self(grants))
    }

    /// The grant in force for this identity.
    pub fn of(&self, identity: &str) -> Option<&Grant> {
        self.0.iter().find(|grant| grant.identity.matches(identity))
    }

    /// All, the most specific first.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(identity: &str, role: Role) -> Grant {
        let tenant = "research".parse().expect("a tenant");
        Grant { identity: identity.parse().expect("a pattern"), role, tenant }
    }

    #[test]
    fn the_most_specific_grant_is_in_force_wherever_it_stands() {
        let grants = Grants::new(vec![
            grant("spiffe://a.org/*", Role::Viewer),
            grant("spiffe://a.org/ci/build", Role::Admin),
            grant("spiffe://a.org/ci/*", Role::Operator),
        ])
        .expect("no tie");
        let role = |identity| grants.of(identity).map(|grant| grant.role);
        assert_eq!(role("spiffe://a.org/ci/build"), Some(Role::Admin));
        assert_eq!(role("spiffe://a.org/ci/build2"), Some(Role::Operator));
        assert_eq!(role("spiffe://a.org/people"), Some(Role::Viewer));
        assert_eq!(role("spiffe://a.org.evil/ci/build"), None);
        assert_eq!(role("spiffe://A.org/ci/build"), None);
    }

    #[test]
    fn two_grants_for_one_pattern_are_refused() {
        let twice = vec![grant("spiffe://a.org/*", Role::Viewer), grant("spiffe://a.org/*", Role::Admin)];
        assert!(Grants::new(twice).expect_err("a tie").to_string().contains("spiffe://a.org/*"));
    }

    #[test]
    fn a_pattern_for_everybody_is_refused() {
        for hostile in [
            "",
            "*",
            "spiffe://*",
            "spiffe://*/x",
            "spiffe://a.org*",
            "spiffe:///*",
            "build*",
            "a*b",
            "spiffe://a.org/\n",
        ] {
            assert!(hostile.parse::<Pattern>().is_err(), "{hostile:?} was accepted");
        }
    }
}
