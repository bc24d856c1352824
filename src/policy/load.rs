//! From a name or a file to a policy: where it is looked for, whom it is believed from, what it extends.
//!
//! ```text
//!  name ─▶ /etc/stockade/policies ─▶ /usr/lib/stockade/policies ─▶ the copy in this program
//!  file ─▶ itself;  `extends` in either ─▶ looked for by name
//! ```
//! A file that extends its own name gets the next one in that order: that is how a site changes a shipped policy.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Policy;
use super::document::Document;
use super::error::{self, Fault, PolicyError};
use super::memo::Memo;
use super::merge::NothingToRemove;
use super::network::MOST_PORTS;
use super::trust::{self, OpenError};
use crate::id::{InvalidName, PolicyName};

/// How many files may extend each other; the shipped ones need three.
const DEEPEST: usize = 8;

/// Bytes that a policy file may have; the shipped ones have a few thousand.
const LARGEST: u64 = 1 << 20;

/// The policies that come with this program.
const SHIPPED: [(&str, &str); 7] = [
    ("base", include_str!("../../policies/base.toml")),
    ("offline", include_str!("../../policies/offline.toml")),
    ("shell", include_str!("../../policies/shell.toml")),
    ("claude", include_str!("../../policies/claude.toml")),
    ("codex", include_str!("../../policies/codex.toml")),
    ("gemini", include_str!("../../policies/gemini.toml")),
    ("aider", include_str!("../../policies/aider.toml")),
];

/// What a user writes to say which policy is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `claude`
    Name(PolicyName),
    /// `./site.toml`: has a slash in it, or ends in `.toml`.
    File(PathBuf),
}

impl Reference {
    /// The file that it names, if it names one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Name(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains('/') || text.ends_with(".toml") {
            Ok(Self::File(text.into()))
        } else {
            text.parse().map(Self::Name)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The texts of a chain, the furthest ancestor last, and the policy that they make.
static KNOWN: Memo<Vec<Text>, Policy> = Memo::new();

/// Where a policy was found.
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

/// One file of an `extends` chain, and what the policy had become with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Where it was found.
    pub source: Source,
    /// The effective policy so far; its name is the layer's.
    pub policy: Policy,
}

/// The places where policies are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    directories: Vec<PathBuf>,
    owner: u32,
}

#[derive(Clone, PartialEq)]
struct Text {
    name: PolicyName,
    source: Source,
    /// How many places have been looked at once this one is found.
    places: usize,
    content: String,
}

struct Link {
    text: Text,
    document: Document,
}

impl Library {
    /// The site's policies, then the shipped ones; only root may have written any.
    pub fn system() -> Self {
        Self::of(["/etc/stockade/policies".into(), "/usr/lib/stockade/policies".into()], 0)
    }

    /// The policies in these directories, then the built-in ones. Root and `owner` may have written them; for a
    /// service that runs below a developer's own directory.
    pub fn of(directories: impl IntoIterator<Item = PathBuf>, owner: u32) -> Self {
        Self { directories: directories.into_iter().collect(), owner }
    }

