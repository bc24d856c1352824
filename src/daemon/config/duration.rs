//! Times as people write them: `500ms`, `30s`, `5m`, `2h`.

use std::str::FromStr;
use std::time::Duration;

/// More is a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A time between nothing and a day, neither of them meant by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// Why a time was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: write a whole number with ms, s, m or h, at most 24h, like 30s")]
pub struct InvalidSpan(String);

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let refused = || InvalidSpan(text.into());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u32 = number.parse().map_err(|_| refused())?;
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(60 * 60),
            _ => return Err(refused()),
        };
        match unit.checked_mul(number) {
            Some(span) if !span.is_zero() && span <= LONGEST => Ok(Self(span)),
            _ => Err(refused()),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;

    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_neither_nothing_nor_for_ever() {
        assert_eq!("1500ms".parse(), Ok(Span(Duration::from_millis(1500))));
        assert_eq!("2h".parse(), Ok(Span(Duration::from_secs(7200))));
        for text in ["0s", "25h", "-1s", "1", "s", "", "1.5s", "1d", "99999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text:?} was accepted");
        }
    }
}
