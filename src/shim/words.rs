//! From words to a [`Request`]: what was asked for, checked and looked up on this host.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host::{command, resolver, survey};
use crate::plan::request::{Caller, GitRepository, Place, Request};
use crate::plan::{Owner, view};
use crate::policy::{Policy, Published};

/// Words that make no sense on this host.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A directory that the user named.
    #[error("{what} {path}: {source}")]
    Directory {
        /// `--workspace` or `--home`.
        what: &'static str,
        /// As given.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Whether a variable can be called this.
pub fn is_variable(name: &str) -> bool {
    let starts_well = name.bytes().next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
    starts_well && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// The agent's home: `ephemeral`, or a directory of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// Empty at the start, gone at the end.
    Ephemeral,
    /// Kept.
    Directory(PathBuf),
}

impl From<&str> for Home {
    fn from(text: &str) -> Self {
        if text == "ephemeral" { Self::Ephemeral } else { Self::Directory(text.into()) }
    }
}

/// What was asked for: typed at a command line, or ordered by a daemon.
pub struct Words {
    /// Program and arguments; empty: the policy's own.
    pub command: Vec<OsString>,
    /// The directory that it works in.
    pub workspace: Option<PathBuf>,
    /// Its home.
    pub home: Home,
    /// Variables, on top of everything else.
    pub environment: Vec<(String, String)>,
    /// The policy, where it is a file.
    pub policy_file: Option<PathBuf>,
    /// Ways in.
    pub published: Vec<Published>,
    /// What of it widens the policy.
    pub widened: Vec<String>,
}

/// Looks everything up, for this caller.
pub fn resolve(words: Words, caller: Caller, policy: &Policy) -> Result<Request, RequestError> {
    let workspace = words.workspace.map(|path| place("--workspace", &path)).transpose()?;
    let home = match words.home {
        Home::Ephemeral => None,
        Home::Directory(path) => Some(place("--home", &path)?),
    };
    let git_repository =
        workspace.as_ref().filter(|_| policy.filesystem.git_worktree).and_then(|workspace| {
            let (common, worktree) = survey::git_repository(&workspace.path)?;
            let common = place("the repository of", &common).ok()?;
            Some(GitRepository { common, worktree })
        });
    let mut request = Request {
        command: words.command,
        workspace,
        home,
        git_repository,
        policy_file: words.policy_file.iter().flat_map(|path| names_of(path)).collect(),
        installation: Vec::new(),
        environment: words.environment.into_iter().map(|(name, value)| (name, value.into())).collect(),
        caller,
        published: words.published,
        search: if policy.network.has_destinations() { resolver::search_domains() } else { Vec::new() },
        widened: words.widened,
    };
    if policy.filesystem.expose_command {
        request.installation = installation(policy, &request);
    }
    Ok(request)
}

fn place(what: &'static str, path: &Path) -> Result<Place, RequestError> {
    let failed = |source| RequestError::Directory { what, path: path.into(), source };
    let path = fs::canonicalize(path).map_err(failed)?;
    let found = fs::metadata(&path).map_err(failed)?;
    if !found.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let owner = Owner { uid: found.uid(), gid: found.gid() };
    Ok(Place { owner, noexec: survey::is_noexec(&path), path })
}

/// As it was named, and without links.
fn names_of(path: &Path) -> impl Iterator<Item = PathBuf> {
    std::path::absolute(path).into_iter().chain(fs::canonicalize(path))
}

fn installation(policy: &Policy, request: &Request) -> Vec<PathBuf> {
    let first = policy.agent.command.first().map(OsString::from);
    let Some(name) = request.command.first().cloned().or(first) else { return Vec::new() };
    let path = request.caller.environment.get("PATH").cloned().unwrap_or_default();
    let files = &policy.filesystem;
    let expand = |path| view::expand(path, &request.caller.home);
    let given = || request.workspace.iter().chain(&request.home).map(|place| place.path.clone());
    let written: Vec<PathBuf> = files.read_write.iter().map(expand).chain(given()).collect();
    let visible: Vec<PathBuf> =
        files.system.iter().chain(&files.read_only).map(expand).chain(written.iter().cloned()).collect();
    let setting =
        command::Setting { path: &path, home: &request.caller.home, visible: &visible, written: &written };
    command::installation(&name, &setting)
}
