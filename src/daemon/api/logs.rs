//! What an agent's terminal has put out and shows: logs, screen, recording.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;

use super::body::Id;
use super::follow::Follow;
use super::query::Query;
use super::stream::{self, Source};
use crate::api::screen::{Cursor, LogLine, Screen};
use crate::daemon::Daemon;
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;
use crate::daemon::terminal::{Piece, Reader, Recording, Terminal};

const PIECE: usize = 64 * 1024;
const QUIET: Duration = Duration::from_millis(100);

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Raw,
}

/// What the terminal has put out: as text without escape codes, as JSON lines with times, or byte by byte.
#[utoipa::path(
    get, path = "/v1/agents/{id}/logs", tag = "terminal",
    params(
        ("id" = String, Path, description = "The agent"),
        ("tail" = Option<usize>, Query, description = "Only the last lines, so many"),
        ("since" = Option<String>, Query, description = "Only lines since: an ISO 8601 time, or so long ago (`90s`, `10m`, `2h`, `1d`); with `format=raw` a byte offset"),
        ("follow" = Option<bool>, Query, description = "Go on until the agent ends"),
        ("format" = Option<String>, Query, description = "`text` (if not given), `json`: one object per line, `raw`: the very bytes")
    ),
    responses((status = 200, description = "The log", content(
        (String = "text/plain; charset=utf-8"), (LogLine = "application/x-ndjson"), (Vec<u8> = "application/octet-stream")
    )))
)]
pub async fn logs(
    State(daemon): State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    id: Id,
    query: Query,
) -> Result<Response, Fault> {
    query.only(&["tail", "since", "follow", "format"])?;
    let format = format(&query)?;
    let follow = query.flag("follow")?;
    let terminal = daemon.supervisor.terminal(&caller, id.as_str())?;
    if format == Format::Raw {
        return raw(&terminal, &query, follow, watch);
    }
    let tail = query.number("tail")?;
    let since = query.one("since").map(moment).transpose()?;
    text(&terminal, tail, since, follow, format, watch).await
}

/// As text or JSON, line by line.
async fn text(
    terminal: &Terminal,
    tail: Option<usize>,
    since: Option<u64>,
    follow: bool,
    format: Format,
    watch: ConnectionWatch,
) -> Result<Response, Fault> {
    let media_type = match format {
        Format::Json => "application/x-ndjson",
        Format::Text | Format::Raw => "text/plain; charset=utf-8",
    };
    if follow {
        let lines = Follow::begin(terminal.clone(), tail, since, QUIET).await.map_err(unreadable)?;
        return Ok(stream::answer(media_type, watch, Lines { lines, format, begun: false }));
    }
    let lines = terminal.lines(tail, since).await.map_err(unreadable)?;
    Ok(([(CONTENT_TYPE, media_type)], written(&lines, format)).into_response())
}

/// The seed's way in: text, `tail` and `follow`.
pub async fn as_text(
    daemon: &Daemon,
    caller: &Caller,
    id: &str,
    query: &Query,
    watch: ConnectionWatch,
) -> Result<Response, Fault> {
    let terminal = daemon.supervisor.terminal(caller, id)?;
    text(&terminal, query.number("tail")?, None, query.flag("follow")?, Format::Text, watch).await
}

fn raw(terminal: &Terminal, query: &Query, follow: bool, watch: ConnectionWatch) -> Result<Response, Fault> {
    if query.one("tail").is_some() {
        return Err(Fault::malformed_field("tail", "tail: raw output has no lines; use since=OFFSET"));
    }
    let (oldest, end) = terminal.range();
    let from = query.number("since")?.unwrap_or(oldest).max(oldest);
    let until = if follow { u64::MAX } else { end };
    Ok(stream::answer("application/octet-stream", watch, Raw { reader: terminal.reader(from), until }))
}

fn format(query: &Query) -> Result<Format, Fault> {
    match query.one("format") {
        None | Some("text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some("raw") => Ok(Format::Raw),
        Some(other) => {
            Err(Fault::malformed_field("format", format_args!("format={other:?}: use text, json or raw")))
        }
    }
}

/// What the screen shows; with `format=ansi` as bytes that draw it.
#[utoipa::path(
    get, path = "/v1/agents/{id}/screen", tag = "terminal",
    params(
        ("id" = String, Path, description = "The agent"),
        ("format" = Option<String>, Query, description = "`json` (if not given) or `ansi`")
    ),
    responses((status = 200, description = "The screen", content((Screen = "application/json"), (Vec<u8> = "application/octet-stream"))))
)]
pub async fn screen(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    query: Query,
) -> Result<Response, Fault> {
    let format = query.only(&["format"])?.one("format").unwrap_or("json");
    let drawing = daemon.supervisor.terminal(&caller, id.as_str())?.screen().await.map_err(unreadable)?;
    match format {
        "ansi" => Ok(([(CONTENT_TYPE, "application/octet-stream")], drawing.bytes).into_response()),
        "json" => {
            let (col, row) = drawing.cursor;
            let screen = Screen {
                offset: drawing.offset,
                size: drawing.size,
                lines: drawing.lines,
                cursor: Cursor { col, row },
                title: drawing.title,
                alternate: drawing.alternate,
            };
            Ok(Json(screen).into_response())
        }
        other => Err(Fault::malformed_field("format", format_args!("format={other:?}: use json or ansi"))),
    }
}

