//! Policy + host + request, decided down to every mount, filter, limit and flag.
//!
//! A plan is pure data: it can be serialised, hashed, shown and compared, and nothing in it has happened yet.
//! Paths under *target* are inside the sandbox, paths under *source* on the host.

pub mod browser;
pub mod cover;
pub mod devices;
mod environment;
mod error;
mod etc;
mod git;
pub mod landlock;
pub mod network;
pub mod outlook;
pub mod precious;
pub mod proc;
pub mod request;
pub mod resolve;
pub mod seccomp;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::id::PolicyName;
pub use crate::policy::Capability;
use crate::policy::{Bytes, Limits, Shortfall};
pub use error::PlanError;
pub use network::Network;
pub use request::Request;
pub use resolve::{CANARY, Given, resolve};

/// What will be built for one agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The policy it comes from.
    pub policy: PolicyName,
    /// Where the request widened the policy (only root at the command line can).
    pub widened: Vec<String>,
    /// Host name inside.
    pub hostname: String,
    /// Who the agent is inside.
    pub user: User,
    /// In the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Written to the cgroup and read back.
    pub limits: Limits,
    /// Set in the child.
    pub rlimits: Vec<Rlimit>,
    /// What the policy grants of capabilities, usually nothing. The agent gets it by other means and holds none itself:
    /// `net-bind-service` opens the low ports of its network.
    pub capabilities: BTreeSet<Capability>,
    /// The second wall around files, and the only one around TCP on loopback.
    pub landlock: Landlock,
    /// The allow-list, compiled.
    pub seccomp: Seccomp,
    /// Its ways out and in, through a gateway; none: there is neither.
    pub network: Option<Network>,
    /// Whether the agent may make namespaces and mounts of its own.
    pub nested_namespaces: bool,
    /// What is started.
    pub command: Command,
    /// Whether a terminal may be made.
    pub terminal: bool,
    /// What the host cannot enforce, all of it tolerated by the policy.
    pub shortfalls: BTreeSet<Shortfall>,
}

/// Where the system's configuration lies. Every sandbox has one of its own: no policy shows the host's as a whole.
pub const ETC: &str = "/etc";

/// The agent's identity inside its user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Name in `/etc/passwd` inside.
    pub name: String,
    /// Uid and gid inside; never 0.
    pub uid: u32,
    /// Its home inside.
    pub home: PathBuf,
}

/// One step in building the agent's view of the filesystem.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Mount {
    /// Something of the host.
    Bind(Bind),
    /// Fresh memory-backed storage.
    #[serde(rename_all = "camelCase")]
    Tmpfs {
        /// Where.
        target: PathBuf,
        /// At most this much.
        size: Bytes,
        /// Permission bits.
        mode: u32,
        /// Whether it belongs to the agent rather than to the sandbox's root.
        owned_by_agent: bool,
        /// Whether files in it may be executed.
        exec: bool,
    },
    /// A link in the root filesystem, or in /etc.
    Symlink {
        /// Where.
        target: PathBuf,
        /// What it says.
        points_to: PathBuf,
    },
    /// A small read-only file with this content.
    File {
        /// Where.
        target: PathBuf,
        /// All of it.
        content: String,
    },
    /// A small read-only script that the agent may run.
    Script {
        /// Where.
        target: PathBuf,
        /// All of it.
        content: String,
    },
    /// A read-only copy of a small file of the host, as it is at the start.
    Copy {
        /// On the host.
        source: PathBuf,
        /// Where.
        target: PathBuf,
    },
    /// A directory in the root filesystem, or in /etc; empty, read-only.
    Directory {
        /// Where.
        target: PathBuf,
    },
}

impl Mount {
    /// The directory or file of the host that the agent writes to here, if there is one.
    pub fn written(&self) -> Option<&Path> {
        match self {
            Self::Bind(Bind { source: Source::Path { path }, writable: true, .. }) => Some(path),
            _ => None,
        }
    }

    /// Whether it is one of the small things in /etc, which the shim makes all together: everything there but what is a mount of
    /// its own.
    pub fn is_of_etc(&self) -> bool {
        !matches!(self, Self::Bind(_) | Self::Tmpfs { .. }) && self.target().starts_with(ETC)
    }

