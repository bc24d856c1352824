//! What a terminal shows, and what it has put out, as text.

use serde::{Deserialize, Serialize};

use super::agent::Size;

/// `GET /v1/agents/{id}/screen`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Screen {
    /// The output offset that it shows the state of.
    pub offset: u64,
    /// Its size.
    pub size: Size,
    /// From top to bottom, plain text.
    pub lines: Vec<String>,
    /// Where the cursor is.
    pub cursor: Cursor,
    /// The title that was set.
    pub title: String,
    /// Whether the alternate screen is on.
    pub alternate: bool,
}

/// A place on the screen, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Cursor {
    /// Column.
    pub col: u16,
    /// Row.
    pub row: u16,
}

/// One line of `GET /v1/agents/{id}/logs?format=json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When it was begun.
    pub at: String,
    /// Without escape codes.
    pub text: String,
}

/// `PUT /v1/agents/{id}/secrets/{name}`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secret {
    /// The new value of the credential.
    pub value: String,
}

/// `POST /v1/node/drain`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drain {
    /// Stop the agents that run.
    #[serde(default)]
    pub stop: bool,
}