/// The terminal as asciicast v2.
#[utoipa::path(
    get, path = "/v1/agents/{id}/recording", tag = "terminal",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "All that is kept", body = String, content_type = "application/x-asciicast"))
)]
pub async fn recording(
    State(daemon): State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    id: Id,
) -> Result<Response, Fault> {
    let terminal = daemon.supervisor.terminal(&caller, id.as_str())?;
    let recording = terminal.recording().map_err(unreadable)?;
    Ok(stream::answer("application/x-asciicast", watch, Cast(Some(recording))))
}

struct Cast(Option<Recording>);

impl Source for Cast {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(recording) = self.0.take() else { return Ok(None) };
        Ok(recording.next().await?.map(|(piece, rest)| {
            self.0 = Some(rest);
            piece.into()
        }))
    }
}

/// The log cannot be read.
pub fn unreadable(error: io::Error) -> Fault {
    Fault::internal(format_args!("the terminal log cannot be read: {error}"))
}

struct Lines {
    lines: Follow,
    format: Format,
    begun: bool,
}

impl Source for Lines {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !std::mem::replace(&mut self.begun, true) {
            let first = self.lines.first();
            if !first.is_empty() {
                return Ok(Some(written(&first, self.format).into()));
            }
        }
        Ok(self.lines.next().await?.map(|lines| written(&lines, self.format).into()))
    }
}

struct Raw {
    reader: Reader,
    until: u64,
}

impl Source for Raw {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let left = self.until.saturating_sub(self.reader.offset());
            if left == 0 {
                return Ok(None);
            }
            match self.reader.next(PIECE.min(usize::try_from(left).unwrap_or(PIECE))).await? {
                Piece::Bytes(bytes) => return Ok(Some(bytes)),
                // A stream of bytes has no way to say so; who must know takes the WebSocket.
                Piece::Gap { .. } => {}
                Piece::End => return Ok(None),
            }
        }
    }
}

fn written(lines: &[(u64, String)], format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, text) in lines {
        if format == Format::Json {
            let line = LogLine { at: iso(*at), text: text.clone() };
            serde_json::to_writer(&mut bytes, &line).expect("a line is always JSON");
        } else {
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.push(b'\n');
    }
    bytes
}

/// ISO 8601 of microseconds since 1970.
pub fn iso(microseconds: u64) -> String {
    let moment = i64::try_from(microseconds).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    format!("{:.6}", moment.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// Microseconds since 1970: an ISO 8601 time, or so long ago.
fn moment(text: &str) -> Result<u64, Fault> {
    let wrong = || {
        let detail = format_args!(
            "since={text:?}: use a time like 2026-01-31T12:00:00Z, or how long ago: 90s, 10m, 2h, 1d"
        );
        Fault::malformed_field("since", detail)
    };
    if let Some(ago) = ago(text) {
        let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0);
        return Ok(now.saturating_sub(ago));
    }
    let moment: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    Ok(u64::try_from(moment.as_microsecond()).unwrap_or(0))
}

fn ago(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1_000,
        "" | "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        assert_eq!(moment("1970-01-01T00:00:01Z").ok(), Some(1_000_000));
        assert_eq!(moment("1970-01-01T01:00:01+01:00").ok(), Some(1_000_000));
        assert_eq!(ago("10m"), Some(600_000_000));
        assert_eq!(ago("1500ms"), Some(1_500_000));
        assert_eq!(ago("7"), Some(7_000_000));
        for text in ["", "yesterday", "10x", "m", "-5s", "99999999999999999999d"] {
            assert!(moment(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lines_are_written_one_per_line_with_their_times() {
        let lines = [(1_000_000, "a \"b\"".to_owned()), (2_500_000, String::new())];
        assert_eq!(written(&lines, Format::Text), b"a \"b\"\n\n");
        let json = String::from_utf8(written(&lines, Format::Json)).expect("text");
        let first: LogLine = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first, LogLine { at: "1970-01-01T00:00:01.000000Z".into(), text: "a \"b\"".into() });
    }
}
