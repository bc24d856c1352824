//! The node: what it is, and what runs on it.

use serde::{Deserialize, Serialize};

/// `GET /v1/node`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Of the daemon.
    pub version: String,
    /// `uname -r`
    pub kernel: String,
    /// /proc/sys/kernel/random/boot_id
    pub boot: String,
    /// When the daemon was started.
    pub since: String,
    /// Agents that have not ended.
    pub active: usize,
    /// All that are listed.
    pub agents: usize,
    /// Takes no new ones.
    pub draining: bool,
    /// The launcher answers.
    pub launcher: bool,
}

/// One policy of `GET /v1/policies`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PolicySummary {
    /// Its name.
    pub name: String,
    /// What it adds, and why.
    pub description: String,
    /// Where it lies.
    pub source: String,
}
