//! What a daemon orders: one agent, in words. Every wall is decided by root's own policies, not here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest order, as JSON in a sealed memfd.
pub const LONGEST: u64 = 4 * 1024 * 1024;

/// One agent to be started. Every name is checked again by the launcher, which trusts none of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The agent's id ([`crate::id::AgentId`]).
    pub id: String,
    /// Whose it is; a component of the paths of its home and of a private workspace.
    pub tenant: String,
    /// Name of a policy of the system's; never a file.
    pub policy: String,
    /// Program and arguments; empty: the policy's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// Appended to the command, whichever it is.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The directory that it works in.
    #[serde(default)]
    pub workspace: Workspace,
    /// Its home.
    #[serde(default)]
    pub home: Home,
    /// Milliseconds for which it waits for a home that another agent has; 0: it is refused at once. From version 2 on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub home_wait_ms: u64,
    /// Variables. They may be secrets: nobody logs them, and they lie in no file that anybody but root can read.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Written into the workspace or the home (relative path) by the agent's own user, inside, before it starts.
    #[serde(default)]
    pub files: Vec<File>,
    /// Memory and swap together, in bytes, if less than the policy's.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Thousandths of a CPU, if less than the policy's.
    #[serde(default)]
    pub millicpus: Option<u64>,
    /// Processes and threads, if fewer than the policy's.
    #[serde(default)]
    pub processes: Option<u32>,
    /// If given: of the policy's destinations only these (`HOST:PORT`), each within one of the policy's.
    #[serde(default)]
    pub allow: Option<Vec<String>>,
    /// The terminal's first size.
    pub size: Size,
    /// `TERM`
    #[serde(default = "xterm")]
    pub term: String,
    /// How much of the terminal's output is kept, in bytes: the newest.
    pub log_bytes: u64,
}

/// The longest wait for a home.
pub const LONGEST_WAIT_MS: u64 = 20_000;

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn xterm() -> String {
    "xterm-256color".into()
}

/// Which directory of the host the agent works in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Workspace {
    /// None: it sees no directory of the host's.
    #[default]
    None,
    /// One below the roots that the node's administrator has opened for this (`launcher.toml`).
    Directory {
        /// Absolute.
        path: String,
    },
    /// The node's own, by name, made if it is missing: `workspaces/<tenant>/<name>`.
    Named {
        /// A name as an agent's id is one.
        name: String,
    },
}

/// The agent's home.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Home {
    /// Empty at the start, gone at the end.
    #[default]
    Ephemeral,
    /// Kept, made if it is missing: `homes/<tenant>/<name>`.
    Named {
        /// A name as an agent's id is one.
        name: String,
    },
}

/// One file for the workspace, or for the home.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Relative, normal components only.
    pub path: String,
    /// All of it. In one for the home `{workspace}` stands for the workspace's path inside, as JSON quotes it.
    pub content: String,
    /// Below the home, and only if there is nothing of that name yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub home: bool,
}

/// Of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Size {
    /// Columns, 1 to 1000.
    pub cols: u16,
    /// Rows, 1 to 1000.
    pub rows: u16,
}
