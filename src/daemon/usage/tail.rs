//! `GET /v1/usage`: the records as they stand in the log, of the tenants that the caller may see.

use std::io;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::watch;

use super::Usage;
use super::log::Reader;
use crate::api::usage::Record;
use crate::daemon::Daemon;
use crate::daemon::api::query::Query;
use crate::daemon::api::stream::{self, Source};
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;

/// One piece, about.
const PIECE: usize = 64 * 1024;

/// What agents have used, one CloudEvents 1.0 record a line. Whoever remembers the last `sequence` goes on without a gap.
#[utoipa::path(
    get, path = "/v1/usage", tag = "usage",
    params(
        ("since" = Option<u64>, Query, description = "Only records after this `sequence`"),
        ("tenant" = Option<String>, Query, description = "Only this one's; others than the caller's are for administrators"),
        ("agent" = Option<String>, Query, description = "Only this one's"),
        ("follow" = Option<bool>, Query, description = "Go on with what comes")
    ),
    responses((status = 200, description = "docs/usage.md describes a record", body = Record, content_type = "application/x-ndjson"))
)]
pub async fn tail(
    State(daemon): State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    query: Query,
) -> Result<Response, Fault> {
    query.only(&["since", "tenant", "agent", "follow"])?;
    let usage = daemon.supervisor.usage().clone();
    let since = query.number("since")?.unwrap_or(0);
    let until = if query.flag("follow")? { None } else { Some(*usage.synced.borrow()) };
    let records = Records {
        reader: Some(Reader::new(usage.shared.dir.clone(), since)),
        synced: usage.synced.clone(),
        _open: usage,
        until,
        caller,
        tenant: query.one("tenant").map(str::to_owned),
        agent: query.one("agent").map(str::to_owned),
    };
    Ok(stream::answer("application/x-ndjson", watch, records))
}

struct Records {
    reader: Option<Reader>,
    synced: watch::Receiver<u64>,
    _open: Usage,
    /// The last record; none: whatever comes.
    until: Option<u64>,
    caller: Caller,
    tenant: Option<String>,
    agent: Option<String>,
}

impl Records {
    fn wanted(&self, lines: &[u8]) -> Vec<u8> {
        let is_wanted = |line: &&[u8]| {
            let Ok(Record { subject, data, .. }) = serde_json::from_slice(line) else { return false };
            self.caller.sees(&data.tenant)
                && self.tenant.as_ref().is_none_or(|tenant| *tenant == data.tenant)
                && self.agent.as_ref().is_none_or(|agent| *agent == subject)
        };
        lines.split_inclusive(|byte| *byte == b'\n').filter(is_wanted).flatten().copied().collect()
    }
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
            let wanted = self.wanted(&lines);
            if !wanted.is_empty() {
                return Ok(Some(wanted.into()));
            }
            let is_all = lines.is_empty();
            if is_all && (self.until.is_some() || self.synced.changed().await.is_err()) {
                return Ok(None);
            }
        }
    }
}
