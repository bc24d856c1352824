//! `GET /v1/audit`: the log as it stands in the files, byte for byte, so that what was read can be verified.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::Audit;
use crate::api::node::Rotated;
use crate::audit::Reader;
use crate::daemon::Daemon;
use crate::daemon::api::query::Query;
use crate::daemon::api::stream;
use crate::daemon::api::tail::{Lines, Tail};
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;
use crate::daemon::supervisor::SupervisorError;

/// The audit log, one record a line. What comes out of it can be verified like the files: `stockade audit verify FILE`.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit",
    params(
        ("since" = Option<u64>, Query, description = "Only records after this number"),
        ("tail" = Option<u64>, Query, description = "Only so many of the past"),
        ("follow" = Option<bool>, Query, description = "Go on with what comes")
    ),
    responses((status = 200, description = "docs/audit.md describes a record", body = String, content_type = "application/x-ndjson"))
)]
pub async fn tail(
    State(daemon): State<Daemon>,
    watch: ConnectionWatch,
    query: Query,
) -> Result<Response, Fault> {
    query.only(&["since", "tail", "follow"])?;
    let (since, tail, follow) = (query.number("since")?, query.number::<u64>("tail")?, query.flag("follow")?);
    if since.is_some() && tail.is_some() {
        return Err(Fault::malformed_field("tail", "tail: since and tail exclude each other"));
    }
    let audit = daemon.supervisor.audit().clone();
    let end = audit.end().await;
    let Audit { dir, synced, .. } = audit;
    let since = since.or(tail.map(|tail| end.saturating_sub(tail))).unwrap_or(0);
    // What is written while this is read belongs to whoever follows.
    let until = (!follow).then_some(end);
    let records = Tail::new(Reader::new(dir, since), synced, until, |lines| lines);
    Ok(stream::answer("application/x-ndjson", watch, records))
}

/// From now on another key signs the audit log. The old one vouches for it in a record, and is gone.
#[utoipa::path(
    post, path = "/v1/audit/rotate-key", tag = "audit",
    responses((status = 200, description = "It does", body = Rotated))
)]
pub async fn rotate_key(State(daemon): State<Daemon>, _caller: Caller) -> Result<Json<Rotated>, Fault> {
    let audit = daemon.supervisor.audit().clone();
    let record = audit.rotate_key().await.map_err(SupervisorError::from)?;
    let head = tokio::task::spawn_blocking(move || audit.head()).await.ok().and_then(Result::ok).flatten();
    Ok(Json(Rotated { record, key_id: head.map(|seal| seal.key_id) }))
}

impl Lines for Reader {
    fn lines(&mut self, synced: u64, most: usize) -> std::io::Result<Vec<u8>> {
        self.lines(synced, most)
    }
}
