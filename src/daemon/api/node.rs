//! The node: what it is, what it allows, and that it takes nothing new any more.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::body::Perhaps;
use crate::api::node::{Node, PolicySummary};
use crate::api::screen::Drain;
use crate::daemon::Daemon;
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;
use crate::policy::Reference;

/// The node.
#[utoipa::path(get, path = "/v1/node", tag = "node", responses((status = 200, description = "The node", body = Node)))]
pub async fn node(State(daemon): State<Daemon>, caller: Caller) -> Json<Node> {
    Json(daemon.supervisor.node_for(&caller))
}

/// From now on the node takes no new agents; with `stop` those that run are stopped.
#[utoipa::path(
    post, path = "/v1/node/drain", tag = "node",
    request_body(content = Drain, description = "Nothing at all: as `{}`"),
    responses((status = 202, description = "It drains", body = Node))
)]
pub async fn drain(
    State(daemon): State<Daemon>,
    _caller: Caller,
    Perhaps(drain): Perhaps<Drain>,
) -> Result<(StatusCode, Json<Node>), Fault> {
    daemon.supervisor.drain(drain.stop).await?;
    Ok((StatusCode::ACCEPTED, Json(daemon.supervisor.node())))
}

/// The policies of the node that can be loaded.
#[utoipa::path(
    get, path = "/v1/policies", tag = "node",
    responses((status = 200, description = "In order of their names", body = Vec<PolicySummary>))
)]
pub async fn policies(State(daemon): State<Daemon>, _caller: Caller) -> Json<Vec<PolicySummary>> {
    let library = daemon.policies.as_ref();
    let summaries = library.names().into_iter().filter_map(|(name, source)| {
        let policy = library.load(&Reference::Name(name.clone())).ok()?;
        Some(PolicySummary {
            name: name.to_string(),
            description: policy.description,
            source: source.to_string(),
        })
    });
    Json(summaries.collect())
}
