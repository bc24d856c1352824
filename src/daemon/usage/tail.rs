//! `GET /v1/usage`: the records as they stand in the log, of the tenants that the caller may see.

use axum::extract::State;
use axum::response::Response;

use super::Usage;
use super::log::Reader;
use crate::api::usage::Record;
use crate::daemon::Daemon;
use crate::daemon::api::query::Query;
use crate::daemon::api::stream;
use crate::daemon::api::tail::{Lines, Tail};
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;

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
    let (tenant, agent) = (query.one("tenant").map(str::to_owned), query.one("agent").map(str::to_owned));
    let (log, synced) = (Reader::new(usage.shared.dir.clone(), since), usage.synced.clone());
    let seen = Seen { caller, tenant, agent, _open: usage };
    let records = Tail::new(log, synced, until, move |lines| seen.of(&lines));
    Ok(stream::answer("application/x-ndjson", watch, records))
}

/// What is asked for, of what the caller may see.
struct Seen {
    caller: Caller,
    tenant: Option<String>,
    agent: Option<String>,
    /// The log is written as long as somebody follows it.
    _open: Usage,
}

impl Seen {
    fn of(&self, lines: &[u8]) -> Vec<u8> {
        let is_wanted = |line: &&[u8]| {
            let Ok(Record { subject, data, .. }) = serde_json::from_slice(line) else { return false };
            self.caller.sees(&data.tenant)
                && self.tenant.as_ref().is_none_or(|tenant| *tenant == data.tenant)
                && self.agent.as_ref().is_none_or(|agent| *agent == subject)
        };
        lines.split_inclusive(|byte| *byte == b'\n').filter(is_wanted).flatten().copied().collect()
    }
}

impl Lines for Reader {
    fn lines(&mut self, synced: u64, most: usize) -> std::io::Result<Vec<u8>> {
        self.lines(synced, most)
    }
}
