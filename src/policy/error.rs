//! Why a policy could not be had: always with the file, the place in it, and the way out.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::trust::Distrust;
use crate::id::{InvalidName, PolicyName};

/// Why a policy could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No place has a policy of this name.
    #[error("there is no policy {name:?}{}", did_you_mean(nearest))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The name of an existing policy that looks like it.
        nearest: Option<String>,
    },
    /// The argument is neither a policy's name nor a file with one.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The file cannot be opened or read.
    #[error("cannot read policy file {}", path.display())]
    Read {
        /// On the host.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody other than root can change the file, or put another in its place.
    #[error("policy file {} is not trusted: {distrust}", path.display())]
    Untrusted {
        /// As asked for.
        path: PathBuf,
        /// What is wrong, with which part of the path, and what puts it right.
        distrust: Distrust,
    },
    /// Longer than any policy needs to be.
    #[error("policy file {} is larger than 1MiB", path.display())]
    TooLarge {
        /// On the host.
        path: PathBuf,
    },
    /// The file says something that it cannot mean.
    #[error(transparent)]
    Invalid(#[from] Box<Fault>),
    /// All is well-formed, but a value that every sandbox needs was never given.
    #[error(
        "policy {name} does not set {key}: set it, or start from a policy that does with extends = \"base\""
    )]
    Undecided {
        /// The policy that was asked for.
        name: PolicyName,
        /// `limits.memory`
        key: &'static str,
    },
    /// More ports than a gateway can be given.
    #[error(
        "policy {name} names {ports} different ports under network.allow: at most {most} can be listened on"
    )]
    TooManyPorts {
        /// The policy that was asked for.
        name: PolicyName,
        /// How many.
        ports: usize,
        /// How many there may be.
        most: usize,
    },
    /// A name has a secret put in, and is reached without one.
    #[error(
        "policy {name} serves {host} through network.inject, and allows port 80 of it as well: take it out of one"
    )]
    TwoWays {
        /// The policy that was asked for.
        name: PolicyName,
        /// Which.
        host: super::inject::InjectName,
    },
    /// One path is named as read-only and as writable.
    #[error(
        "policy {name} names {path} both as read-write and as read-only or system: take it out of one with [remove.filesystem]"
    )]
    Contradiction {
        /// The policy that was asked for.
        name: PolicyName,
        /// On the host.
        path: super::HostPath,
    },
}

/// A mistake at a place in a policy file. Shown as `FILE:LINE:COLUMN: what is wrong; did you mean …?`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file's path, or its name in the program.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, in one line.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, suggestion } = self;
        write!(f, "{file}:{line}:{column}: {message}{}", did_you_mean(suggestion))
    }
}

impl Fault {
    /// A mistake at these bytes of `text`.
    pub fn at(
        file: &str,
        text: &str,
        span: Range<usize>,
        message: String,
        suggestion: Option<String>,
    ) -> Self {
        let (line, column) = position(text.as_bytes(), span.start);
        Self { file: file.into(), line, column, message, suggestion }
    }

    /// What the TOML reader or serde objected to, in this program's words.
    pub fn from_toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let (message, suggestion) = match Unknown::read(error.message()) {
            Some(unknown) => unknown.explain(text, span.start),
            None => (one_line(error.message()), None),
        };
        Self::at(file, text, span, message, suggestion)
    }
}

/// Line and column, from 1, of a byte offset; the column counts characters.
pub fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}

/// The candidate that `given` was most likely meant to be, if one is close enough to be worth naming.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long hostile input would make the comparison quadratic; no real name is that long.
    if given.len() > 128 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(given, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(given.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// serde's `unknown field `x`, expected one of `a`, `b`` taken apart.
struct Unknown<'a> {
    is_key: bool,
    given: &'a str,
    known: Vec<&'a str>,
}

impl<'a> Unknown<'a> {
    fn read(message: &'a str) -> Option<Self> {
        let (is_key, rest) = match message.strip_prefix("unknown field `") {
            Some(rest) => (true, rest),
            None => (false, message.strip_prefix("unknown variant `")?),
        };
        // From the right: the given name may hold anything, the names that are known hold no backtick.
        let (given, expected) = rest.rsplit_once("`, expected ").unwrap_or((rest, ""));
        Some(Self { is_key, given, known: expected.split('`').skip(1).step_by(2).collect() })
    }

    fn explain(&self, text: &str, offset: usize) -> (String, Option<String>) {
        let suggestion = nearest(self.given, self.known.iter().copied()).map(str::to_owned);
        let given: String = self.given.chars().take(80).collect();
        let message = if self.is_key {
            let place = section(text, offset)
                .map_or_else(|| "at the top level".into(), |name| format!("in [{name}]"));
            format!("unknown key {given:?} {place}, which knows {}", self.known.join(", "))
        } else {
            format!("{given:?} is not one of {}", self.known.join(", "))
        };
        (message, suggestion)
    }
}

/// The table that a key at this offset belongs to, as its header writes it. A header names itself wrongly at most
/// in its own last part, so the part before that is what it belongs to.
fn section(text: &str, offset: usize) -> Option<String> {
    let line_start = text[..offset.min(text.len())].rfind('\n').map_or(0, |newline| newline + 1);
    let header = |line: &str| {
        let inner = line.trim().strip_prefix('[')?.split(']').next()?;
        Some(inner.trim_start_matches('[').trim().to_owned())
    };
    if let Some(own) = text[line_start..].lines().next().and_then(header) {
        return own.rsplit_once('.').map(|(parent, _)| parent.to_owned());
    }
    text[..line_start].lines().rev().find_map(header)
}
