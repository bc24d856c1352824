//! The minimal face, as the user first asked for it: `/spawn`, `/stop`, `/agents`, `/agents/{id}/logs`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::agents::created;
use super::body::{Body, Id};
use super::logs;
use super::query::Query;
use crate::daemon::Daemon;
use crate::daemon::authz::Caller;
use crate::daemon::parallax::agents::Logs;
use crate::daemon::parallax::handle::{AgentHandle, AgentList};
use crate::daemon::parallax::{agents as parallax, request};
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;

/// `POST /spawn`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeedSpawn {
    /// The agent's id.
    pub agent_id: String,
    /// `claude`, `codex`, `gemini`, `aider`, `shell`, `custom`.
    pub agent_type: String,
    /// The node's workspace of this name, made if it is missing.
    #[serde(default)]
    pub workspace_id: Option<String>,
    /// What it says it can do.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A directory of the node's, instead of `workspaceId`.
    #[serde(default)]
    pub workdir: Option<String>,
}

/// `POST /stop`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeedStop {
    /// The agent's id.
    pub agent_id: String,
    /// Kill it at once.
    #[serde(default)]
    pub force: bool,
    /// Milliseconds between SIGTERM and the end of its whole cgroup.
    #[serde(default)]
    pub timeout: Option<u64>,
}

/// Starts an agent. The same request again finds the same agent.
#[utoipa::path(
    post, path = "/spawn", tag = "minimal",
    request_body = SeedSpawn,
    responses((status = 201, description = "Started", body = AgentHandle), (status = 200, description = "It was there already", body = AgentHandle))
)]
pub async fn spawn(
    State(daemon): State<Daemon>,
    caller: Caller,
    Body(seed): Body<SeedSpawn>,
) -> Result<(StatusCode, Json<AgentHandle>), Fault> {
    let spawned = daemon.supervisor.spawn(&caller, request::of_seed(seed)?).await?;
    Ok((created(spawned.created), Json(AgentHandle::of(&spawned.agent))))
}

/// Stops an agent.
#[utoipa::path(
    post, path = "/stop", tag = "minimal",
    request_body = SeedStop,
    responses((status = 204, description = "It has ended"))
)]
pub async fn stop(
    State(daemon): State<Daemon>,
    caller: Caller,
    Body(seed): Body<SeedStop>,
) -> Result<StatusCode, Fault> {
    let id: crate::id::AgentId = seed
        .agent_id
        .parse()
        .map_err(|error| Fault::malformed_field("agentId", format_args!("agentId: {error}")))?;
    daemon.supervisor.stop(&caller, id.as_str(), request::stop(seed.force, seed.timeout)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The agents that the caller may see, as Parallax sees them.
#[utoipa::path(
    get, path = "/agents", tag = "minimal",
    params(
        ("type" = Option<String>, Query, description = "Only these kinds; several with commas or repeated"),
        ("status" = Option<String>, Query, description = "Only in these; several with commas or repeated"),
        ("role" = Option<String>, Query, description = "Only this role")
    ),
    responses((status = 200, description = "All of them", body = AgentList))
)]
pub async fn list(State(daemon): State<Daemon>, caller: Caller, query: Query) -> Json<AgentList> {
    Json(parallax::listed(&daemon, &caller, &query))
}

/// The last lines of an agent's terminal, as Parallax reads them; with `follow` text, line by line, until the agent ends.
#[utoipa::path(
    get, path = "/agents/{id}/logs", tag = "minimal",
    params(
        ("id" = String, Path, description = "The agent"),
        ("tail" = Option<usize>, Query, description = "Only the last lines, so many"),
        ("follow" = Option<bool>, Query, description = "Go on until the agent ends")
    ),
    responses((status = 200, description = "The lines", content((Logs = "application/json"), (String = "text/plain; charset=utf-8"))))
)]
pub async fn logs(
    State(daemon): State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    id: Id,
    query: Query,
) -> Result<Response, Fault> {
    query.only(&["tail", "follow"])?;
    if query.flag("follow")? {
        return logs::as_text(&daemon, &caller, id.as_str(), &query, watch).await;
    }
    Ok(Json(parallax::last_lines(&daemon, &caller, &id, &query).await?).into_response())
}
