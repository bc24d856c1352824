//! A terminal's output as asciicast v2 (<https://docs.asciinema.org/manual/asciicast/v2/>), piece by piece.

use std::io;

use super::Size;
use super::history::{Moment, walk};
use super::log::Log;

/// Bytes of output that are made into one piece.
const PIECE: u64 = 256 * 1024;

/// Everything that was kept when it was begun. What rotation takes away meanwhile is missing.
pub struct Recording {
    log: Log,
    at: u64,
    end: u64,
    cast: Cast,
}

impl Recording {
    pub(super) fn new(log: Log, end: u64, size: Size) -> io::Result<Self> {
        let at = log.segments()?.first().copied().unwrap_or(0);
        Ok(Self { log, at, end, cast: Cast { begun: None, size, lines: Vec::new(), cut: Vec::new() } })
    }

    /// Whole lines of it; none: that was all.
    pub(super) fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        while self.at < self.end {
            let until = self.end.min(self.at.saturating_add(PIECE));
            let reached = walk(&self.log, self.at, until, |moment| self.cast.see(moment))?;
            // Nothing more is kept than that.
            self.at = if reached > self.at { reached } else { self.end };
            if !self.cast.lines.is_empty() {
                return Ok(Some(std::mem::take(&mut self.cast.lines)));
            }
        }
        if self.cast.begun.is_none() {
            self.cast.begin(0);
        }
        let rest = std::mem::take(&mut self.cast.lines);
        Ok(Some(rest).filter(|rest| !rest.is_empty()))
    }
}

struct Cast {
    /// Once the header is written.
    begun: Option<u64>,
    size: Size,
    lines: Vec<u8>,
    /// The beginning of a character whose end is in the next piece.
    cut: Vec<u8>,
}

impl Cast {
    fn see(&mut self, moment: Moment<'_>) {
        match moment {
            Moment::Size(at, size) if self.begun.is_none() => {
                self.size = size;
                self.begin(at);
            }
            Moment::Size(_, size) if size == self.size => {}
            Moment::Size(at, size) => {
                self.size = size;
                self.event(at, "r", &format!("{}x{}", size.cols, size.rows));
            }
            Moment::Output(at, bytes) => {
                self.begin(at);
                self.cut.extend_from_slice(bytes);
                let all = std::mem::take(&mut self.cut);
                let whole = all.len() - open(&all);
                self.cut = all[whole..].to_vec();
                if whole > 0 {
                    self.event(at, "o", &String::from_utf8_lossy(&all[..whole]));
                }
            }
        }
    }

    fn begin(&mut self, at: u64) {
        if self.begun.is_some() {
            return;
        }
        self.begun = Some(at);
        let header = serde_json::json!({
            "version": 2,
            "width": self.size.cols,
            "height": self.size.rows,
            "timestamp": at / 1_000_000,
            "env": {"TERM": "xterm-256color"},
        });
        self.line(&header);
    }

    fn event(&mut self, at: u64, kind: &str, text: &str) {
        // A clock may be set back; a recording's goes on only.
        let since = at.saturating_sub(self.begun.unwrap_or(at));
        self.line(&serde_json::json!([since as f64 / 1e6, kind, text]));
    }

    fn line(&mut self, value: &serde_json::Value) {
        self.lines.extend(value.to_string().into_bytes());
        self.lines.push(b'\n');
    }
}

/// How many bytes at the end begin a character of UTF-8 that has more of them.
fn open(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let length = match bytes[bytes.len() - back] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}
