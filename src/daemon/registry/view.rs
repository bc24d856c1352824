//! The registry, for whoever asks the service.

use axum::Json;
use axum::extract::State;

use crate::daemon::Daemon;
use crate::daemon::authz::{Caller, Endpoint, Routes};
use crate::registry::View;

/// Its route.
pub fn routes() -> Routes {
    Routes::new().on(Endpoint::Registry, registry)
}

/// What this node registers: itself, and those of the caller's agents that are usable.
#[utoipa::path(get, path = "/v1/registry", tag = "node", responses((status = 200, description = "The registry", body = View)))]
pub async fn registry(State(daemon): State<Daemon>, caller: Caller) -> Json<View> {
    Json(daemon.registry.view(|tenant| caller.sees(tenant)))
}