    /// Every policy's name, and where the first of that name lies. Directories that cannot be read have none.
    pub fn names(&self) -> BTreeMap<PolicyName, Source> {
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
            let name = name.parse().expect("a shipped policy has a plain name");
            names.entry(name).or_insert(Source::BuiltIn);
        }
        names
    }

    /// The effective policy.
    pub fn load(&self, reference: &Reference) -> Result<Policy, PolicyError> {
        let text = self.open(reference)?;
        if let Some(policy) = KNOWN.of(|texts| texts[0] == text && self.are_these(texts)) {
            return Ok(policy);
        }
        let chain = self.chain(text)?;
        let texts = chain.iter().map(|link| link.text.clone()).collect();
        let policy = decided(apply(chain, |_, _| {})?)?;
        KNOWN.keep(texts, policy.clone());
        Ok(policy)
    }

    /// Whether the ancestors of the first are still found, and are still the same.
    fn are_these(&self, texts: &[Text]) -> bool {
        let is_next = |child: &Text, parent: &Text| {
            let found = self.find(&parent.name, child.places_before(&parent.name));
            found.is_ok_and(|found| found.as_ref() == Some(parent))
        };
        texts.iter().zip(&texts[1..]).all(|(child, parent)| is_next(child, parent))
    }

    /// The file itself, as it is written, and where it was found. It need not be well-formed.
    pub fn source(&self, reference: &Reference) -> Result<(Source, String), PolicyError> {
        let text = self.open(reference)?;
        Ok((text.source, text.content))
    }

    /// The effective policy after each file of its chain; the last is what [`Library::load`] returns.
    pub fn layers(&self, reference: &Reference) -> Result<Vec<Layer>, PolicyError> {
        self.layers_of(self.open(reference)?)
    }

    /// Like [`Library::layers`], for a file that need not be trusted: to look at, never to start from.
    pub fn check(&self, path: &Path) -> Result<Vec<Layer>, PolicyError> {
        let file =
            std::fs::File::open(path).map_err(|source| PolicyError::Read { path: path.into(), source })?;
        self.layers_of(Text {
            name: stem_of(path)?,
            source: Source::File(path.into()),
            places: 0,
            content: read(file, path)?,
        })
    }

    fn layers_of(&self, text: Text) -> Result<Vec<Layer>, PolicyError> {
        let mut layers = Vec::new();
        let chain = self.chain(text)?;
        let policy = apply(chain, |source, policy| {
            layers.push(Layer { source: source.clone(), policy: policy.clone() });
        })?;
        decided(policy).map(|_| layers)
    }

    fn open(&self, reference: &Reference) -> Result<Text, PolicyError> {
        match reference {
            Reference::Name(name) => self
                .find(name, 0)?
                .ok_or_else(|| PolicyError::Unknown { name: name.to_string(), nearest: self.nearest(name) }),
            Reference::File(path) => {
                let name = stem_of(path)?;
                let failed = |source| PolicyError::Read { path: path.clone(), source };
                let absolute = std::path::absolute(path).map_err(failed)?;
                let content = self
                    .read_trusted(&absolute)
                    .and_then(|content| content.ok_or_else(|| failed(rustix::io::Errno::NOENT.into())))?;
                Ok(Text { name, source: Source::File(path.clone()), places: 0, content })
            }
        }
    }

    fn nearest(&self, name: &PolicyName) -> Option<String> {
        let names = self.names();
        error::nearest(name.as_str(), names.keys().map(PolicyName::as_str)).map(str::to_owned)
    }

    /// Looks in every place from the given one on.
    fn find(&self, name: &PolicyName, from: usize) -> Result<Option<Text>, PolicyError> {
        for (index, directory) in self.directories.iter().enumerate().skip(from) {
            let path = directory.join(format!("{name}.toml"));
            if let Some(content) = self.read_trusted(&path)? {
                let source = Source::File(path);
                return Ok(Some(Text { name: name.clone(), source, places: index + 1, content }));
            }
        }
        if from > self.directories.len() {
            return Ok(None);
        }
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name.as_str());
        Ok(shipped.map(|(_, content)| Text {
            name: name.clone(),
            source: Source::BuiltIn,
            places: self.directories.len() + 1,
            content: (*content).to_owned(),
        }))
    }

    fn read_trusted(&self, path: &Path) -> Result<Option<String>, PolicyError> {
        match trust::open(path, self.owner) {
            Ok(file) => read(file, path).map(Some),
            Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(OpenError::Io(source)) => Err(PolicyError::Read { path: path.into(), source }),
            Err(OpenError::Distrust(distrust)) => Err(PolicyError::Untrusted { path: path.into(), distrust }),
        }
    }

    /// The file and everything that it extends, the furthest ancestor last.
    fn chain(&self, text: Text) -> Result<Vec<Link>, PolicyError> {
        let mut chain = vec![Link { document: parse(&text)?, text }];
        while let Some(parent) = self.parent(&chain)? {
            chain.push(Link { document: parse(&parent)?, text: parent });
        }
        Ok(chain)
    }

    fn parent(&self, chain: &[Link]) -> Result<Option<Text>, PolicyError> {
        let link = chain.last().expect("a chain has its first file");
        let Some(extends) = &link.document.extends else { return Ok(None) };
        let name = extends.get_ref();
        let fault = |message: String, suggestion| Err(link.text.fault(extends.span(), message, suggestion));
        if chain.len() == DEEPEST {
            return fault(format!("more than {DEEPEST} policies extend each other"), None);
        }
        let from = link.text.places_before(name);
        let Some(parent) = self.find(name, from)? else {
            let suggestion = if from == 0 { self.nearest(name) } else { None };
            return fault(
                format!(
                    "extends {:?}, but there is no {}such policy",
                    name.as_str(),
                    if from == 0 { "" } else { "other " }
                ),
                suggestion,
            );
        };
        if chain.iter().any(|seen| seen.text.source == parent.source && seen.text.name == parent.name) {
            let names = chain.iter().map(|link| link.text.name.as_str()).chain([name.as_str()]);
            return fault(
                format!("extends in a circle: {}", names.collect::<Vec<_>>().join(" extends ")),
                None,
            );
        }
        Ok(Some(parent))
    }
}

