//! `GET /v1/audit`: the log as it stands in the files, byte for byte, so that what was read can be verified.

use std::io;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::watch;

use super::Audit;
use crate::api::node::Rotated;
use crate::audit::Reader;
use crate::daemon::Daemon;
use crate::daemon::api::query::Query;
use crate::daemon::api::stream::{self, Source};
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;
use crate::daemon::supervisor::SupervisorError;

/// One piece, about.
const PIECE: usize = 64 * 1024;

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
    let Audit { dir, synced, .. } = daemon.supervisor.audit().clone();
    let end = *synced.borrow();
    let since = match (query.number("since")?, query.number::<u64>("tail")?) {
        (Some(_), Some(_)) => {
            return Err(Fault::malformed_field("tail", "tail: since and tail exclude each other"));
        }
        (Some(since), None) => since,
        (None, Some(tail)) => end.saturating_sub(tail),
        (None, None) => 0,
    };
    // What is written while this is read belongs to whoever follows.
    let until = if query.flag("follow")? { None } else { Some(end) };
    let records = Records { reader: Some(Reader::new(dir, since)), synced, until };
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

struct Records {
    reader: Option<Reader>,
    synced: watch::Receiver<u64>,
    /// The last record; none: whatever comes.
    until: Option<u64>,
}

impl Source for Records {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let synced = *self.synced.borrow_and_update();
            let synced = self.until.map_or(synced, |until| until.min(synced));
            let Some(mut reader) = self.reader.take() else { return Ok(None) };
            let read = tokio::task::spawn_blocking(move || {
                let lines = reader.lines(synced, PIECE);
                (reader, lines)
            });
            let (reader, lines) = read.await.map_err(io::Error::other)?;
            self.reader = Some(reader);
            let lines = lines?;
            if !lines.is_empty() {
                return Ok(Some(lines.into()));
            }
            // Once the log is closed, nothing more comes.
            if self.until.is_some() || self.synced.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}
