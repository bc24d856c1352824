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
}
