//! `/api/threads`: agents that a workflow drives turn by turn.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::bus::Envelope;
use super::handle::{self, ThreadHandle, ThreadList};
use super::request::{self, SpawnThreadInput, Thread};
use super::store::Record;
use super::{agents::SendAnswer, output};
use crate::api::agent::Send;
use crate::daemon::Daemon;
use crate::daemon::api::agents::created;
use crate::daemon::api::body::{Body, Id};
use crate::daemon::api::input::{MOST_KEYS, type_in};
use crate::daemon::api::keys;
use crate::daemon::api::query::Query;
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;

/// `POST /api/threads/{id}/send`: at least one of them.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
pub struct ThreadInput {
    /// A turn: typed and submitted.
    pub message: Option<String>,
    /// Typed as it is.
    pub raw: Option<String>,
    /// Keys by name, `enter`, `ctrl+c`; unknown names are typed as they are.
    pub keys: Option<Vec<String>>,
    /// Left out of account.
    pub metadata: Option<Value>,
}

/// The threads that the caller may see.
#[utoipa::path(
    get, path = "/api/threads", tag = "parallax",
    params(
        ("executionId" = Option<String>, Query, description = "Only this one's"),
        ("role" = Option<String>, Query, description = "Only this role"),
        ("status" = Option<String>, Query, description = "Only in these; several with commas or repeated"),
        ("agentType" = Option<String>, Query, description = "Only these; several with commas or repeated")
    ),
    responses((status = 200, description = "All of them", body = ThreadList))
)]
pub async fn list(State(daemon): State<Daemon>, caller: Caller, query: Query) -> Json<ThreadList> {
    let records = daemon.parallax.threads.all();
    let seen = records.iter().filter(|record| caller.sees(&record.tenant));
    let handles = seen.map(|record| shown(&daemon, record)).filter(|thread| wanted(thread, &query));
    let threads: Vec<ThreadHandle> = handles.collect();
    Json(ThreadList { count: threads.len(), threads })
}

fn wanted(thread: &ThreadHandle, query: &Query) -> bool {
    let any = |wanted: Vec<String>, given: &str| wanted.is_empty() || wanted.iter().any(|w| w == given);
    let same = |name: &str, given: Option<&str>| {
        query.one(name).filter(|wanted| !wanted.is_empty()).is_none_or(|wanted| given == Some(wanted))
    };
    same("executionId", Some(&thread.execution_id))
        && same("role", thread.role.as_deref())
        && any(query.list("status"), &thread.status)
        && any(query.list("agentType"), &thread.agent_type)
}

fn shown(daemon: &Daemon, record: &Record) -> ThreadHandle {
    let agent = daemon.supervisor.get(&daemon.parallax.eye, &record.id).ok();
    // A record may outlive its agent for a moment, and another tenant's may have taken the id.
    let agent = agent.filter(|agent| agent.tenant == record.tenant);
    record.handle(agent.as_ref(), &daemon.parallax.runtime_name)
}

fn record(daemon: &Daemon, caller: &Caller, id: &Id) -> Result<Record, Fault> {
    let record = daemon.parallax.threads.get(id.as_str()).filter(|record| caller.sees(&record.tenant));
    let none = || Fault::not_found("thread-not-found", format_args!("there is no thread {}", id.as_str()));
    record.ok_or_else(none)
}

/// Starts a thread. Answers before it is ready: that is an event. The same request again finds the same thread.
#[utoipa::path(
    post, path = "/api/threads", tag = "parallax",
    request_body = SpawnThreadInput,
    responses((status = 201, description = "Started", body = ThreadHandle), (status = 200, description = "It was there already", body = ThreadHandle))
)]
pub async fn spawn(
    State(daemon): State<Daemon>,
    caller: Caller,
    Body(input): Body<SpawnThreadInput>,
) -> Result<(StatusCode, Json<ThreadHandle>), Fault> {
    let (role, metadata) = (input.role.clone(), input.metadata.clone());
    let thread = request::of_thread(input)?;
    let id = thread.id.to_string();
    let (spawn, record) = recorded(thread, &caller, role, metadata);
    let kept = |error| Fault::internal(format_args!("the record of thread {id} cannot be written: {error}"));
    // Before the agent: what it says first must find its thread.
    let mut added = daemon.parallax.threads.add(record.clone()).map_err(kept)?;
    // However long it takes: until this is answered its execution spawns.
    let _spawning = daemon.parallax.spawns.begin(&record);
    let spawned = match daemon.supervisor.spawn(&caller, spawn).await {
        Ok(spawned) => spawned,
        Err(error) => {
            if added {
                daemon.parallax.threads.remove(&id);
            }
            return Err(error.into());
        }
    };
    if spawned.created {
        // Of an agent that was there before under this id, and perhaps another tenant's, nothing is left but its record.
        added |= daemon.parallax.threads.renew(record, added).map_err(kept)?;
    }
    let Some(record) = daemon.parallax.threads.get(&id).filter(|record| caller.sees(&record.tenant)) else {
        return Err(Fault::conflict(
            "wrong-state",
            format_args!("thread {id} was removed while it was started"),
        ));
    };
    let handle = record.handle(Some(&spawned.agent), &daemon.parallax.runtime_name);
    if added {
        let started = Envelope::of_thread(&record.tenant, &handle, "thread_started", None);
        daemon.parallax.bus.publish(started);
        output::follow(&daemon.parallax, &record);
    }
    Ok((created(spawned.created), Json(handle)))
}

