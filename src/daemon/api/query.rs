//! What stands behind the `?` of a request: read by name, refused by name.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::daemon::problem::Fault;

/// The parameters of a request, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=1&b=2`.
    ///
    /// # Errors
    /// 400 for what is not encoded well, or holds a NUL.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        });
        let pairs: Option<Vec<_>> = pairs.collect();
        Ok(Self(
            pairs.ok_or_else(|| Fault::malformed_field("query", "the query is not percent-encoded UTF-8"))?,
        ))
    }

    /// Refuses whatever is none of these.
    ///
    /// # Errors
    /// 400, with the names that there are.
    pub fn only(&self, names: &[&str]) -> Result<&Self, Fault> {
        match self.0.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            None => Ok(self),
            Some((name, _)) => {
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Err(Fault::malformed_field("query", format!("there is no parameter {name:?} here: {known}")))
            }
        }
    }

    /// The last value of this name.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// All values of this name.
    pub fn every<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// All values of this name, each split at its commas.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.every(name).flat_map(|v| v.split(',')).filter(|v| !v.is_empty()).map(str::to_owned).collect()
    }

    /// The value of this name, as a number.
    ///
    /// # Errors
    /// 400 if it is none.
    pub fn number<N: FromStr>(&self, name: &'static str) -> Result<Option<N>, Fault> {
        let number = |text: &str| {
            text.parse().map_err(|_| {
                Fault::malformed_field(name, format!("{name}={text:?} is not a number that fits"))
            })
        };
        self.one(name).map(number).transpose()
    }

    /// Whether this is set: `true`, `1`, or without a value.
    ///
    /// # Errors
    /// 400 if it is anything but a yes or a no.
    pub fn flag(&self, name: &'static str) -> Result<bool, Fault> {
        match self.one(name) {
            Some("" | "1" | "true") => Ok(true),
            None | Some("0" | "false") => Ok(false),
            Some(other) => {
                Err(Fault::malformed_field(name, format!("{name}={other:?} is neither true nor false")))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// Takes `%41` and `+` away; `None` for what is no text, or holds a NUL.
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                digits.bytes().all(|c| c.is_ascii_hexdigit()).then_some(())?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            other => bytes.push(other),
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap_or_else(|_| panic!("{text:?} is a query"))
    }

    #[test]
    fn lists_come_with_commas_or_repeated_or_both() {
        let query = query("status=ready,busy&status=blocked&x=1&status=");
        assert_eq!(query.list("status"), ["ready", "busy", "blocked"]);
    }

    #[test]
    fn what_is_encoded_badly_is_no_query() {
        assert_eq!(query("label=a%3Db+c").one("label"), Some("a=b c"));
        for text in ["a=%", "a=%4", "a=%zz", "a=%+1", "a=%ff", "a=%00"] {
            assert!(Query::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn unknown_names_and_values_that_do_not_fit_are_refused() {
        assert!(query("limit=1&oops=2").only(&["limit"]).is_err());
        assert!(query("limit=-1").number::<usize>("limit").is_err());
        assert_eq!(query("limit=7").number::<usize>("limit").ok().flatten(), Some(7));
        assert!(query("follow=maybe").flag("follow").is_err());
        assert!(query("follow").flag("follow").is_ok_and(|f| f));
    }
}