    /// Whether it protects a file that does not exist, and so needs something to cover the place with.
    pub fn needs_cover(&self) -> bool {
        let Self::Bind(Bind { source, .. }) = self else { return false };
        matches!(source, Source::Protected { stand_in: Some(StandIn::File), .. })
    }
}

impl Mount {
    /// Where it is inside.
    pub fn target(&self) -> &Path {
        match self {
            Self::Bind(bind) => &bind.target,
            Self::Tmpfs { target, .. }
            | Self::Symlink { target, .. }
            | Self::File { target, .. }
            | Self::Script { target, .. }
            | Self::Copy { target, .. }
            | Self::Directory { target } => target,
        }
    }
}

/// A host file or directory shown inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bind {
    /// On the host; opened without following anything that an agent may have planted.
    pub source: Source,
    /// Inside.
    pub target: PathBuf,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether files in it may be executed.
    pub exec: bool,
    /// Files of this host owner appear as the agent's, and the agent's files are stored as this owner's.
    pub owner: Option<Owner>,
}

/// How a bind's source is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Source {
    /// A path that only root and the caller control.
    Path {
        /// Absolute.
        path: PathBuf,
    },
    /// A protected path below a directory that an agent may have written: no symlink is followed.
    #[serde(rename_all = "camelCase")]
    Protected {
        /// The workspace on the host.
        root: PathBuf,
        /// Relative, normal components only; of a missing path the first component that is missing.
        path: PathBuf,
        /// What holds its place for the time of the run, if it does not exist.
        stand_in: Option<StandIn>,
    },
}

/// What holds the place of a protected path that does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StandIn {
    /// An empty directory.
    Directory,
    /// Something that nobody can open, covered inside by an empty file.
    File,
    /// `.git/commondir` saying that the repository is its own: what git takes from a file of this name it must be
    /// able to read (gitrepository-layout(5)), and another directory would come with a `core.fsmonitor` of its own.
    GitCommonDirectory,
}

/// A host uid and gid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// On the host's disk.
    pub uid: u32,
    /// On the host's disk.
    pub gid: u32,
}

/// One rlimit, soft and hard alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rlimit {
    /// `nofile`, `core`, `fsize`, `memlock`, `nice`, `rtprio`, `msgqueue`.
    pub resource: &'static str,
    /// In the resource's own unit.
    pub value: u64,
}

/// The Landlock domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Landlock {
    /// The kernel's ABI, 0 if it has none.
    pub abi: u32,
    /// Whether files are governed (not when nested mounts are allowed: Landlock forbids every mount).
    pub filesystem: bool,
    /// What may be done below which path inside.
    pub rules: Vec<(PathBuf, Rights)>,
    /// Whether listening on TCP is refused altogether.
    pub deny_bind: bool,
    /// Whether connecting by TCP is refused altogether: where there is a gateway, it decides.
    pub deny_connect: bool,
    /// Whether what is refused is told to the kernel's audit; if not, why.
    pub audit: Result<(), String>,
}

/// What a Landlock rule grants below its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rights {
    /// List directories.
    List,
    /// Read files, list directories.
    Read,
    /// Read and execute.
    Execute,
    /// Read, write, create, remove.
    Write,
    /// Read, write, create, remove, execute.
    WriteExecute,
    /// Read, write and ioctl existing devices.
    Devices,
    /// Read and write existing files (`/proc`).
    Existing,
}

/// The compiled system-call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// The classic-BPF program: code, jt, jf, k. Shown by its hash.
    #[serde(rename = "hash", serialize_with = "seccomp::serialize_hash")]
    pub program: Vec<(u16, u8, u8, u32)>,
    /// Whether refused calls are reported through a user notification (else they just fail).
    pub notify: bool,
}

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// Program name or path as inside, then its arguments.
    #[serde(skip)]
    pub argv: Vec<OsString>,
    /// The whole environment.
    #[serde(skip)]
    pub environment: BTreeMap<String, OsString>,
    /// Where it starts.
    pub directory: PathBuf,
}
