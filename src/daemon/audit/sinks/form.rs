//! A record as a sink sends it.

use serde::Deserialize;

use super::Format;
use super::ocsf;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number.
    pub(super) seq: u64,
    /// When it happened, as in the file.
    pub(super) at: String,
    /// What kind it is.
    pub(super) event: String,
    /// Whether something was refused, or is not as it should be.
    pub(super) is_notice: bool,
    /// What is sent of it, without a line break.
    pub(super) text: String,
}

#[derive(Deserialize)]
struct Read {
    seq: u64,
    at: String,
    event: Kind,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    outcome: Option<String>,
}

/// What can be read of these lines. A line that is no record was not written by this log; verification tells of it.
pub(super) fn lines(text: &[u8], format: Format) -> Vec<Line> {
    let whole = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    whole.filter_map(|line| one(std::str::from_utf8(&line[..line.len() - 1]).ok()?, format)).collect()
}

fn one(line: &str, format: Format) -> Option<Line> {
    let Read { seq, at, event } = serde_json::from_str(line).ok()?;
    let Kind { kind, verdict, outcome } = event;
    let refused =
        verdict.as_deref() == Some("refused") || matches!(outcome.as_deref(), Some("refused" | "failed"));
    let alarming = ["connectionRefused", "denials", "recovered", "abandoned", "resumed", "budget"]
        .contains(&kind.as_str());
    let text = match format {
        Format::Native => line.to_owned(),
        Format::Ocsf => ocsf::of(line)?,
    };
    Some(Line { seq, at, event: kind, is_notice: refused || alarming, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_sent_as_it_stands() {
        let line = r#"{"seq":7,"at":"2026-11-26T16:00:00.000000Z","prev":"00","event":{"type":"adopted","agent":"a","running":true},"hash":"11"}"#;
        let found = lines(format!("{line}\nnot one\n{line}").as_bytes(), Format::Native);
        let expected = Line {
            seq: 7,
            at: "2026-11-26T16:00:00.000000Z".into(),
            event: "adopted".into(),
            is_notice: false,
            text: line.into(),
        };
        assert_eq!(found, [expected]);
    }
}
