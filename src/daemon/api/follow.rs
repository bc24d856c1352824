//! The lines of a terminal, as they are completed.
//!
//! A line is complete when the terminal has gone on to the next one, or the agent has ended: a prompt is not.

use std::io;
use std::time::Duration;

use crate::daemon::terminal::{Piece, Reader, Terminal};

const PIECE: usize = 256 * 1024;

/// Lines from one point on.
pub struct Follow {
    terminal: Terminal,
    reader: Reader,
    quiet: Duration,
    first: Vec<(u64, String)>,
    /// When the last line that was given was begun, and how many were given that were begun then.
    given: (u64, usize),
    ended: bool,
}

impl Follow {
    /// From the last `tail` lines (none given: from all) begun at `since` or later. Output is gathered for `quiet` first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn begin(
        terminal: Terminal,
        tail: Option<usize>,
        since: Option<u64>,
        quiet: Duration,
    ) -> io::Result<Self> {
        // The reader first: what comes in between is seen twice rather than never.
        let reader = terminal.reader(terminal.range().1);
        let mut all = complete_lines(&terminal, since, false).await?;
        let given = match all.last() {
            Some(&(at, _)) => (at, all.iter().filter(|(begun, _)| *begun == at).count()),
            None => (since.unwrap_or(0), 0),
        };
        let first = all.split_off(all.len().saturating_sub(tail.unwrap_or(usize::MAX)));
        Ok(Self { terminal, reader, quiet, first, given, ended: false })
    }

    /// Only what comes from now on.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn from_now(terminal: Terminal, quiet: Duration) -> io::Result<Self> {
        let mut follow = Self::begin(terminal, Some(0), None, quiet).await?;
        follow.first = Vec::new();
        Ok(follow)
    }

    /// What was there at the beginning.
    pub fn first(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.first)
    }

    /// Waits for more lines; none: the agent has ended, and that was all.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Vec<(u64, String)>>> {
        while !self.ended {
            self.ended = matches!(self.reader.next(PIECE).await?, Piece::End);
            if !self.ended {
                tokio::time::sleep(self.quiet).await;
                self.reader.seek(self.terminal.range().1);
            }
            let all = complete_lines(&self.terminal, Some(self.given.0), self.ended).await?;
            let lines = new_ones(all, &mut self.given);
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
        Ok(None)
    }
}

async fn complete_lines(
    terminal: &Terminal,
    since: Option<u64>,
    ended: bool,
) -> io::Result<Vec<(u64, String)>> {
    let end = terminal.range().1;
    let mut lines = terminal.lines(None, since).await?;
    let complete = ended || (ends_with_a_line(terminal, end).await? && terminal.range().1 == end);
    if !complete {
        lines.pop();
    }
    Ok(lines)
}

async fn ends_with_a_line(terminal: &Terminal, end: u64) -> io::Result<bool> {
    if end == terminal.range().0 {
        return Ok(true);
    }
    Ok(matches!(terminal.reader(end - 1).next(1).await?, Piece::Bytes(bytes) if bytes[..] == *b"\n"))
}

/// Of all lines begun at `given.0` or later those that were not given yet.
fn new_ones(mut lines: Vec<(u64, String)>, given: &mut (u64, usize)) -> Vec<(u64, String)> {
    let known = lines.iter().take_while(|(at, _)| *at <= given.0).count().min(given.1);
    lines.drain(..known);
    for (at, _) in &lines {
        *given = if *at == given.0 { (*at, given.1 + 1) } else { (*at, 1) };
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
        lines.iter().map(|(at, text)| (*at, (*text).to_owned())).collect()
    }

    #[test]
    fn every_line_is_given_once_even_among_lines_of_the_same_moment() {
        let mut given = (0, 0);
        let first = log(&[(5, "a"), (5, "b")]);
        assert_eq!(new_ones(first.clone(), &mut given), first);
        // From 5 on: two were given.
        let grown = log(&[(5, "a"), (5, "b"), (5, "$ ls"), (9, "x")]);
        assert_eq!(new_ones(grown, &mut given), log(&[(5, "$ ls"), (9, "x")]));
        assert_eq!(given, (9, 1));
        assert!(new_ones(log(&[(9, "x")]), &mut given).is_empty());
    }
}
