//! Agents: what is asked for, and what they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::delivery::Stage;
use super::login::Login;

/// `POST /v1/agents`: one agent to be started. A second one with the same `id` and the same content finds the first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spawn {
    /// 1 to 64 letters, digits, `.`, `_`, `-`; begins with a letter or digit. None: one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For people. None: the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `claude`, `codex`, `gemini`, `aider`, `shell` or `custom`; also the name of the policy, if none is given.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of a policy of the node's. A request can only narrow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Program and arguments; none: the policy's own. `custom` needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Appended to the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// A directory of the node's, absolute, below what its administrator has opened for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// The node's own workspace of this name, made if it is missing; instead of `workspace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    /// Name of a home that is kept, made if it is missing. None: an empty one, gone at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Seconds (at most 20) to wait for a home that another agent has. None: it is refused at once (409), for two that
    /// renew one login spoil it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home_wait: Option<u64>,
    /// Variables. Never shown again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Written into the workspace before the agent starts, by its own user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// `key=value` for people and filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it says it can do; for the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Limits, within the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Of the policy's destinations only these, `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// First size of the terminal. None: 120 x 40.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Start it again when it fails, later each time.
    #[serde(default)]
    pub auto_restart: bool,
    /// Stop it after so many seconds without output and input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<u64>,
    /// Stop it after so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u64>,
    /// Questions of the agent's that are answered in the user's stead, by the names of their screens; `safe` stands for
    /// those that decide nothing, and for trust in the workspace that is named here. None: `safe`. Empty: none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Vec<String>>,
}

/// One file for the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Relative to the workspace.
    pub path: String,
    /// All of it.
    pub content: String,
}

/// Limits of one agent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Memory and swap together, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// CPUs; 1.5 is one and a half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
}

/// Of a terminal, in characters, each 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// What an agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its sandbox is being built, or it has not shown itself yet.
    Starting,
    /// It waits for somebody to log in.
    LoginRequired,
    /// It waits for a message.
    Ready,
    /// It works.
    Busy,
    /// It waits for a decision.
    Blocked,
    /// It was asked to end.
    Stopping,
    /// It has ended by itself or was stopped.
    Exited,
    /// It could not be started, or was ended from outside.
    Failed,
    /// Nothing says what it is doing.
    Unknown,
}

impl State {
    /// Whether it is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Exited | Self::Failed)
    }

    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::LoginRequired => "login-required",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Blocked => "blocked",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One agent, as everybody who may see it sees it. No variable and no secret is in here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose it is.
    pub tenant: String,
    /// Who started it (a SPIFFE id or a DNS name).
    pub owner: String,
    /// Its policy.
    pub policy: String,
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: String,
    /// What says so.
    pub evidence: String,
    /// Whether something may be typed now without answering a question.
    pub safe_to_type: bool,
    /// When it was asked for.
    pub created_at: String,
    /// When it was started, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// When it last put something out, or got something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_at: Option<String>,
    /// Its exit code, as a shell gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether its memory limit ended it.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How often it was started anew.
    #[serde(default)]
    pub restarts: u32,
    /// Its workspace on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// The name of its home, if it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// As given.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// As given.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The terminal's size.
    pub size: Size,
    /// How far its terminal log reaches: the offset of the next byte.
    pub offset: u64,
    /// A login that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

/// `GET /v1/agents`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentPage {
    /// In order of their ids.
    pub agents: Vec<Agent>,
    /// Ask for what follows with `?cursor=`; none: that was all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `POST /v1/agents/{id}/stop`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stop {
    /// Kill it at once.
    #[serde(default)]
    pub force: bool,
    /// Milliseconds between SIGTERM and the end of its whole cgroup. None: 5000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Answer only once it has ended.
    #[serde(default)]
    pub wait: bool,
}

/// `POST /v1/agents/{id}/send`: a message, typed and submitted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Send {
    /// Its text.
    pub message: String,
    /// Answer only once the agent has answered.
    #[serde(default)]
    pub wait: bool,
    /// For how many milliseconds. None: 30000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The same key again sends nothing again, and answers what became of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Keep it until something may be typed: while the agent is starting, busy, or waits for a login or a decision.
    /// `wait` keeps it, too.
    #[serde(default)]
    pub queue: bool,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// The message's id.
    pub id: String,
    /// Whether it was submitted; false: it is queued.
    pub sent: bool,
    /// How far it has come.
    #[serde(default = "taken")]
    pub stage: Stage,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The turn's text, where it was waited for and came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
}

fn taken() -> Stage {
    Stage::Taken
}

/// `POST /v1/agents/{id}/input`: bytes as if typed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Text, typed as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Keys by name (`enter`, `ctrl+c`, `up`), after the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Bytes in base64, instead of text and keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// `POST /v1/agents/{id}/exec`: something else to run within the agent's walls.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// On top of the agent's variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its standard input.
    #[serde(default)]
    pub stdin: String,
    /// Milliseconds until it is given up. None: 60000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// How that went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ExecResult {
    /// As a shell gives it.
    pub exit_code: u8,
    /// At most a megabyte.
    pub stdout: String,
    /// At most a megabyte.
    pub stderr: String,
    /// Whether either was cut off.
    pub truncated: bool,
}

/// `GET /v1/agents/{id}/stats`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The agent.
    pub id: String,
    /// CPU time in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory now, in bytes.
    pub memory: Option<u64>,
    /// The most there was.
    pub memory_peak: Option<u64>,
    /// Processes and threads now.
    pub processes: Option<u64>,
    /// Bytes sent over the network.
    pub sent: Option<u64>,
    /// Bytes received over the network.
    pub received: Option<u64>,
    /// Refused connections and calls.
    pub refused: u64,
    /// Seconds since it was started.
    pub uptime: Option<f64>,
    /// Bytes that its terminal has put out.
    pub output: u64,
}
