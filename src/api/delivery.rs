//! A message on its way to an agent.

use serde::{Deserialize, Serialize};

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It waits until something may be typed.
    Queued,
    /// It is being typed.
    Typing,
    /// It stands in the agent's composer.
    Typed,
    /// The key that submits it was pressed.
    Submitted,
    /// The agent has it: it works, or its composer is empty again. Of a kind whose screens nobody has described: it was
    /// submitted.
    Taken,
    /// The agent has answered, and is ready again.
    Answered,
    /// The agent does not have it, and will not get it.
    Failed,
    /// It was typed in part or as a whole, and nobody knows what became of it. It is not typed again.
    Uncertain,
}

impl Stage {
    /// Whether nothing becomes of it any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Answered | Self::Failed | Self::Uncertain)
    }

    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Typing => "typing",
            Self::Typed => "typed",
            Self::Submitted => "submitted",
            Self::Taken => "taken",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
        }
    }
}

/// A message, and what became of it. Its text is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// The key that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How far it has come.
    pub stage: Stage,
    /// What it waits for, or why it came no further.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Bytes of its text.
    pub bytes: usize,
    /// Whether its stages were seen on the agent's screen, rather than taken for granted.
    pub verified: bool,
    /// When it was given.
    pub queued_at: String,
    /// When the first byte of it was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typed_at: Option<String>,
    /// When it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<String>,
    /// When nothing more became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// The turn's text: plain, its last 8000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
}

/// `GET /v1/agents/{id}/deliveries`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Deliveries {
    /// The latest ones, the latest last.
    pub deliveries: Vec<Delivery>,
}
