//! What goes wrong, in the form of RFC 9457.

use serde::{Deserialize, Serialize};

/// `application/problem+json`, with `error` beside `detail` because Parallax reads that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened to which object, and the way out.
    pub detail: String,
    /// Stable, for programs: `agent-not-found`, `policy-exceeded`.
    pub code: String,
    /// Which request.
    pub request_id: String,
    /// The same as `detail`.
    pub error: String,
    /// Which field of the request is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// With code `quota`: what is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Box<QuotaExcess>>,
    /// In so many seconds it is worth asking again, as `Retry-After` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// A quota that has no room for what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct QuotaExcess {
    /// `tenant NAME`, `identity SAN`, `agent ID`
    pub whose: String,
    /// As in `GET /v1/node`: `agents`, `memory` (bytes), `millicpus`, `processes`, `starts-per-minute`, `egress-bytes-per-day`,
    /// `cpu-seconds`, `memory-byte-seconds`, `egress-bytes`, `wall-seconds`; of an agent `messages`.
    pub what: String,
    /// So much is used.
    pub used: u64,
    /// Of so much.
    pub limit: u64,
    /// And so much more was asked for.
    pub asked: u64,
}
