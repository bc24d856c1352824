//! From a name to a kind of agent: where its file is looked for, and whom it is believed from.
//!
//! ```text
//!  name ─▶ /etc/stockade/policies/agents ─▶ /usr/lib/stockade/policies/agents ─▶ the copy in this program
//! ```
//! The rules of policies hold here too: only root may have written a file, for it decides what is typed into a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::KindError;
use super::kind::{Kind, Screen};
use crate::api::agent::State;
use crate::policy::error::{Fault, nearest, position};
use crate::policy::memo::Memo;
use crate::policy::trust::{self, OpenError};

/// Bytes that a file may have; the shipped ones have some thousand.
const LARGEST: u64 = 1 << 20;

/// The kinds that come with this program.
const SHIPPED: [(&str, &str); 6] = [
    ("claude", include_str!("../../policies/agents/claude.toml")),
    ("codex", include_str!("../../policies/agents/codex.toml")),
    ("gemini", include_str!("../../policies/agents/gemini.toml")),
    ("aider", include_str!("../../policies/agents/aider.toml")),
    ("shell", include_str!("../../policies/agents/shell.toml")),
    ("custom", include_str!("../../policies/agents/custom.toml")),
];

/// Where a kind was found and what stood there, and what it says.
static KNOWN: Memo<(String, String), Kind> = Memo::new();

/// Where a kind was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In this file.
    File(PathBuf),
    /// In this program.
    BuiltIn,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::BuiltIn => f.write_str("built in"),
        }
    }
}

/// The places where kinds are looked for. Each call reads them anew: an edited file counts from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    directories: Vec<PathBuf>,
    owner: u32,
}

impl Library {
    /// The site's kinds, then the shipped ones; only root may have written any.
    pub fn system() -> Self {
        Self::of(["/etc/stockade/policies/agents".into(), "/usr/lib/stockade/policies/agents".into()], 0)
    }

    /// The kinds in these directories, then the built-in ones. Root and `owner` may have written them.
    pub fn of(directories: impl IntoIterator<Item = PathBuf>, owner: u32) -> Self {
        Self { directories: directories.into_iter().collect(), owner }
    }

    /// Every kind's name, and where the first of that name lies.
    pub fn names(&self) -> BTreeMap<String, Source> {
        let mut names = BTreeMap::new();
        for directory in &self.directories {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()) {
                if let Some(name) = name_of(&path) {
                    names.entry(name).or_insert(Source::File(path));
                }
            }
        }
        for (name, _) in SHIPPED {
            names.entry(name.into()).or_insert(Source::BuiltIn);
        }
        names
    }

    /// The kind of this name.
    pub fn load(&self, name: &str) -> Result<Kind, KindError> {
        let (source, text) = self.source(name)?;
        let file = match &source {
            Source::File(path) => path.display().to_string(),
            Source::BuiltIn => format!("agents/{name}.toml (built in)"),
        };
        if let Some(kind) = KNOWN.of(|(known, read)| *known == file && *read == text) {
            return Ok(kind);
        }
        let kind = parse(name, &file, &text)?;
        KNOWN.keep((file, text), kind.clone());
        Ok(kind)
    }

    /// The file itself, as it is written, and where it was found. It need not be well-formed.
    pub fn source(&self, name: &str) -> Result<(Source, String), KindError> {
        for path in
            self.directories.iter().filter(|_| is_name(name)).map(|dir| dir.join(format!("{name}.toml")))
        {
            match trust::open(&path, self.owner) {
                Ok(file) => return read(file, &path).map(|text| (Source::File(path), text)),
                Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(OpenError::Io(source)) => return Err(KindError::Read { path, source }),
                Err(OpenError::Distrust(distrust)) => return Err(KindError::Untrusted { path, distrust }),
            }
        }
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
        let unknown = || {
            let names = self.names();
            let nearest = nearest(name, names.keys().map(String::as_str)).map(str::to_owned);
            KindError::Unknown { name: name.chars().take(80).collect(), nearest }
        };
        shipped.map(|(_, text)| (Source::BuiltIn, (*text).to_owned())).ok_or_else(unknown)
    }
}

/// Reads a file that need not be trusted: to look at, never to type from.
pub fn check(path: &Path) -> Result<Kind, KindError> {
    let file = std::fs::File::open(path).map_err(|source| KindError::Read { path: path.into(), source })?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    parse(&name, &path.display().to_string(), &read(file, path)?)
}

fn parse(name: &str, file: &str, text: &str) -> Result<Kind, KindError> {
    let mut kind: Kind =
        toml::from_str(text).map_err(|error| Box::new(Fault::from_toml(file, text, &error)))?;
    kind.name = name.to_owned();
    let mut names = BTreeSet::new();
    for (index, screen) in kind.screens.iter().enumerate() {
        let twice = !names.insert(screen.name.as_str());
        let message =
            if twice { Some(format!("two screens are named {:?}", screen.name)) } else { flaw(screen) };
        if let Some(message) = message {
            let at = text.match_indices("[[screen]]").nth(index).map_or(0, |(at, _)| at);
            return Err(Box::new(Fault::at(file, text, at..at, message, None)).into());
        }
    }
    Ok(kind)
}

/// What makes a rule one that others could write on the screen themselves, or that never matches.
fn flaw(screen: &Screen) -> Option<String> {
    let Screen { name, all, any, none, login, state, .. } = screen;
    let weight: usize =
        all.iter().map(|marker| marker.weight()).sum::<usize>() + usize::from(!any.is_empty());
    if all.iter().chain(any).chain(none).any(|marker| marker.weight() == 0) {
        return Some(format!("screen {name:?} has a marker that looks for nothing"));
    }
    let absent: usize = if screen.after.is_empty() { 0 } else { none.len() };
    let at_cursor =
        !any.is_empty() && any.iter().all(|marker| marker.cursor.is_some() || marker.is_structured());
    if weight + absent < 2 && !at_cursor && !all.iter().any(|marker| marker.is_structured()) {
        return Some(format!(
            "screen {name:?} has one marker: name another one, for text alone could be quoted by anybody"
        ));
    }
    if screen.is_safe_to_type() && all.iter().chain(any).any(|marker| marker.status.is_some()) {
        return Some(format!(
            "screen {name:?}: what an agent has written down makes nothing safe to type on"
        ));
    }
    let asks = *state == State::LoginRequired;
    (asks != login.is_some()).then(|| format!("screen {name:?}: login-required and login go together"))
}

fn read(file: std::fs::File, path: &Path) -> Result<String, KindError> {
    let mut bytes = Vec::new();
    let failed = |source| KindError::Read { path: path.into(), source };
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(KindError::TooLarge { path: path.into() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(error.as_bytes(), error.utf8_error().valid_up_to());
        let file = path.display().to_string();
        Box::new(Fault { file, line, column, message: "not UTF-8 text".into(), suggestion: None }).into()
    })
}

fn name_of(path: &Path) -> Option<String> {
    (path.extension()? == "toml").then_some(())?;
    path.file_stem()?.to_str().filter(|name| is_name(name)).map(str::to_owned)
}

/// As policies are named.
fn is_name(name: &str) -> bool {
    name.parse::<crate::id::PolicyName>().is_ok()
}
