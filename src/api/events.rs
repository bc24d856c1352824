//! What happens on a node, in order.

use serde::{Deserialize, Serialize};

use super::delivery::Delivery;
use super::{Agent, Login};

/// One event of `GET /v1/events`: `id:` is `cursor`, `event:` is `type`, `data:` is all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Grows with every event; survives the daemon's restarts.
    pub cursor: u64,
    /// When, ISO 8601.
    pub at: String,
    /// Whose agent.
    pub tenant: String,
    /// Which agent; none: the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What.
    #[serde(flatten)]
    pub happened: Happened,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", tag = "type", content = "data")]
pub enum Happened {
    /// An agent was asked for.
    AgentCreated(Box<Agent>),
    /// Its state is another one.
    AgentState(Box<Agent>),
    /// It waits for a login.
    LoginRequired(Login),
    /// A message was answered.
    TurnComplete(Turn),
    /// A message was not delivered, or nobody knows whether it was.
    NotDelivered(Delivery),
    /// A question of the agent's was answered in the user's stead.
    QuestionAnswered(Question),
    /// A budget is nearly used up.
    BudgetWarning(Budget),
    /// A budget is used up: what it is for is stopped.
    BudgetExceeded(Budget),
    /// An agent is gone from the list.
    AgentRemoved,
    /// Events before this one are no longer kept.
    Gap(Gap),
    /// The node takes no new agents any more.
    Draining,
    /// What this version does not know.
    #[serde(other)]
    Other,
}

/// A message, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// The message's id.
    pub message: String,
    /// Plain text, its last 8000 characters.
    pub output: String,
}

/// A question that was answered in the user's stead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// The screen's name in the kind's file.
    pub screen: String,
    /// What was asked.
    pub evidence: String,
    /// The keys that were pressed.
    pub keys: Vec<String>,
}

/// A part of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// `agent` or `tenant`
    pub of: String,
    /// `cpu-seconds`, `memory-byte-seconds`, `egress-bytes`, `wall-seconds`.
    pub what: String,
    /// So much is used.
    pub used: u64,
    /// Of so much.
    pub limit: u64,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// The first cursor that is missing.
    pub from: u64,
    /// The first that is there again.
    pub to: u64,
}
