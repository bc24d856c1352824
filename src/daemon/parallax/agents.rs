//! `/api/agents`, `/api/health` and what else is not about threads.

use axum::Json;
use axum::extract::State;
use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::handle::{AgentHandle, AgentList, AgentMessage, EXECUTION, ROLE, kind};
use super::request::{self, AgentConfig};
use super::{sockets, words};
use crate::api::agent::Send;
use crate::daemon::Daemon;
use crate::daemon::api::agents::created;
use crate::daemon::api::body::{Body, Id};
use crate::daemon::api::logs::unreadable;
use crate::daemon::api::query::Query;
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;

const TAIL: usize = 100;
/// Parallax gives up after 30 seconds.
const LONGEST_ANSWER: u64 = 29_000;

/// `GET /api/health`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// Whether new agents can be started.
    pub healthy: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What this is.
    pub runtime: Runtime,
}

/// What a runtime is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// The slot of the control plane that it is configured in.
    pub name: String,
    /// `stockade`
    #[serde(rename = "type")]
    pub kind: String,
    /// Agents that have not ended.
    pub active_agents: usize,
}

/// `POST /api/agents/{id}/send`
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendInput {
    /// Must be there.
    pub message: Option<String>,
    /// Answer with what the agent answers.
    #[serde(default)]
    pub expect_response: bool,
    /// Milliseconds; 0 or none: as long as Parallax waits.
    pub timeout: Option<u64>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SendAnswer {
    /// Always true.
    pub sent: bool,
    /// What the agent answered, if that was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<AgentMessage>,
}

/// `GET /api/agents/{id}/logs`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Logs {
    /// Without escape codes.
    pub logs: Vec<String>,
    /// How many.
    pub count: usize,
}

/// `GET /api/agents/{id}/metrics`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Percent of one CPU: since the last time somebody asked, else since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime: Option<f64>,
}

/// What this is. A WebSocket is the bus, as at `/ws`.
#[utoipa::path(get, path = "/", tag = "parallax",
    responses((status = 200, description = "Name, version, faces", body = Value), (status = 101, description = "A WebSocket")))]
pub async fn root(
    state: State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    query: Query,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Fault> {
    if socket.is_ok() {
        return sockets::bus(state, caller, watch, query, socket).await;
    }
    let answer = json!({
        "service": "stockade",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoints": { "native": "/v1", "parallax": "/api", "events": "/ws", "openapi": "/openapi.json" },
    });
    Ok(Json(answer).into_response())
}

/// Whether new agents can be started. Always 200.
#[utoipa::path(get, path = "/api/health", tag = "parallax", responses((status = 200, description = "How it is", body = Health)))]
pub async fn health(State(daemon): State<Daemon>, caller: Caller) -> Json<Health> {
    let node = daemon.supervisor.node();
    let message = match (node.launcher, node.draining) {
        (false, _) => Some("the launcher does not answer".to_owned()),
        (true, true) => Some("this node is draining: it takes no new agents".to_owned()),
        (true, false) => None,
    };
    let active = daemon.supervisor.list(&caller).iter().filter(|agent| !agent.state.is_final()).count();
    let name = daemon.parallax.runtime_name.to_string();
    let runtime = Runtime { name, kind: "stockade".into(), active_agents: active };
    Json(Health { healthy: message.is_none(), message, runtime })
}

/// The agents that the caller may see.
#[utoipa::path(
    get, path = "/api/agents", tag = "parallax",
    params(
        ("type" = Option<String>, Query, description = "Only these kinds; several with commas or repeated"),
        ("status" = Option<String>, Query, description = "Only in these; several with commas or repeated"),
        ("role" = Option<String>, Query, description = "Only this role")
    ),
    responses((status = 200, description = "All of them", body = AgentList))
)]
pub async fn list(State(daemon): State<Daemon>, caller: Caller, query: Query) -> Json<AgentList> {
    Json(listed(&daemon, &caller, &query))
}

/// The agents that this query asks for.
pub fn listed(daemon: &Daemon, caller: &Caller, query: &Query) -> AgentList {
    let (kinds, states) = (query.list("type"), query.list("status"));
    let role = query.one("role").filter(|role| !role.is_empty());
    let any = |wanted: &[String], given: &str| wanted.is_empty() || wanted.iter().any(|w| w == given);
    let agents = daemon.supervisor.list(caller);
    let wanted = agents.iter().filter(|agent| {
        any(&kinds, kind(agent))
            && any(&states, words::agent_status(agent.state))
            && role.is_none_or(|role| agent.labels.get(ROLE).is_some_and(|given| given == role))
    });
    let agents: Vec<AgentHandle> = wanted.map(AgentHandle::of).collect();
    AgentList { count: agents.len(), agents }
}

/// Starts an agent. Answers before it is ready: that is an event.
#[utoipa::path(
    post, path = "/api/agents", tag = "parallax",
    request_body = AgentConfig,
    responses((status = 201, description = "Started", body = AgentHandle), (status = 200, description = "It was there already", body = AgentHandle))
)]
pub async fn spawn(
    State(daemon): State<Daemon>,
    caller: Caller,
    Body(config): Body<AgentConfig>,
) -> Result<(StatusCode, Json<AgentHandle>), Fault> {
    let spawned = daemon.supervisor.spawn(&caller, request::of_config(config)?).await?;
    Ok((created(spawned.created), Json(AgentHandle::of(&spawned.agent))))
}

