//! Reads asciicast recordings, versions 2 and 3, one event at a time.
//!
//! Version 2 gives each event the time since the beginning, version 3 the time since the event before.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use serde::Deserialize;

use crate::api::agent::Size;

/// Bytes of one line; recorders write far shorter ones.
const LONGEST: u64 = 64 << 20;
/// No recording is longer than this many seconds.
const LATEST: f64 = 1e9;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CastError {
    /// The system refused.
    #[error("cannot read the recording")]
    Read(#[from] io::Error),
    /// A line is not what its version says.
    #[error("line {line}: {what}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The program put this out.
    Output(String),
    /// The terminal got another size.
    Resize(Size),
    /// The program ended (version 3).
    Exit(String),
    /// Something else: input, a marker, what later versions bring.
    Other,
}

/// A recording, and how far it is read.
pub struct Cast<R> {
    reader: R,
    line: u64,
    version: u8,
    size: Size,
    now: f64,
}

#[derive(Deserialize)]
struct Header {
    version: u64,
    width: Option<u16>,
    height: Option<u16>,
    term: Option<Term>,
}

#[derive(Deserialize)]
struct Term {
    cols: u16,
    rows: u16,
}

impl<R: BufRead> Cast<R> {
    /// Reads the header.
    pub fn open(reader: R) -> Result<Self, CastError> {
        let size = Size { cols: 80, rows: 24 };
        let mut cast = Self { reader, line: 0, version: 2, size, now: 0.0 };
        let Some(line) = cast.line()? else { return Err(cast.wrong("the file is empty")) };
        let header: Header = serde_json::from_str(&line)
            .map_err(|error| cast.wrong(format!("not the header of an asciicast: {error}")))?;
        let (cols, rows) = match (header.version, &header.term) {
            (2, _) => (header.width, header.height),
            (3, Some(term)) => (Some(term.cols), Some(term.rows)),
            (3, None) => (None, None),
            (version, _) => {
                let what = format!(
                    "asciicast version {version} is not known: convert it to 2 or 3 with asciinema convert"
                );
                return Err(cast.wrong(what));
            }
        };
        let (Some(cols), Some(rows)) = (cols, rows) else {
            return Err(cast.wrong("the header does not give the terminal's size"));
        };
        cast.version = if header.version == 3 { 3 } else { 2 };
        cast.size = Size { cols, rows };
        Ok(cast)
    }

    /// The terminal's first size.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The next event, and its time since the beginning.
    pub fn next_event(&mut self) -> Result<Option<(Duration, Event)>, CastError> {
        let Some(line) = self.line()? else { return Ok(None) };
        let (time, code, data): (f64, String, serde_json::Value) = serde_json::from_str(&line)
            .map_err(|error| self.wrong(format!("not an event, [time, code, data]: {error}")))?;
        if !(0.0..LATEST).contains(&time) {
            return Err(self.wrong(format!("{time} is no time of an event")));
        }
        // A clock that was set back makes no time run backwards.
        self.now = if self.version == 3 { (self.now + time).min(LATEST) } else { self.now.max(time) };
        let text = match data {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let event = match code.as_str() {
            "o" => Event::Output(text),
            "r" => Event::Resize(self.size_of(&text)?),
            "x" => Event::Exit(text),
            _ => Event::Other,
        };
        Ok(Some((Duration::from_secs_f64(self.now), event)))
    }

    fn size_of(&self, text: &str) -> Result<Size, CastError> {
        let size = text.split_once('x').and_then(|(cols, rows)| {
            Some(Size { cols: cols.trim().parse().ok()?, rows: rows.trim().parse().ok()? })
        });
        size.ok_or_else(|| self.wrong(format!("{text:?} is no size: COLSxROWS")))
    }

    /// The next line that is neither blank nor a comment (version 3).
    fn line(&mut self) -> Result<Option<String>, CastError> {
        loop {
            self.line += 1;
            let mut bytes = Vec::new();
            self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut bytes)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.len() as u64 == LONGEST {
                return Err(self.wrong("longer than 64MiB"));
            }
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            if !text.is_empty() && !text.starts_with('#') {
                return Ok(Some(text));
            }
        }
    }

    fn wrong(&self, what: impl Into<String>) -> CastError {
        CastError::Line { line: self.line, what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Result<(Size, Vec<(f64, Event)>), CastError> {
        let mut cast = Cast::open(text.as_bytes())?;
        let mut events = Vec::new();
        while let Some((at, event)) = cast.next_event()? {
            events.push((at.as_secs_f64(), event));
        }
        Ok((cast.size(), events))
    }

    #[test]
    fn both_versions_mean_the_same() {
        let two = "{\"version\":2,\"width\":80,\"height\":24}\n[1.5,\"o\",\"a\"]\n[2.0,\"r\",\"90x30\"]\n[2.5,\"i\",\"x\"]\n";
        let three = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24}}\n# a comment\n[1.5,\"o\",\"a\"]\n\
                     [0.5,\"r\",\"90x30\"]\n[0.5,\"i\",\"x\"]\n";
        let expected = vec![
            (1.5, Event::Output("a".into())),
            (2.0, Event::Resize(Size { cols: 90, rows: 30 })),
            (2.5, Event::Other),
        ];
        assert_eq!(events(two).expect("version 2"), (Size { cols: 80, rows: 24 }, expected.clone()));
        assert_eq!(events(three).expect("version 3"), (Size { cols: 80, rows: 24 }, expected));
        let ended =
            events("{\"version\":3,\"term\":{\"cols\":1,\"rows\":1}}\n[1,\"x\",\"0\"]").expect("an end");
        assert_eq!(ended.1, [(1.0, Event::Exit("0".into()))]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |text: &str| events(text).expect_err("refused").to_string();
        assert!(told("").contains("empty"));
        assert!(told("{\"version\":1}").contains("version 1"));
        assert!(told("{\"version\":2}").contains("size"));
        assert!(told("{\"version\":2,\"width\":8,\"height\":2}\n[1,\"o\"").starts_with("line 2: "));
        assert!(told("{\"version\":2,\"width\":8,\"height\":2}\n\n[-1,\"o\",\"\"]").starts_with("line 3: "));
        assert!(told("{\"version\":2,\"width\":8,\"height\":2}\n[1,\"r\",\"big\"]").contains("no size"));
    }
}
