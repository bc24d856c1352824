//! What a command says: results on standard output, for people or for programs; everything else on standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::error::ClientError;
use crate::cli::Voice;

/// How results and remarks are given.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// As the global flags have it.
    pub voice: Voice,
}

impl Output {
    /// One document, or its text for people.
    pub fn result(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), ClientError> {
        if self.voice.json { self.document(document) } else { print(text().as_bytes()) }
    }

    /// One document on one line.
    pub fn document(&self, document: &impl Serialize) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(document).expect("an answer of ours is plain data");
        line.push(b'\n');
        print(&line)
    }

    /// Something that is no result.
    pub fn remark(&self, text: &str) {
        if !self.voice.quiet {
            // Standard error may be closed; then there is nobody to tell.
            let _ = writeln!(io::stderr(), "{}", dim(&format!("stockade: {text}")));
        }
    }

    /// What went wrong.
    pub fn complain(&self, error: &ClientError) {
        let line = if self.voice.json {
            error.document().to_string()
        } else if colours(&io::stderr()) {
            format!("\x1b[1;31mstockade:\x1b[0m {}", error.line())
        } else {
            format!("stockade: {}", error.line())
        };
        let _ = writeln!(io::stderr(), "{line}");
    }
}

fn dim(text: &str) -> String {
    if colours(&io::stderr()) { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
}

/// Whether whoever reads this sees colours.
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Bytes as they are. A reader that has seen enough (`| head`) ends this process, as it would end any other.
pub fn print(bytes: &[u8]) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(source) => Err(ClientError::Stream { what: "cannot write to standard output", source }),
    }
}

/// Text of somebody else's for a person's terminal: no sequence that it would obey.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
