//! Points in time: milliseconds since 1970 inside, ISO 8601 outside.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// As in JSON: `2026-11-26T15:30:00.123Z`.
pub(crate) fn iso(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", time.unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_parallax_and_everybody_else_reads_it() {
        assert_eq!(iso(1_790_000_000_120), "2026-09-21T14:13:20.120Z");
    }
}
