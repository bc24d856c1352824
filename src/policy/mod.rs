//! What an agent is allowed to do. Data only: read from `policies/*.toml`, strictest by default.
//!
//! ```text
//!  policies/*.toml ──parse──▶ document (what the file says) ──extends──▶ Policy (everything decided)
//! ```
//! The types here are the *effective* policy: every value is present, and every `Default` is the strictest.

pub mod cidr;
pub mod destination;
#[cfg(test)]
mod destination_tests;
pub mod document;
pub mod error;
pub mod guarded;
pub mod hostname;
pub mod inject;
pub mod load;
#[cfg(test)]
mod load_tests;
pub mod memo;
pub mod merge;
pub mod network;
pub mod origin;
pub mod path;
pub mod publish;
pub mod request;
pub mod shortfall;
pub mod size;
pub mod synthetic;
pub mod text;
pub mod trust;
pub mod value;
pub mod within;
#[cfg(test)]
mod within_tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::PolicyName;
pub use cidr::Cidr;
pub use destination::{Destination, HostPattern, Sni};
pub use error::{Fault, PolicyError};
pub use hostname::Hostname;
pub use inject::{Inject, PathPrefix};
pub use load::{Library, Reference};
pub use network::Network;
pub use path::{HostPath, WorkspacePath};
pub use publish::Published;
pub use request::Request;
pub use shortfall::Shortfall;
pub use size::{Bytes, Cpus};
pub use text::hash;
pub use within::Excess;

/// Everything one agent may do, after `extends` has been followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// The name it was loaded under.
    pub name: PolicyName,
    /// What it adds to its parent, and why.
    pub description: String,
    /// What is started.
    pub agent: Agent,
    /// What it sees and may change.
    pub filesystem: Filesystem,
    /// Whom it may talk to.
    pub network: Network,
    /// How much it may use.
    pub limits: Limits,
    /// What it may ask the kernel for.
    pub syscalls: Syscalls,
    /// What it may do beyond an ordinary user, inside its own user namespace.
    pub capabilities: Capabilities,
    /// Which variables it is given.
    pub environment: Environment,
    /// Whether it gets a terminal.
    pub terminal: Terminal,
    /// Which missing protections do not stop it from starting.
    pub tolerate: Tolerate,
}

/// `[agent]`: what is started when the request names no command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Agent {
    /// Program and arguments; empty: the request must name them.
    pub command: Vec<String>,
}

/// How a directory of the host may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Not at all.
    #[default]
    None,
    /// Read, search, execute.
    ReadOnly,
    /// Everything its owner could do, set-id bits excepted.
    ReadWrite,
}

/// `[filesystem]`: a path that is not named here does not exist inside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Filesystem {
    /// Host paths shown read-only where the host has them (`/usr`, `/etc/ssl`, `~/.cargo/bin` …).
    pub system: BTreeSet<HostPath>,
    /// Host paths shown read-only; the start is refused if one is missing.
    pub read_only: BTreeSet<HostPath>,
    /// Host paths shown writable (idmapped like the workspace); the start is refused if one is missing.
    pub read_write: BTreeSet<HostPath>,
    /// What `--workspace` may give.
    pub workspace: Access,
    /// Read-only inside the workspace, even while they do not exist: the host may execute them later.
    pub protected: BTreeSet<WorkspacePath>,
    /// Read-only inside the workspace if they exist at the start.
    pub protected_if_present: BTreeSet<WorkspacePath>,
    /// Whether a workspace that is a linked git worktree also gets the repository that it belongs to.
    pub git_worktree: bool,
    /// Whether the command's own installation is shown read-only when no other rule shows it.
    pub expose_command: bool,
    /// Size of an ephemeral home.
    pub home_size: Bytes,
    /// Whether files in the home may be executed.
    pub home_exec: bool,
    /// Size of `/tmp`.
    pub tmp_size: Bytes,
    /// Whether files in `/tmp` may be executed.
    pub tmp_exec: bool,
    /// Size of `/dev/shm`.
    pub shm_size: Bytes,
}

/// `[limits]`: enforced by the cgroup, and by rlimits where a cgroup has no say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Memory and swap together.
    pub memory: Bytes,
    /// CPU time per second of wall time.
    pub cpus: Cpus,
    /// Processes and threads.
    pub processes: u32,
    /// Descriptors per process (`RLIMIT_NOFILE`).
    pub open_files: u32,
    /// Largest file that may be written (`RLIMIT_FSIZE`); none: no such limit.
    pub file_size: Option<Bytes>,
    /// Bytes per second read from, and written to, the block devices behind the workspace and home.
    pub io: Option<Io>,
}

/// `limits.io`: bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Io {
    /// Bytes read per second.
    pub read: Bytes,
    /// Bytes written per second.
    pub write: Bytes,
}

/// `[syscalls]`: changes to the allow-list that every agent starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Syscalls {
    /// Allowed whatever their arguments.
    pub allow: BTreeSet<String>,
    /// Refused whatever the allow-list says.
    pub deny: BTreeSet<String>,
    /// Whether new namespaces and mounts may be made inside (Codex's own bubblewrap needs them).
    pub nested_namespaces: bool,
}

/// `[capabilities]`: none, unless named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Capabilities {
    /// Kept for the agent, inside its own user namespace only.
    pub keep: BTreeSet<Capability>,
}

/// The capabilities that a policy may grant: those that reach nothing outside the sandbox's own namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Ports below 1024 on the sandbox's own loopback.
    NetBindService,
}

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NetBindService => "net-bind-service",
        })
    }
}

/// `[environment]`: the agent starts with these variables and no others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Environment {
    /// Taken over from the caller; a trailing `*` stands for any ending.
    pub pass: BTreeSet<String>,
    /// Set to these values.
    pub set: BTreeMap<String, String>,
    /// Set to a host path where that path is shown inside (`RUSTUP_HOME = "~/.rustup"`).
    pub paths: BTreeMap<String, HostPath>,
}

/// `[terminal]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Terminal {
    /// Whether the agent may have one at all.
    pub allocate: bool,
    /// Whether a browser's stand-in says on it which addresses the agent wants opened.
    pub report_urls: bool,
}

/// `[tolerate]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tolerate {
    /// Protections that may be missing; the attestation names each that is.
    pub shortfalls: BTreeSet<Shortfall>,
}
