//! Agents, from the request to the end: `/v1/agents`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::Value;

use super::body::{Body, Id, Perhaps};
use super::page::{self, page};
use super::query::Query;
use crate::api::agent::{Agent, AgentPage, Spawn, Stats, Stop};
use crate::api::login::{Login, LoginAnswer, LoginResult};
use crate::daemon::Daemon;
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;
use crate::daemon::supervisor;

const GRACE: Duration = Duration::from_secs(5);
const LONGEST_WAIT: u64 = 24 * 60 * 60 * 1000;

/// Starts an agent. The same request again finds the same agent; another request under its id is a conflict.
#[utoipa::path(
    post, path = "/v1/agents", tag = "agents",
    request_body = Spawn,
    responses((status = 201, description = "Started", body = Agent), (status = 200, description = "It was there already", body = Agent))
)]
pub async fn spawn(
    State(daemon): State<Daemon>,
    caller: Caller,
    Body(request): Body<Spawn>,
) -> Result<(StatusCode, Json<Agent>), Fault> {
    let spawned = daemon.supervisor.spawn(&caller, request).await?;
    Ok((created(spawned.created), Json(spawned.agent)))
}

/// 201 for what is new, 200 for what was there.
pub fn created(new: bool) -> StatusCode {
    if new { StatusCode::CREATED } else { StatusCode::OK }
}

/// The agents that the caller may see, in order of their ids.
#[utoipa::path(
    get, path = "/v1/agents", tag = "agents",
    params(
        ("type" = Option<String>, Query, description = "Only these kinds; several with commas or repeated"),
        ("status" = Option<String>, Query, description = "Only these states; several with commas or repeated"),
        ("label" = Option<String>, Query, description = "`key` or `key=value`; repeated: all of them"),
        ("limit" = Option<usize>, Query, description = "1 to 500, 100 if not given", minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query, description = "From the page before")
    ),
    responses((status = 200, description = "One page", body = AgentPage))
)]
pub async fn list(
    State(daemon): State<Daemon>,
    caller: Caller,
    query: Query,
) -> Result<Json<AgentPage>, Fault> {
    page(daemon.supervisor.list(&caller), query.only(page::PARAMETERS)?).map(Json)
}

/// One agent.
#[utoipa::path(
    get, path = "/v1/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "The agent", body = Agent))
)]
pub async fn get(State(daemon): State<Daemon>, caller: Caller, id: Id) -> Result<Json<Agent>, Fault> {
    Ok(Json(daemon.supervisor.get(&caller, id.as_str())?))
}

/// Removes an agent that has ended, with all that is kept of it. One that runs is a conflict, unless `force` ends it.
#[utoipa::path(
    delete, path = "/v1/agents/{id}", tag = "agents",
    params(
        ("id" = String, Path, description = "The agent"),
        ("force" = Option<bool>, Query, description = "Kill it first, if it runs")
    ),
    responses((status = 204, description = "Gone"), (status = 409, description = "It runs", body = crate::api::Problem))
)]
pub async fn remove(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    query: Query,
) -> Result<StatusCode, Fault> {
    if query.only(&["force"])?.flag("force")? {
        let at_once = supervisor::Stop { grace: Duration::ZERO, wait: true };
        daemon.supervisor.stop(&caller, id.as_str(), at_once).await?;
    }
    daemon.supervisor.remove(&caller, id.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stops an agent: SIGTERM now, its whole cgroup killed once the grace period is over. Of one that has ended: nothing.
#[utoipa::path(
    post, path = "/v1/agents/{id}/stop", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    request_body(content = Stop, description = "Nothing at all: as `{}`"),
    responses((status = 202, description = "It is being stopped", body = Agent), (status = 200, description = "It has ended", body = Agent))
)]
pub async fn stop(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    Perhaps(request): Perhaps<Stop>,
) -> Result<(StatusCode, Json<Agent>), Fault> {
    let grace = request.grace_ms.map_or(GRACE, Duration::from_millis);
    let stop =
        supervisor::Stop { grace: if request.force { Duration::ZERO } else { grace }, wait: request.wait };
    let agent = daemon.supervisor.stop(&caller, id.as_str(), stop).await?;
    Ok((over(&agent), Json(agent)))
}

