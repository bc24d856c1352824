//! One agent's record: what the API says of it and its shim does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::service::order::Size;

/// What is kept of one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Its id.
    pub(crate) id: String,
    /// For people.
    pub(crate) name: String,
    /// `claude`, `shell` …
    pub(crate) kind: String,
    /// Whose it is.
    pub(crate) tenant: String,
    /// Who asked for it.
    pub(crate) owner: String,
    /// Its policy.
    pub(crate) policy: String,
    /// Of the request, under the node's key.
    pub(crate) digest: String,
    /// As given.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// As given.
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
    /// Its workspace on the node.
    #[serde(default)]
    pub(crate) workspace: Option<String>,
    /// The name of its home.
    #[serde(default)]
    pub(crate) home: Option<String>,
    /// The most memory it may use, in bytes: it counts for its tenant's.
    #[serde(default)]
    pub(crate) memory: u64,
    /// The most CPU time it may use, in thousandths of a CPU: it counts, too.
    #[serde(default)]
    pub(crate) millicpus: u64,
    /// The most processes it may have: they count, too.
    #[serde(default)]
    pub(crate) processes: u64,
    /// The terminal's first size.
    pub(crate) size: Size,
    /// Start it again when it fails.
    #[serde(default)]
    pub(crate) auto_restart: bool,
    /// Stop it after so many seconds without output and input.
    #[serde(default)]
    pub(crate) idle_timeout: Option<u64>,
    /// Stop it after so many seconds.
    #[serde(default)]
    pub(crate) lifetime: Option<u64>,
    /// Milliseconds since 1970.
    pub(crate) created: u64,
    /// When it was started, the last time.
    #[serde(default)]
    pub(crate) started: Option<u64>,
    /// How often it was started anew.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// Which boot it was started under, the last time.
    pub(crate) boot: String,
    /// How it ended, where no shim was left to say so.
    #[serde(default)]
    pub(crate) verdict: Option<Verdict>,
    /// The end that the audit log has been told of, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) told: Option<u64>,
    /// Which of its questions may be answered, as given.
    #[serde(default)]
    pub(crate) answers: Option<Vec<String>>,
}

/// How an agent ended that nobody saw ending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verdict {
    /// In words.
    pub(crate) error: String,
    /// When that was found, in milliseconds since 1970.
    pub(crate) at: u64,
}
