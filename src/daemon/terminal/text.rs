//! A terminal's output for people: its lines, the answer to a message, a recording.

use std::io;

use super::history::{Moment, since, walk};
use super::lines::Lines;
use super::log::Log;
use super::{Drawing, Size};
use crate::agents::kind::Turn;
use crate::agents::turn;

/// For one line this many bytes are read at first: then more, if that was not enough.
const A_LINE: u64 = 256;
/// At least so many.
const LEAST: u64 = 64 * 1024;
/// Most bytes that the answer to one message is made of: the newest.
const ANSWER: u64 = 2 * 1024 * 1024;
/// Most characters of an answer: the last.
pub(super) const LONGEST_ANSWER: usize = 8000;

/// The last `tail` lines up to `end`; `from` some time on.
pub(super) fn lines(
    log: &Log,
    end: u64,
    size: Size,
    tail: Option<usize>,
    from: Option<u64>,
) -> io::Result<Vec<(u64, String)>> {
    let oldest = match from {
        Some(at) => since(log, at)?,
        None => log.segments()?.first().copied().unwrap_or(0),
    };
    let most = tail.unwrap_or(usize::MAX);
    let mut reach = match tail {
        Some(tail) => (tail as u64).saturating_mul(A_LINE).max(LEAST),
        None => u64::MAX,
    };
    loop {
        let start = end.saturating_sub(reach).max(oldest);
        let mut found = decoded(log, start, end, size, most, start > oldest)?;
        if let Some(at) = from {
            found.retain(|(begun, _)| *begun >= at);
        }
        if start == oldest || found.len() >= most {
            return Ok(found);
        }
        reach = reach.saturating_mul(4);
    }
}

/// Lines from `start` on; `within`: the first one is not whole, and is left out.
fn decoded(
    log: &Log,
    start: u64,
    end: u64,
    size: Size,
    most: usize,
    within: bool,
) -> io::Result<Vec<(u64, String)>> {
    let mut lines = Lines::new(size, most);
    let mut whole = !within;
    walk(log, start, end, |moment| match moment {
        Moment::Size(_, size) => lines.resize(size),
        Moment::Output(at, bytes) if whole => lines.feed(at, bytes),
        Moment::Output(at, bytes) => {
            if let Some(newline) = memchr::memchr(b'\n', bytes) {
                whole = true;
                lines.feed(at, &bytes[newline + 1..]);
            }
        }
    })?;
    Ok(lines.finish().into())
}

/// What was said to an agent, and what stood on its screen before.
pub(crate) struct Spoken {
    /// The message as it was typed.
    pub(crate) text: String,
    /// The screen before.
    pub(crate) before: Drawing,
}

/// What was put out from then up to `end`, without the echo of the message and the prompt after it; with rules only what
/// they say is the agent's.
pub(super) fn answer(log: &Log, spoken: &Spoken, end: u64, rules: Option<&Turn>) -> io::Result<String> {
    let (from, size) = (spoken.before.offset, spoken.before.size);
    let text = |lines: Lines| -> Vec<String> { lines.finish().into_iter().map(|(_, line)| line).collect() };
    let start = from.max(end.saturating_sub(ANSWER));
    let picture = || {
        let mut lines = Lines::new(size, usize::MAX);
        if start == from {
            lines.feed(0, &spoken.before.bytes);
        }
        lines
    };
    let before = text(picture());
    let mut lines = picture();
    walk(log, start, end, |moment| match moment {
        Moment::Output(at, bytes) => lines.feed(at, bytes),
        Moment::Size(_, size) => lines.resize(size),
    })?;
    let after = text(lines);
    if let Some(rules) = rules.filter(|rules| **rules != Turn::default()) {
        return Ok(newest(&turn::text(rules, &after, &spoken.text)));
    }
    let same = before.iter().zip(&after).take_while(|(before, after)| before == after).count();
    // A program without a prompt has ended its last line: what it says now may end with the same one.
    let prompt = before.last().filter(|_| spoken.before.cursor.0 > 0);
    let answer = without_echo(&after[same..], &spoken.text, prompt.map_or("", String::as_str));
    Ok(newest(&answer.join("\n")))
}

/// The last characters of an answer.
pub(crate) fn newest(text: &str) -> String {
    let surplus = text.chars().count().saturating_sub(LONGEST_ANSWER);
    text.chars().skip(surplus).collect::<String>().trim_matches('\n').to_owned()
}

/// An agent's terminal shows what is typed; that is no part of the answer. Nor is the prompt that stood there before.
fn without_echo<'a>(lines: &'a [String], message: &str, prompt: &str) -> Vec<&'a str> {
    let mut rest = lines;
    for echoed in message.lines().map(str::trim_end) {
        match rest.split_first() {
            Some((first, later)) if first.ends_with(echoed) => rest = later,
            _ => break,
        }
    }
    if let Some((last, earlier)) = rest.split_last()
        && !prompt.is_empty()
        && last == prompt
    {
        rest = earlier;
    }
    rest.iter().map(String::as_str).collect()
}
