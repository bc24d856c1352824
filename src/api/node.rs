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
    /// How the quotas and budgets stand that concern the caller; for an administrator, those of every tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<QuotaLine>,
}

/// One number of a quota, or of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct QuotaLine {
    /// `tenant NAME`, `identity SAN`
    pub whose: String,
    /// `agents`, `memory` (bytes), `millicpus`, `processes`, `starts-per-minute`, `lifetime-seconds`,
    /// `egress-bytes-per-day`; of a budget
    /// `cpu-seconds`, `memory-byte-seconds`, `egress-bytes`, `wall-seconds`.
    pub what: String,
    /// So much is used.
    pub used: u64,
    /// Of so much.
    pub limit: u64,
    /// When nothing of it is used any more, ISO 8601; none: when agents end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<String>,
}

/// `POST /v1/audit/rotate-key`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rotated {
    /// The record that says so.
    pub record: u64,
    /// The key that signs from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
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