/// 200 for what has ended, 202 for what has not yet.
fn over(agent: &Agent) -> StatusCode {
    if agent.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED }
}

/// Starts an agent anew, as it was asked for; stops it first if it runs.
#[utoipa::path(
    post, path = "/v1/agents/{id}/restart", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "Started anew", body = Agent), (status = 409, description = "It cannot be now", body = crate::api::Problem))
)]
pub async fn restart(State(daemon): State<Daemon>, caller: Caller, id: Id) -> Result<Json<Agent>, Fault> {
    Ok(Json(daemon.supervisor.restart(&caller, id.as_str()).await?))
}

/// Waits until an agent has ended.
#[utoipa::path(
    get, path = "/v1/agents/{id}/wait", tag = "agents",
    params(
        ("id" = String, Path, description = "The agent"),
        ("timeoutMs" = Option<u64>, Query, description = "At most so long; 30000 if not given", maximum = 86_400_000)
    ),
    responses((status = 200, description = "It has ended", body = Agent), (status = 202, description = "It has not yet", body = Agent))
)]
pub async fn wait(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    query: Query,
) -> Result<(StatusCode, Json<Agent>), Fault> {
    let timeout = query.only(&["timeoutMs"])?.number("timeoutMs")?.unwrap_or(30_000u64).min(LONGEST_WAIT);
    let ended = daemon.supervisor.wait(&caller, id.as_str(), Duration::from_millis(timeout)).await?;
    let agent = match ended {
        Some(agent) => agent,
        None => daemon.supervisor.get(&caller, id.as_str())?,
    };
    Ok((over(&agent), Json(agent)))
}

/// What was enforced, as it was read back from the kernel.
#[utoipa::path(
    get, path = "/v1/agents/{id}/attestation", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "As in the report of `stockade run`", body = Value))
)]
pub async fn attestation(State(daemon): State<Daemon>, caller: Caller, id: Id) -> Result<Json<Value>, Fault> {
    Ok(Json(daemon.supervisor.attestation(&caller, id.as_str())?))
}

/// What an agent uses.
#[utoipa::path(
    get, path = "/v1/agents/{id}/stats", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "Now", body = Stats))
)]
pub async fn stats(State(daemon): State<Daemon>, caller: Caller, id: Id) -> Result<Json<Stats>, Fault> {
    Ok(Json(daemon.supervisor.stats(&caller, id.as_str()).await?))
}

/// The login that an agent waits for.
#[utoipa::path(
    get, path = "/v1/agents/{id}/login", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "Where to go, and what to type there", body = Login))
)]
pub async fn login(State(daemon): State<Daemon>, caller: Caller, id: Id) -> Result<Json<Login>, Fault> {
    let agent = daemon.supervisor.get(&caller, id.as_str())?;
    let none = || Fault::not_found("no-login", format_args!("agent {} waits for no login", agent.id));
    agent.login.clone().map(Json).ok_or_else(none)
}

/// Completes the login that an agent waits for: types a code where it asks for one, or delivers what the browser was sent
/// to, and could not reach, to the port inside that waits for it. Answers with what came of it. Neither is logged.
#[utoipa::path(
    post, path = "/v1/agents/{id}/login", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    request_body = LoginAnswer,
    responses((status = 200, description = "Handed over; the outcome says what came of it", body = LoginResult),
        (status = 409, description = "It waits for no login, or for none that is completed so", body = crate::api::Problem),
        (status = 422, description = "Not what this login waits for", body = crate::api::Problem))
)]
pub async fn log_in(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    Body(answer): Body<LoginAnswer>,
) -> Result<Json<LoginResult>, Fault> {
    Ok(Json(daemon.supervisor.log_in(&caller, id.as_str(), answer).await?))
}
