//! How agents come into being: asked for, or found again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::agent::{Agent, Begin, Handle, Outcome};
use super::delivery::{self, answers::Leave, book::Book};
use super::quota::Asker;
use super::shared::Shared;
use super::times::now;
use super::{Result, Spawned, SupervisorError, quota, request};
use crate::agents::Launch;
use crate::api::agent::{Size, Spawn};
use crate::audit::Digest;
use crate::daemon::audit::facts;
use crate::daemon::authz::Caller;
use crate::daemon::quota::Claim;
use crate::daemon::store::Record;
use crate::daemon::terminal::{Extent, Terminal};
use crate::id::{AgentId, PolicyName};
use crate::policy::{self, Library, Policy, Reference};
use crate::wire::service::order::{self, Order, Workspace};
use crate::wire::service::places;

/// How many commands may wait for one agent's task.
const COMMANDS: usize = 16;

/// How long the agents that are found again may keep the others waiting.
const ADOPTION: Duration = Duration::from_secs(5);

pub(super) async fn spawn(shared: &Arc<Shared>, caller: &Caller, request: Spawn) -> Result<Spawned> {
    let id = request::id(&request)?;
    let policy = request::policy(&request)?;
    request::check(&request)?;
    let tenant = caller.tenant.as_str();
    let text = serde_json::to_vec(&(tenant, &request)).expect("a request is always JSON");
    let digest = shared.store.digest(&text);
    request::wipe(text);
    // A node that drains still answers for what is there.
    while let Some(there) = there(shared, &id) {
        match found(there.clone(), caller, &digest).await {
            // Now the id is free: whoever comes first takes it.
            Err(_) if matches!(*there.outcome.borrow(), Some(Outcome::CutShort)) => {}
            found => return found,
        }
    }
    if shared.is_draining() {
        return Err(SupervisorError::Draining);
    }
    let asker = Asker { tenant, identity: &caller.identity };
    let lifetime = lifetime(shared, &asker, request.lifetime)?;
    let in_force = load(shared, &policy);
    let record = record(shared, &id, caller, &policy, in_force.as_ref(), digest.clone(), &request);
    let order = prepared(shared, &id, tenant, request)?;
    let asked = (order.memory, order.millicpus, order.processes);
    let workspace = workspace(shared, tenant, &order.workspace);
    let intent = facts::spawn(&id, caller, &order, in_force.as_ref().and_then(hash));
    let order = request::seal(order)?;
    let record = Record {
        workspace,
        lifetime,
        memory: asked.0.unwrap_or(record.memory),
        millicpus: asked.1.unwrap_or(record.millicpus),
        processes: asked.2.map_or(record.processes, u64::from),
        ..record
    };

    let (handle, task) = prepare(shared, record.clone(), Extent::default());
    let there = {
        let mut agents = shared.agents();
        match agents.get(id.as_str()) {
            Some(there) => Some(there.clone()),
            None => {
                quota::check(shared, &agents, &asker, handle.claim)?;
                agents.insert(id.to_string(), handle.clone());
                None
            }
        }
    };
    // Of two at once one wins, and the other finds it.
    if let Some(there) = there {
        return found(there, caller, &digest).await;
    }
    if let Err(source) = shared.store.put(&record) {
        shared.agents().remove(id.as_str());
        handle.outcome.send_replace(Some(Outcome::Unanswered(source.kind(), source.to_string())));
        return Err(SupervisorError::Io { what: format!("cannot write the record of agent {id}"), source });
    }
    // A task of its own: it goes on when whoever asked has gone.
    tokio::spawn(task.run(Begin::Launch(order, Box::new(intent))));
    outcome(&handle).await?;
    Ok(Spawned { agent: handle.agent(), created: true })
}

/// The order, with what its kind needs to ask as little as it may: variables that the request does not set, and files for
/// a home that does not have them.
fn prepared(shared: &Shared, id: &AgentId, tenant: &str, mut request: Spawn) -> Result<Order> {
    let launch = match shared.kinds.load(&request.kind) {
        Ok(kind) => kind.launch,
        Err(error) => {
            // What it then asks, somebody answers.
            warn!(agent = %id, kind = request.kind, %error, "what is known of its kind cannot be used");
            Launch::default()
        }
    };
    let leave = Leave { answers: request.answers.clone(), workspace: None };
    let wanted = launch.files.iter().filter(|seed| match &seed.named {
        Some(name) => request.answers.iter().flatten().any(|named| named == name),
        None => seed.answers.is_none() || leave.allows_safe(),
    });
    let files = wanted.filter_map(|seed| Some((seed.path.clone(), seed.text(&request.env)?)));
    let seeds = files.map(|(path, content)| order::File { path, content, home: true }).collect();
    for (name, value) in launch.env {
        request.env.entry(name).or_insert(value);
    }
    request::order(id, tenant, request, shared.config.log_bytes, seeds)
}