fn recorded(
    thread: Thread,
    caller: &Caller,
    role: Option<String>,
    metadata: Option<Value>,
) -> (crate::api::Spawn, Record) {
    let now = handle::now();
    let record = Record {
        id: thread.id.to_string(),
        tenant: caller.tenant.to_string(),
        execution_id: thread.execution,
        name: thread.name,
        agent_type: thread.kind,
        objective: thread.objective,
        role,
        workspace: thread.workspace,
        metadata,
        created_at: now.clone(),
        updated_at: now,
        ready: false,
        asked_to_stop: false,
        ended: false,
        summary: None,
        completion: None,
    };
    (thread.spawn, record)
}

/// One thread.
#[utoipa::path(
    get, path = "/api/threads/{id}", tag = "parallax",
    params(("id" = String, Path, description = "The thread")),
    responses((status = 200, description = "The thread", body = ThreadHandle))
)]
pub async fn get(State(daemon): State<Daemon>, caller: Caller, id: Id) -> Result<Json<ThreadHandle>, Fault> {
    Ok(Json(shown(&daemon, &record(&daemon, &caller, &id)?)))
}

/// Stops a thread, and waits for its end. It stays listed as `stopped`.
#[utoipa::path(
    delete, path = "/api/threads/{id}", tag = "parallax",
    params(
        ("id" = String, Path, description = "The thread"),
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
    let record = record(&daemon, &caller, &id)?;
    if !record.ended {
        daemon.parallax.threads.change(&record.id, |record| record.asked_to_stop = true);
    }
    daemon.supervisor.stop(&caller, id.as_str(), stop).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Types into a thread: a message is a turn, `raw` and `keys` are typed as they are.
#[utoipa::path(
    post, path = "/api/threads/{id}/send", tag = "parallax",
    params(("id" = String, Path, description = "The thread")),
    request_body = ThreadInput,
    responses((status = 200, description = "Typed", body = SendAnswer), (status = 409, description = "It cannot be typed to now", body = crate::api::Problem))
)]
pub async fn send(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    Body(input): Body<ThreadInput>,
) -> Result<Json<SendAnswer>, Fault> {
    record(&daemon, &caller, &id)?;
    if input.keys.as_ref().is_some_and(|keys| keys.len() > MOST_KEYS) {
        return Err(Fault::unprocessable("keys", format_args!("keys: at most {MOST_KEYS} at once")));
    }
    let typed = typed(&input);
    let message = input.message.filter(|message| !message.is_empty());
    if message.is_none() && typed.is_empty() {
        return Err(Fault::malformed_field("message", "message is missing: give message, raw or keys"));
    }
    if !typed.is_empty() {
        type_in(&daemon, &caller, id.as_str(), typed).await?;
    }
    if let Some(message) = message {
        let send = Send { message, queue: true, ..Send::default() };
        daemon.supervisor.send(&caller, id.as_str(), send).await?;
    }
    Ok(Json(SendAnswer { sent: true, response: None }))
}

fn typed(input: &ThreadInput) -> Vec<Bytes> {
    let raw = input.raw.iter().filter(|raw| !raw.is_empty());
    let raw = raw.map(|raw| Bytes::copy_from_slice(raw.as_bytes()));
    let keys = input.keys.iter().flatten().filter(|key| !key.is_empty());
    raw.chain(keys.map(|key| keys::bytes(key).unwrap_or_else(|| key.clone().into_bytes()).into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_none_are_typed_as_they_stand() {
        let keys = Some(vec!["ctrl+c".to_owned(), "hello".to_owned(), "Enter".to_owned()]);
        let input = ThreadInput { raw: Some("x".into()), keys, ..ThreadInput::default() };
        assert_eq!(typed(&input), [&b"x"[..], b"\x03", b"hello", b"\r"]);
    }
}
