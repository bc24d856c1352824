//! Agents, threads and messages in the shapes that Parallax reads.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::words;
use crate::api::agent::Agent;

/// The label that keeps an agent's type where Parallax calls it something else.
pub const TYPE: &str = "parallax.type";
/// The label of an agent's role.
pub const ROLE: &str = "parallax.role";
/// The label of whom an agent reports to.
pub const REPORTS_TO: &str = "parallax.reports-to";
/// The label of the execution that an agent belongs to.
pub const EXECUTION: &str = "parallax.execution";
/// The label of an agent that is a thread.
pub const THREAD: &str = "parallax.thread";

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentHandle {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// `claude`, `codex`, `gemini`, `aider`, `shell`, `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `starting`, `authenticating`, `ready`, `busy`, `stopping`, `stopped`, `error`.
    pub status: String,
    /// As given.
    pub capabilities: Vec<String>,
    /// As given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// As given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports_to: Option<String>,
    /// As given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<String>,
    /// ISO 8601
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// ISO 8601
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_at: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// As a shell gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The state under its own name: `login-required`, `blocked` …
    pub state: String,
    /// Its policy.
    pub policy: String,
    /// Its workspace on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Where to log in, while its status is `authenticating`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<crate::api::Login>,
}

impl AgentHandle {
    /// This agent's.
    pub fn of(agent: &Agent) -> Self {
        let label = |key: &str| agent.labels.get(key).cloned();
        Self {
            id: agent.id.clone(),
            name: agent.name.clone(),
            kind: kind(agent).to_owned(),
            status: words::agent_status(agent.state).into(),
            capabilities: agent.capabilities.clone(),
            role: label(ROLE),
            reports_to: label(REPORTS_TO),
            execution_id: label(EXECUTION),
            started_at: agent.started_at.clone(),
            last_activity_at: agent.last_activity_at.clone(),
            error: agent.error.clone(),
            exit_code: agent.exit_code,
            state: agent.state.as_str().into(),
            policy: agent.policy.clone(),
            workdir: agent.workspace.clone(),
            login: agent.login.clone(),
        }
    }
}

/// The type under which Parallax asked for it.
pub fn kind(agent: &Agent) -> &str {
    agent.labels.get(TYPE).unwrap_or(&agent.kind)
}

/// `GET /api/agents`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentList {
    /// In order of their ids.
    pub agents: Vec<AgentHandle>,
    /// How many.
    pub count: usize,
}

/// One thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThreadHandle {
    /// Its id, which is its agent's, too.
    pub id: String,
    /// As given.
    pub execution_id: String,
    /// The slot of the control plane that this runtime is configured in.
    pub runtime_name: String,
    /// Its agent.
    pub agent_id: String,
    /// As given.
    pub name: String,
    /// As given.
    pub agent_type: String,
    /// `starting`, `ready`, `running`, `blocked`, `stopped`, `failed`.
    pub status: String,
    /// As given.
    pub objective: String,
    /// As given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// As given; `path` is where the node has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Value>,
    /// ISO 8601
    pub created_at: String,
    /// ISO 8601
    pub updated_at: String,
    /// ISO 8601
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_at: Option<String>,
    /// The end of the last turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<Completion>,
    /// As given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

/// How far a thread has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Completion {
    /// `partial`, `failed`
    pub state: String,
    /// In words.
    pub summary: String,
}

/// `GET /api/threads`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ThreadList {
    /// In order of their ids.
    pub threads: Vec<ThreadHandle>,
    /// How many.
    pub count: usize,
}

/// Something that was said to an agent, or by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentMessage {
    /// Its id.
    pub id: String,
    /// To whom, or by whom.
    pub agent_id: String,
    /// `inbound`: to the agent; `outbound`: by it.
    pub direction: String,
    /// `task`, `response`, `question`
    #[serde(rename = "type")]
    pub kind: String,
    /// Plain text.
    pub content: String,
    /// What goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// ISO 8601
    pub timestamp: String,
}

impl AgentMessage {
    /// Said by an agent, now.
    pub fn outbound(id: String, agent: &str, kind: &str, content: String, metadata: Option<Value>) -> Self {
        Self {
            id,
            agent_id: agent.into(),
            direction: "outbound".into(),
            kind: kind.into(),
            content,
            metadata,
            timestamp: now(),
        }
    }
}

/// Now, as Parallax reads times.
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_what_a_browser_takes_for_one() {
        let now = now();
        assert_eq!((now.len(), now.as_bytes()[19], now.as_bytes()[23]), (24, b'.', b'Z'), "{now}");
    }

    #[test]
    fn what_a_handle_must_have_it_has_and_what_is_unknown_is_absent() {
        let json =
            serde_json::to_value(AgentHandle::of(&crate::daemon::api::examples::agent("a"))).expect("JSON");
        for field in ["id", "name", "type", "status", "capabilities"] {
            assert!(!json[field].is_null(), "{field}");
        }
        assert!(json.as_object().expect("an object").values().all(|v| !v.is_null()), "{json}");
    }
}