/// How long it may run: as long as was asked for, and no longer than whoever asks may.
fn lifetime(shared: &Shared, asker: &Asker<'_>, asked: Option<u64>) -> Result<Option<u64>> {
    let Some(most) = quota::lifetime(shared, asker).map(|most| most.as_secs()) else { return Ok(asked) };
    match asked.filter(|asked| *asked > most) {
        None => Ok(asked.or(Some(most))),
        Some(asked) => {
            let tenant = asker.tenant;
            let detail =
                format!("{asked} s, and an agent that you start for tenant {tenant} runs {most} s at most");
            Err(SupervisorError::Field { field: "lifetime", detail, malformed: false })
        }
    }
}

fn there(shared: &Shared, id: &AgentId) -> Option<Arc<Handle>> {
    shared.agents().get(id.as_str()).cloned()
}

/// An agent of this id is there: the same request finds it, another one does not.
async fn found(handle: Arc<Handle>, caller: &Caller, digest: &str) -> Result<Spawned> {
    // One of another tenant's differs in the digest: all that is said is that the id is taken.
    if handle.tenant != caller.tenant.as_str() || handle.digest != digest {
        return Err(SupervisorError::Taken { id: handle.id.clone() });
    }
    outcome(&handle).await?;
    Ok(Spawned { agent: handle.agent(), created: false })
}

/// Waits for what the first start comes to.
async fn outcome(handle: &Handle) -> Result<()> {
    let mut outcome = handle.outcome.subscribe();
    let decided = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
    match decided.ok().flatten() {
        Some(Outcome::Started) => Ok(()),
        Some(Outcome::Refused(refusal)) => Err(refusal.into()),
        Some(Outcome::Unrecorded(unavailable)) => Err(unavailable.into()),
        Some(Outcome::Unanswered(kind, text)) => {
            Err(SupervisorError::Launcher { source: std::io::Error::new(kind, text) })
        }
        Some(Outcome::CutShort) | None => {
            Err(SupervisorError::Launcher { source: std::io::ErrorKind::BrokenPipe.into() })
        }
    }
}

fn record(
    shared: &Shared,
    id: &AgentId,
    caller: &Caller,
    policy: &PolicyName,
    in_force: Option<&Policy>,
    digest: String,
    request: &Spawn,
) -> Record {
    let size = request.size.unwrap_or(request::SIZE);
    let claim = in_force.map_or_else(Claim::default, claim);
    Record {
        id: id.to_string(),
        name: request.name.clone().unwrap_or_else(|| id.to_string()),
        kind: request.kind.clone(),
        tenant: caller.tenant.to_string(),
        owner: caller.identity.clone(),
        policy: policy.to_string(),
        digest,
        labels: request.labels.clone(),
        capabilities: request.capabilities.clone(),
        workspace: None,
        home: request.home.clone(),
        memory: claim.memory,
        millicpus: claim.millicpus,
        processes: claim.processes,
        size: order::Size { cols: size.cols, rows: size.rows },
        auto_restart: request.auto_restart,
        idle_timeout: request.idle_timeout,
        lifetime: request.lifetime,
        created: now(),
        started: None,
        restarts: 0,
        boot: shared.boot.clone(),
        verdict: None,
        told: None,
        answers: request.answers.clone(),
    }
}

/// What an agent of this policy may use at most. One that this process cannot read is the launcher's to refuse.
fn claim(policy: &Policy) -> Claim {
    Claim {
        memory: policy.limits.memory.get(),
        millicpus: policy.limits.cpus.millis().into(),
        processes: policy.limits.processes.into(),
    }
}

/// What is in force now under this name; an order may narrow it.
pub(super) fn policy_hash(shared: &Shared, policy: &PolicyName) -> Option<Digest> {
    hash(&load(shared, policy)?)
}

fn hash(policy: &Policy) -> Option<Digest> {
    policy::hash(policy).parse().ok()
}

fn load(shared: &Shared, policy: &PolicyName) -> Option<Policy> {
    let directories = ["etc/stockade/policies", "usr/lib/stockade/policies"];
    let library = Library::of(directories.map(|directory| shared.places.root().join(directory)), 0);
    library.load(&Reference::Name(policy.clone())).ok()
}

