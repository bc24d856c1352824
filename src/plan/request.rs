//! What one start asks for, beyond its policy.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::Owner;
use crate::host::identity::Identity;
use crate::policy::{Hostname, Published};

/// The caller's words, already checked for form; every path is canonical.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Program and arguments; empty: the policy's own.
    pub command: Vec<OsString>,
    /// The directory that the agent works in.
    pub workspace: Option<Place>,
    /// A directory of the host that is the agent's home; none: an ephemeral one.
    pub home: Option<Place>,
    /// The repository that the workspace is a worktree of.
    pub git_repository: Option<GitRepository>,
    /// The names of the file that the policy was read from: an agent that could write to it would choose what it may
    /// do the next time. Empty for a policy of the system's.
    pub policy_file: Vec<PathBuf>,
    /// What must be shown for the command to run, beyond what the policy shows.
    pub installation: Vec<PathBuf>,
    /// Set on top of everything else.
    pub environment: BTreeMap<String, OsString>,
    /// Who asks.
    pub caller: Caller,
    /// Ways in.
    pub published: Vec<Published>,
    /// In which domains the host looks for short names.
    pub search: Vec<Hostname>,
    /// Where the request widened its policy.
    pub widened: Vec<String>,
}

/// The repository that a linked git worktree belongs to (gitrepository-layout(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRepository {
    /// What all its worktrees share: objects, refs, config, hooks.
    pub common: Place,
    /// Name of the directory below `worktrees` that belongs to this one.
    pub worktree: OsString,
}

/// A directory of the host, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Canonical.
    pub path: PathBuf,
    /// Its owner.
    pub owner: Owner,
    /// Whether its filesystem is mounted noexec.
    pub noexec: bool,
}

/// The calling user's surroundings.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Stands for `~` in policies.
    pub home: PathBuf,
    /// Where the caller is.
    pub directory: PathBuf,
    /// Who commits, where the caller's git knows it.
    pub identity: Option<Identity>,
    /// The caller's whole environment; the policy says what of it passes.
    pub environment: BTreeMap<String, OsString>,
}
