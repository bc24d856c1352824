//! For whoever runs the node: whether the daemon lives, whether it is ready, and what it counts.

pub mod metrics;
pub mod scrape;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::Daemon;
use super::audit::sinks;
use super::authz::{Endpoint, Routes};
pub use metrics::{Handshake, Metrics};

/// Liveness, readiness, metrics.
pub fn routes() -> Routes {
    probes().on(Endpoint::Metrics, metrics)
}

/// Those that the listener without TLS has, too.
pub fn probes() -> Routes {
    Routes::new().on(Endpoint::Livez, livez).on(Endpoint::Readyz, readyz)
}

/// `GET /readyz`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Whether agents can be started and reached.
    pub ready: bool,
    /// What that is made of.
    pub checks: Vec<Check>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// `launcher`, `certificates`, `configuration`, `draining`, `registry`.
    pub name: &'static str,
    /// Whether all is well.
    pub ok: bool,
    /// What is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Check {
    fn of(name: &'static str, wrong: Option<String>) -> Self {
        Self { name, ok: wrong.is_none(), detail: wrong }
    }
}

/// That it answers is the answer.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(daemon): State<Daemon>) -> Response {
    let node = daemon.supervisor.node();
    let expired = daemon.live.material().valid_until <= std::time::SystemTime::now();
    let launcher = "the launcher does not answer: no agent can be started";
    let certificates = "a client CA or a CRL is out of date: nobody new is let in";
    let draining = "the node takes no new agents";
    let told = |wrong: bool, detail: &str| wrong.then(|| detail.to_owned());
    let checks = vec![
        Check::of("launcher", told(!node.launcher, launcher)),
        Check::of("certificates", told(expired, certificates)),
        Check::of("draining", told(node.draining, draining)),
        Check::of("configuration", daemon.live.status().error.clone()),
        Check::of("registry", daemon.registry.status().borrow().trouble.clone()),
        Check::of("audit-sinks", sinks_in_trouble(&daemon)),
    ];
    // What was in force before a mistake in the configuration still is, and agents work without a registry: that is to
    // be seen, but nothing to fail for.
    let ready = checks
        .iter()
        .all(|check| check.ok || ["configuration", "registry", "audit-sinks"].contains(&check.name));
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, checks })).into_response()
}

/// What is not delivered waits in the files.
fn sinks_in_trouble(daemon: &Daemon) -> Option<String> {
    let sinks = daemon.supervisor.audit().sinks();
    let in_trouble = sinks.into_iter().filter_map(|(status, lag)| {
        let sinks::Status { name, trouble, .. } = status;
        Some(format!("{name} is {lag} records behind: {}", trouble?))
    });
    let all: Vec<String> = in_trouble.collect();
    (!all.is_empty()).then(|| all.join("; "))
}

async fn metrics(State(daemon): State<Daemon>) -> Response {
    let text = scrape::text(&daemon);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