fn workspace(shared: &Shared, tenant: &str, workspace: &Workspace) -> Option<String> {
    match workspace {
        Workspace::None => None,
        Workspace::Directory { path } => Some(path.clone()),
        Workspace::Named { name } => {
            Some(shared.places.workspaces().join(tenant).join(name).display().to_string())
        }
    }
}

/// A handle and its task, which does not run yet.
fn prepare(shared: &Arc<Shared>, record: Record, extent: Extent) -> (Arc<Handle>, Agent) {
    let size = Size { cols: record.size.cols, rows: record.size.rows };
    let directory = shared.places.agent(&record.id);
    let settled = shared.store.screen(&record.id);
    let (terminal, wishes) = Terminal::start(&directory, size, extent, settled);
    let (commands, told) = mpsc::channel(COMMANDS);
    let handle = Arc::new(Handle {
        id: record.id.clone(),
        tenant: record.tenant.clone(),
        digest: record.digest.clone(),
        owner: record.owner.clone(),
        claim: Claim { memory: record.memory, millicpus: record.millicpus, processes: record.processes },
        terminal,
        shown: watch::Sender::new(Agent::first_shown(&record)),
        outcome: watch::Sender::new(None),
        commands,
        reserved: AtomicBool::new(false),
        activity: AtomicU64::new(0),
        hands: Default::default(),
        book: Book::open(shared.store.messages(&record.id)),
        eye: Mutex::new(None),
        times: Default::default(),
        desk: Arc::default(),
    });
    let agent = Agent::new(shared.clone(), handle.clone(), record, wishes, told);
    (handle, agent)
}

/// Finds all agents again, at once.
pub(super) async fn adopt_all(shared: &Arc<Shared>) -> Result<()> {
    let listed = |what: &str, source| SupervisorError::Io { what: format!("cannot list {what}"), source };
    let directory = shared.places.agents();
    let mut ids: BTreeSet<String> =
        shared.store.ids().map_err(|e| listed("the records", e))?.into_iter().collect();
    match std::fs::read_dir(&directory) {
        Ok(entries) => ids.extend(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok())),
        // The launcher has not made anything yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(listed(&directory.display().to_string(), error)),
    }
    let begun = std::time::Instant::now();
    let mut count = 0;
    for id in ids.iter().filter(|id| id.parse::<AgentId>().is_ok()) {
        let Some(record) = known(shared, id) else { continue };
        let (handle, task) = prepare(shared, record, Extent::default());
        let (_, end) = handle.terminal.kept().unwrap_or_default();
        handle.terminal.extend(Extent { end, ended: false });
        shared.agents().insert(id.clone(), handle.clone());
        tokio::spawn(task.run(Begin::Adopt));
        delivery::attend(shared, &handle);
        count += 1;
    }
    if tokio::time::timeout(ADOPTION, shared.all_adopted(count)).await.is_err() {
        warn!(agents = count, "some agents have not been found again yet");
    }
    info!(agents = count, milliseconds = begun.elapsed().as_millis(), "agents found again");
    Ok(())
}

/// Its record; of an agent that has none, what can be told from what the launcher keeps.
fn known(shared: &Shared, id: &str) -> Option<Record> {
    match shared.store.get(id) {
        Ok(Some(record)) => return Some(record),
        Ok(None) => {}
        Err(error) => warn!(agent = id, %error, "its record cannot be read"),
    }
    let directory = shared.places.agent(id);
    let text = std::fs::read(directory.join(places::AGENT)).ok()?;
    let agent: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let word = |name: &str| agent.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    warn!(agent = id, "it has no record of this daemon's");
    Some(Record {
        id: id.to_owned(),
        name: id.to_owned(),
        kind: word("policy").unwrap_or_default(),
        // A tenant that nobody is of: only an administrator sees it.
        tenant: word("tenant").unwrap_or_default(),
        owner: String::new(),
        policy: word("policy").unwrap_or_default(),
        digest: String::new(),
        labels: Default::default(),
        capabilities: Vec::new(),
        workspace: None,
        home: None,
        memory: 0,
        millicpus: 0,
        processes: 0,
        size: order::Size { cols: request::SIZE.cols, rows: request::SIZE.rows },
        auto_restart: false,
        idle_timeout: None,
        lifetime: None,
        created: now(),
        started: None,
        restarts: 0,
        boot: word("boot").unwrap_or_else(|| shared.boot.clone()),
        verdict: None,
        told: None,
        answers: None,
    })
}