/// One agent.
#[utoipa::path(
    get, path = "/api/agents/{id}", tag = "parallax",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "The agent", body = AgentHandle))
)]
pub async fn get(State(daemon): State<Daemon>, caller: Caller, id: Id) -> Result<Json<AgentHandle>, Fault> {
    Ok(Json(AgentHandle::of(&daemon.supervisor.get(&caller, id.as_str())?)))
}

/// Stops an agent, and waits for its end. It stays listed as `stopped`.
#[utoipa::path(
    delete, path = "/api/agents/{id}", tag = "parallax",
    params(
        ("id" = String, Path, description = "The agent"),
        ("force" = Option<String>, Query, description = "`true`: at once"),
        ("timeout" = Option<u64>, Query, description = "Milliseconds between SIGTERM and the end of its whole cgroup; 5000 if not given")
    ),
    responses((status = 204, description = "It has ended"))
)]
pub async fn stop(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    query: Query,
) -> Result<StatusCode, Fault> {
    let stop = request::stop(query.one("force") == Some("true"), query.number("timeout")?);
    daemon.supervisor.stop(&caller, id.as_str(), stop).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Starts an agent anew.
#[utoipa::path(
    post, path = "/api/agents/{id}/restart", tag = "parallax",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "Started anew", body = AgentHandle), (status = 409, description = "It cannot be now", body = crate::api::Problem))
)]
pub async fn restart(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
) -> Result<Json<AgentHandle>, Fault> {
    Ok(Json(AgentHandle::of(&daemon.supervisor.restart(&caller, id.as_str()).await?)))
}

/// Types a message. With `expectResponse` it answers with the turn's output.
#[utoipa::path(
    post, path = "/api/agents/{id}/send", tag = "parallax",
    params(("id" = String, Path, description = "The agent")),
    request_body = SendInput,
    responses((status = 200, description = "Typed", body = SendAnswer), (status = 409, description = "It cannot be typed to now", body = crate::api::Problem),
        (status = 504, description = "No answer in time", body = crate::api::Problem))
)]
pub async fn send(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    Body(input): Body<SendInput>,
) -> Result<Json<SendAnswer>, Fault> {
    let message = input.message.filter(|message| !message.is_empty());
    let message = message.ok_or_else(|| Fault::malformed_field("message", "message is missing"))?;
    let timeout = input.timeout.filter(|timeout| *timeout > 0).unwrap_or(LONGEST_ANSWER).min(LONGEST_ANSWER);
    let wait = input.expect_response;
    let send = Send { message, wait, timeout_ms: Some(timeout), queue: true, ..Send::default() };
    let sent = daemon.supervisor.send(&caller, id.as_str(), send).await?;
    let response = sent.response.map(|content| {
        let about = json!({ "inReplyTo": sent.id });
        AgentMessage::outbound(format!("{}-response", sent.id), id.as_str(), "response", content, Some(about))
    });
    Ok(Json(SendAnswer { sent: true, response }))
}

/// The last lines of an agent's terminal, without escape codes.
#[utoipa::path(
    get, path = "/api/agents/{id}/logs", tag = "parallax",
    params(("id" = String, Path, description = "The agent"), ("tail" = Option<usize>, Query, description = "So many; 100 if not given")),
    responses((status = 200, description = "The lines", body = Logs))
)]
pub async fn logs(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    query: Query,
) -> Result<Json<Logs>, Fault> {
    Ok(Json(last_lines(&daemon, &caller, &id, &query).await?))
}

/// The last lines that this query asks for.
///
/// # Errors
/// 404, 400, 500
pub async fn last_lines(daemon: &Daemon, caller: &Caller, id: &Id, query: &Query) -> Result<Logs, Fault> {
    let tail = query.number("tail")?.unwrap_or(TAIL);
    let terminal = daemon.supervisor.terminal(caller, id.as_str())?;
    let lines = terminal.lines(Some(tail), None).await.map_err(unreadable)?;
    let logs: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    Ok(Logs { count: logs.len(), logs })
}

/// What an agent uses.
#[utoipa::path(
    get, path = "/api/agents/{id}/metrics", tag = "parallax",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "Now", body = Metrics))
)]
pub async fn metrics(State(daemon): State<Daemon>, caller: Caller, id: Id) -> Result<Json<Metrics>, Fault> {
    let stats = daemon.supervisor.stats(&caller, id.as_str()).await?;
    let cpu = daemon.parallax.cpu_percent(&stats);
    Ok(Json(Metrics { cpu, memory: stats.memory, uptime: stats.uptime }))
}

/// Removes what has ended of an execution: its agents, its threads. What runs goes on.
#[utoipa::path(
    delete, path = "/api/executions/{id}/resources", tag = "parallax",
    params(("id" = String, Path, description = "The execution")),
    responses((status = 204, description = "Nothing of it is left that has ended"))
)]
pub async fn cleanup(
    State(daemon): State<Daemon>,
    caller: Caller,
    axum::extract::Path(execution): axum::extract::Path<String>,
) -> Result<StatusCode, Fault> {
    for agent in daemon.supervisor.list(&caller) {
        if agent.state.is_final() && agent.labels.get(EXECUTION) == Some(&execution) {
            match daemon.supervisor.remove(&caller, &agent.id).await {
                Ok(()) => daemon.parallax.threads.remove(&agent.id),
                // Somebody else was quicker.
                Err(crate::daemon::supervisor::SupervisorError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