/// Folds a chain, the furthest ancestor first.
fn apply(chain: Vec<Link>, mut after_each: impl FnMut(&Source, &Policy)) -> Result<Policy, PolicyError> {
    let last = chain.last().expect("a chain has its first file");
    let mut policy = Policy::nothing(last.text.name.clone());
    for Link { text, document } in chain.into_iter().rev() {
        policy = policy
            .changed_by(text.name.clone(), document)
            .map_err(|nothing| text.nothing_to_remove(nothing))?;
        after_each(&text.source, &policy);
    }
    Ok(policy)
}

/// Refuses a policy under which nothing could start because a size or limit is still zero, and one that says two
/// things about one path or name.
fn decided(policy: Policy) -> Result<Policy, PolicyError> {
    let Policy { filesystem, limits, .. } = &policy;
    let mut readable = filesystem.system.union(&filesystem.read_only);
    if let Some(path) = readable.find(|path| filesystem.read_write.contains(path)) {
        return Err(PolicyError::Contradiction { path: path.clone(), name: policy.name });
    }
    let network = &policy.network;
    let ports = network.ports().len();
    if ports > MOST_PORTS {
        return Err(PolicyError::TooManyPorts { name: policy.name, ports, most: MOST_PORTS });
    }
    if let Some(inject) = network.inject.iter().find(|inject| network.is_served_twice(inject)) {
        return Err(PolicyError::TwoWays { host: inject.name.clone(), name: policy.name });
    }
    let values = [
        ("limits.memory", limits.memory.get()),
        ("limits.cpus", limits.cpus.millis().into()),
        ("limits.processes", limits.processes.into()),
        ("limits.open-files", limits.open_files.into()),
        ("filesystem.home-size", filesystem.home_size.get()),
        ("filesystem.tmp-size", filesystem.tmp_size.get()),
        ("filesystem.shm-size", filesystem.shm_size.get()),
    ];
    match values.into_iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(PolicyError::Undecided { name: policy.name, key }),
        None => Ok(policy),
    }
}

impl Text {
    /// Where the search begins for a policy of this name that it extends: its own is one that was found later.
    fn places_before(&self, name: &PolicyName) -> usize {
        if *name == self.name { self.places } else { 0 }
    }

    /// The name that messages use.
    fn file(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::BuiltIn => format!("{}.toml (built in)", self.name),
        }
    }

    fn fault(
        &self,
        span: std::ops::Range<usize>,
        message: String,
        suggestion: Option<String>,
    ) -> PolicyError {
        Box::new(Fault::at(&self.file(), &self.content, span, message, suggestion)).into()
    }

    fn nothing_to_remove(&self, nothing: NothingToRemove) -> PolicyError {
        let NothingToRemove { span, key, entry, present } = nothing;
        let suggestion = error::nearest(&entry, present.iter().map(String::as_str)).map(str::to_owned);
        self.fault(
            span,
            format!("cannot remove {entry:?}: the parent policy does not have it in {key}"),
            suggestion,
        )
    }
}

fn parse(text: &Text) -> Result<Document, PolicyError> {
    let fault = |error| Box::new(Fault::from_toml(&text.file(), &text.content, &error));
    Ok(toml::from_str(&text.content).map_err(fault)?)
}

fn read(file: std::fs::File, path: &Path) -> Result<String, PolicyError> {
    let failed = |source| PolicyError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(PolicyError::TooLarge { path: path.into() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let (line, column) = error::position(error.as_bytes(), error.utf8_error().valid_up_to());
        let message = "not UTF-8 text".into();
        Box::new(Fault { file: path.display().to_string(), line, column, message, suggestion: None }).into()
    })
}

fn name_of(path: &Path) -> Option<PolicyName> {
    (path.extension()? == "toml").then_some(())?;
    path.file_stem()?.to_str()?.parse().ok()
}

fn stem_of(path: &Path) -> Result<PolicyName, InvalidName> {
    path.file_stem().unwrap_or_default().to_string_lossy().parse()
}
