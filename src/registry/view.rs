//! What a node registers, as the node itself says: the same whether it is kept there or in etcd.

use serde::{Deserialize, Serialize};

use super::Entry;

/// `GET /v1/registry`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema), schema(as = Registry))]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// `embedded` or `etcd`.
    pub kind: String,
    /// Whether what should be registered is, or is about to be.
    pub connected: bool,
    /// Why not, and the way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The node's own entry.
    pub node: Entry,
    /// Those of the caller's agents that are registered, or are about to be.
    pub agents: Vec<Entry>,
    /// Of the caller's usable agents, those that are not registered, and why: somebody else has its key, it has no door, or
    /// `trouble`.
    pub unregistered: Vec<String>,
}
