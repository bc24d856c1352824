//! Words of the command line that stand for more than text: durations, times, sizes of a terminal, pairs.

use std::time::Duration;

/// `10m`, `1h30m`, `500ms`, `45` (seconds).
///
/// # Errors
/// When it is no such text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is no duration: use a number and ms, s, m, h or d, like 90s or 1h30m");
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let mut rest = text;
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let number: u32 = rest[..digits].parse().map_err(|_| refused())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(60 * 60),
            "d" => Duration::from_secs(24 * 60 * 60),
            _ => return Err(refused()),
        };
        rest = &rest[letters..];
        whole = unit.checked_mul(number).and_then(|part| whole.checked_add(part)).ok_or_else(refused)?;
    }
    if text.is_empty() { Err(refused()) } else { Ok(whole) }
}

/// A moment: so long ago, or as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// An ISO 8601 time, for the service to read.
    At(String),
}

/// `10m` is ten minutes ago; `2026-01-31T12:00:00Z` is that moment.
///
/// # Errors
/// When it is neither.
pub fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Since::Ago(ago));
    }
    let begins_as_a_date = text.len() >= 10
        && text.bytes().take(10).enumerate().all(|(at, c)| match at {
            4 | 7 => c == b'-',
            _ => c.is_ascii_digit(),
        });
    if begins_as_a_date {
        Ok(Since::At(text.into()))
    } else {
        Err(format!(
            "{text:?} is no time: use a duration like 10m (so long ago), or one like 2026-01-31T12:00:00Z"
        ))
    }
}

/// `120x40`: columns, rows.
///
/// # Errors
/// When it is none, or a side is not within 1 to 1000.
pub fn size(text: &str) -> Result<(u16, u16), String> {
    let sides = text.split_once('x').and_then(|(cols, rows)| Some((cols.parse().ok()?, rows.parse().ok()?)));
    match sides {
        Some((cols @ 1..=1000, rows @ 1..=1000)) => Ok((cols, rows)),
        _ => Err(format!("{text:?} is no size of a terminal: use COLUMNSxROWS like 120x40, each 1 to 1000")),
    }
}

/// `K=V`, for a label.
///
/// # Errors
/// When there is no `=`, or nothing before it.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("{text:?} is no KEY=VALUE")),
    }
}

/// `K=V`, or `K` for this process's own variable: so that a secret need not stand in a command line, which everybody on
/// this host can read.
///
/// # Errors
/// When it is no name, or there is no such variable.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        None if !text.is_empty() => match std::env::var(text) {
            Ok(value) => Ok((text.into(), value)),
            Err(_) => Err(format!("{text} is not set here: set it, or write {text}=VALUE")),
        },
        _ => Err(format!("{text:?} is no NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_is_in_seconds() {
        let seconds = |text| duration(text).map(|d| d.as_secs_f64());
        assert_eq!(seconds("45"), Ok(45.0));
        assert_eq!(seconds("1h30m"), Ok(5400.0));
        assert_eq!(seconds("500ms"), Ok(0.5));
        assert_eq!(seconds("2d"), Ok(172_800.0));
        for wrong in ["", "m", "5 m", "-1s", "1.5h", "10x", "99999999999s", "4294967295d4294967295d1y"] {
            assert!(duration(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn a_time_is_a_date_or_so_long_ago() {
        assert_eq!(since("10m"), Ok(Since::Ago(Duration::from_secs(600))));
        assert_eq!(since("2026-01-31T12:00:00Z"), Ok(Since::At("2026-01-31T12:00:00Z".into())));
        for wrong in ["yesterday", "2026", "2026-1-3", "31.01.2026"] {
            let answer = since(wrong);
            // A bare number is seconds.
            assert!(answer.is_err() || wrong == "2026", "{wrong:?} was accepted: {answer:?}");
        }
    }

    #[test]
    fn a_size_has_two_sides_within_bounds() {
        assert_eq!(size("120x40"), Ok((120, 40)));
        for wrong in ["120", "0x40", "120x1001", "x", "120x40x1", "70000x1"] {
            assert!(size(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn a_variable_without_a_value_is_this_process_own() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("PATH").map(|(name, _)| name), Ok("PATH".into()));
        assert!(variable("STOCKADE_TEST_NOT_SET").is_err());
        assert!(variable("=x").is_err() && variable("").is_err());
    }
}
