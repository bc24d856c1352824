//! The agents: started through the launcher, followed through their shims, found again after a restart.
//!
//! ```text
//!  Supervisor ──▶ Shared ──▶ one Handle per agent ◀──▶ its task (agent) ──▶ shim
//!                   │  └───▶ store: records            └──▶ launcher
//!                   └──────▶ events
//! ```

mod agent;
mod collect;
mod config;
mod delivery;
mod inquiry;
mod launcher;
mod login;
mod observer;
mod prune;
mod quota;
mod request;
mod run;
mod screens;
mod shared;
mod socket;
mod spawn;
mod spend;
mod state;
mod times;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::agent::{Agent, Exec, ExecResult, Sent, Size, Spawn, Stats};
use crate::api::events::Happened;
use crate::api::login::{LoginAnswer, LoginResult};
use crate::api::node::Node;
use crate::api::problem::QuotaExcess;
use crate::api::{Delivery, Stage};
use crate::audit::Unavailable;
use crate::audit::event::Event;
use crate::audit::parts::Act;
use crate::audit::text::Release;
use crate::daemon::audit::Audit;
use crate::daemon::authz::{Caller, Role};
use crate::daemon::events::Events;
use crate::daemon::quota::Standing;
use crate::daemon::terminal::Terminal;
use crate::daemon::usage::Usage;
use crate::id::AgentId;
use crate::wire::service::{Places, Refusal, places};
use agent::{Command, Handle};
pub use config::{Config, Quota, Restarts, Rules};
use shared::Shared;

/// All agents of the node. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

/// What a spawn came to.
pub struct Spawned {
    /// The agent.
    pub agent: Agent,
    /// False: an agent of this id and this very content was there already.
    pub created: bool,
}

/// What can go wrong with an agent.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// 404
    #[error("there is no agent {id}")]
    NotFound {
        /// The id.
        id: String,
    },
    /// 409: the id belongs to another request.
    #[error(
        "the id {id} is taken by an agent that was asked for differently: choose another one, or remove it"
    )]
    Taken {
        /// The id.
        id: String,
    },
    /// 409: not in this state.
    #[error("agent {id} is {state}: {what}")]
    State {
        /// The id.
        id: String,
        /// Its state.
        state: &'static str,
        /// What does not go.
        what: &'static str,
    },
    /// 409: the agent does not have this message, or nobody knows whether it has.
    #[error("message {message} to agent {id} is {}: {why}", stage.as_str())]
    NotDelivered {
        /// The agent's id.
        id: String,
        /// The message's.
        message: String,
        /// `failed` or `uncertain`.
        stage: Stage,
        /// Why it came no further.
        why: String,
    },
    /// 422: a field makes no sense. (400 if it is not even a name.)
    #[error("{field}: {detail}")]
    Field {
        /// Which, as in JSON.
        field: &'static str,
        /// Why, and what would do.
        detail: String,
        /// Whether it is malformed (400) rather than meaningless (422).
        malformed: bool,
    },
    /// The launcher, or the shim while it built: 422 for what exceeds a policy, 503 for what the host lacks …
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// 429
    #[error("{detail}")]
    Quota {
        /// Which quota, and the way out.
        detail: String,
        /// The same for programs.
        numbers: Box<QuotaExcess>,
        /// For `Retry-After`.
        retry_after: Duration,
    },
    /// 503
    #[error("this node is draining: it takes no new agents")]
    Draining,
    /// 503
    #[error("the launcher does not answer: {source}")]
    Launcher {
        /// Why.
        source: std::io::Error,
    },
    /// 504
    #[error("{what} took longer than {after:?}")]
    Timeout {
        /// What.
        what: String,
        /// How long.
        after: Duration,
    },
    /// 503
    #[error(transparent)]
    Audit(#[from] Unavailable),
    /// 500
    #[error("{what}: {source}")]
    Io {
        /// What failed.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

/// How to stop.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// Between SIGTERM and the end of the whole cgroup; zero: at once.
    pub grace: Duration,
    /// Whether to wait for the end.
    pub wait: bool,
}

pub(crate) type Result<T> = std::result::Result<T, SupervisorError>;

pub(crate) use times::iso;

/// Now, as the API writes times.
pub(crate) fn iso_now() -> String {
    times::iso(times::now())
}

impl Supervisor {
    /// Connects to the launcher, and finds all agents of the node again. Answers once every one of them is adopted, or
    /// known to have ended.
    pub async fn start(places: Places, config: Config) -> Result<Self> {
        let failed = |source| SupervisorError::Io { what: "cannot keep an audit log".into(), source };
        let audit = Audit::start(&places).map_err(failed)?;
        Self::audited(places, config, audit).await
    }

    /// The same, for a process that has begun its log.
    pub async fn audited(places: Places, config: Config, audit: Audit) -> Result<Self> {
        let shared = Shared::open(places, config, audit)?;
        shared.audit.record(Event::ServiceStarted {
            version: Release::of(env!("CARGO_PKG_VERSION")),
            pid: std::process::id(),
            boot: Release::of(&shared.boot),
        });
        spawn::adopt_all(&shared).await?;
        tokio::spawn(collect::follow(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Starts an agent for this caller, in its tenant. Answers when the agent was started (attested, running) or refused:
    /// milliseconds. Idempotent by id: the same request finds the same agent.
    pub async fn spawn(&self, caller: &Caller, request: Spawn) -> Result<Spawned> {
        spawn::spawn(&self.shared, caller, request).await
    }

    /// One agent that this caller may see; others do not exist for it.
    pub fn get(&self, caller: &Caller, id: &str) -> Result<Agent> {
        Ok(self.handle(caller, id)?.agent())
    }

    /// All that this caller may see, in order of their ids.
    pub fn list(&self, caller: &Caller) -> Vec<Agent> {
        let agents = self.shared.agents();
        let seen = agents.values().filter(|handle| caller.sees(&handle.tenant) && handle.is_known());
        seen.map(|handle| handle.agent()).collect()
    }

    /// SIGTERM, then the whole cgroup. Of an agent that has ended: nothing to do.
    pub async fn stop(&self, caller: &Caller, id: &str, stop: Stop) -> Result<Agent> {
        let handle = self.handle(caller, id)?;
        let why = format!("{} asked it to end", caller.identity);
        let deed = self.shared.audit.deed_anyhow(caller, &Self::id(id)?, Act::Stop).await;
        ask_to_end(&handle, stop.grace, why).await;
        deed.done();
        if stop.wait {
            ended(&handle).await;
        }
        Ok(handle.agent())
    }

    /// Waits until it has ended; `None`: it had not after `timeout`.
    pub async fn wait(&self, caller: &Caller, id: &str, timeout: Duration) -> Result<Option<Agent>> {
        let handle = self.handle(caller, id)?;
        let over = tokio::time::timeout(timeout, ended(&handle)).await;
        Ok(over.is_ok().then(|| handle.agent()))
    }

    /// Starts it anew by its own order, stopping it first if it runs.
    pub async fn restart(&self, caller: &Caller, id: &str) -> Result<Agent> {
        let handle = self.handle(caller, id)?;
        if self.shared.is_draining() {
            return Err(SupervisorError::Draining);
        }
        // Under the lock, and until it is shown as started: of several at once no more get through than one by one.
        let _reserved = {
            let agents = self.shared.agents();
            let ended = !handle.is_active();
            if ended {
                let asker = quota::Asker { tenant: &handle.tenant, identity: &handle.owner };
                quota::check(&self.shared, &agents, &asker, handle.claim)?;
            }
            ended.then(|| handle.reserve())
        };
        let deed = self.shared.audit.deed(caller, &Self::id(id)?, Act::Restart).await?;
        let (asker, told) = oneshot::channel();
        let sent = handle.commands.send(Command::Restart(asker)).await;
        sent.map_err(|_| not_found(id))?;
        let restarted = told.await.unwrap_or_else(|_| {
            let what = "it ended before it had started anew: its exit code and its log say why";
            Err(SupervisorError::State { id: id.into(), state: handle.shown.borrow().state.as_str(), what })
        });
        deed.came_to(&restarted);
        restarted?;
        Ok(handle.agent())
    }

    /// Removes an agent that has ended, with all that is kept of it.
    pub async fn remove(&self, caller: &Caller, id: &str) -> Result<()> {
        let handle = self.handle(caller, id)?;
        let deed = self.shared.audit.deed(caller, &Self::id(id)?, Act::Remove).await?;
        let (asker, told) = oneshot::channel();
        handle.commands.send(Command::Remove(asker)).await.map_err(|_| not_found(id))?;
        let removed = told.await.unwrap_or_else(|_| Err(not_found(id)));
        deed.came_to(&removed);
        removed
    }

    /// Types a message and submits it; with `wait` until the agent has answered (its turn's text). The turn may end
    /// later than the caller's patience: then this is a time-out, and the answer comes as an event, and to whoever sends
    /// the same message with the same key again.
    pub async fn send(&self, caller: &Caller, id: &str, message: crate::api::agent::Send) -> Result<Sent> {
        delivery::send(&self.shared, self.handle(caller, id)?, message).await
    }

    /// What became of its latest messages.
    pub fn deliveries(&self, caller: &Caller, id: &str) -> Result<Vec<Delivery>> {
        Ok(self.handle(caller, id)?.book.all())
    }

    /// Completes the login that it waits for, by a code that is typed or a callback that is delivered. What becomes of it
    /// is waited for; neither is logged or recorded.
    pub async fn log_in(&self, caller: &Caller, id: &str, answer: LoginAnswer) -> Result<LoginResult> {
        let handle = self.handle(caller, id)?;
        let attempt = login::Attempt::check(&handle, answer)?;
        let deed = self.shared.audit.deed(caller, &Self::id(id)?, Act::Login).await?;
        attempt.carry_out(deed).await
    }

    /// Runs something else within the agent's walls.
    pub async fn exec(&self, caller: &Caller, id: &str, exec: Exec) -> Result<ExecResult> {
        let handle = self.handle(caller, id)?;
        let deed = self.shared.audit.deed(caller, &Self::id(id)?, Act::Exec).await?;
        let ran = run::exec(handle, exec).await;
        deed.came_to(&ran);
        ran
    }

    /// What it uses.
    pub async fn stats(&self, caller: &Caller, id: &str) -> Result<Stats> {
        run::stats(&self.shared, self.handle(caller, id)?).await
    }

    /// What was enforced, as the shim read it back from the kernel.
    pub fn attestation(&self, caller: &Caller, id: &str) -> Result<serde_json::Value> {
        let handle = self.handle(caller, id)?;
        let path = self.shared.places.agent(&handle.id).join(places::ATTESTATION);
        let read = std::fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?));
        read.map_err(|source| SupervisorError::Io { what: format!("cannot read {}", path.display()), source })
    }

    /// Gives the gateway a new value for a credential.
    pub async fn secret(&self, caller: &Caller, id: &str, name: &str, value: String) -> Result<()> {
        let handle = self.handle(caller, id)?;
        let deed = self.shared.audit.deed(caller, &Self::id(id)?, Act::Secret).await?;
        let taken = run::secret(handle, name, value).await;
        deed.came_to(&taken);
        taken
    }

    /// Its terminal.
    pub fn terminal(&self, caller: &Caller, id: &str) -> Result<Terminal> {
        Ok(self.handle(caller, id)?.terminal.clone())
    }

    /// Sets the terminal's size; its owner, if it has one, keeps it: then nothing changes.
    pub async fn resize(&self, caller: &Caller, id: &str, size: Size) -> Result<()> {
        let handle = self.handle(caller, id)?;
        request::size(size)?;
        handle.terminal.resize(size);
        Ok(())
    }

    /// Nothing is kept back from the disk any more.
    pub async fn flush(&self) {
        let store = self.shared.store.clone();
        let _ = tokio::task::spawn_blocking(move || store.flush()).await;
    }

    /// What was done here, for judges.
    pub fn audit(&self) -> &Audit {
        &self.shared.audit
    }

    /// What was used, as it is recorded.
    pub fn usage(&self) -> &Usage {
        &self.shared.usage
    }

    /// What happens.
    pub fn events(&self) -> &Events {
        &self.shared.events
    }

    /// The node.
    pub fn node(&self) -> Node {
        let (active, agents) = {
            let agents = self.shared.agents();
            let known = agents.values().filter(|handle| handle.is_known());
            known.fold((0, 0), |(active, all), handle| (active + usize::from(handle.is_active()), all + 1))
        };
        Node {
            name: self.shared.config.node.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            boot: self.shared.boot.clone(),
            since: times::iso(self.shared.since),
            active,
            agents,
            draining: self.shared.is_draining(),
            launcher: self.shared.launcher.is_connected(),
            quotas: Vec::new(),
        }
    }

    /// What all agents that have not ended may use at most.
    pub(crate) fn given(&self) -> Standing {
        quota::standing_of_all(&self.shared.agents())
    }

    /// The node as this caller sees it: with how the quotas stand that concern it.
    pub fn node_for(&self, caller: &Caller) -> Node {
        let tenants = match caller.role {
            Role::Admin => self.shared.rules().quotas.keys().cloned().collect(),
            _ => vec![caller.tenant.to_string()],
        };
        Node { quotas: quota::lines(&self.shared, &tenants, &caller.identity), ..self.node() }
    }

    /// From now on other quotas and budgets, and another pace of records.
    pub fn replace_rules(&self, rules: Rules) {
        self.shared.replace_rules(rules);
    }

    /// From now on no new agents; with `stop` those that run are stopped, and this answers once they have ended.
    pub async fn drain(&self, stop: bool) -> Result<()> {
        if self.shared.drain() {
            self.shared.events.publish_for("", None, Happened::Draining);
        }
        if stop {
            let all: Vec<Arc<Handle>> = self.shared.agents().values().cloned().collect();
            let grace = self.shared.config.grace;
            for handle in &all {
                ask_to_end(handle, grace, "the node is being drained".to_owned()).await;
            }
            for handle in &all {
                ended(handle).await;
            }
        }
        Ok(())
    }

    /// For tests and names: whether this is an id at all.
    pub fn id(text: &str) -> Result<AgentId> {
        text.parse().map_err(|error: crate::id::InvalidName| SupervisorError::Field {
            field: "id",
            detail: error.to_string(),
            malformed: true,
        })
    }

    fn handle(&self, caller: &Caller, id: &str) -> Result<Arc<Handle>> {
        let id = Self::id(id)?;
        let agents = self.shared.agents();
        let found = agents.get(id.as_str()).filter(|handle| caller.sees(&handle.tenant) && handle.is_known());
        found.cloned().ok_or_else(|| not_found(id.as_str()))
    }
}

fn not_found(id: &str) -> SupervisorError {
    SupervisorError::NotFound { id: id.to_owned() }
}

/// Answers once it was heard: what is shown from then on knows of it.
async fn ask_to_end(handle: &Handle, grace: Duration, why: String) {
    let (heard, told) = oneshot::channel();
    // A task that is gone has nothing left to stop.
    if handle.commands.send(Command::Stop { grace, why, heard }).await.is_ok() {
        let _ = told.await;
    }
}

/// Waits until it has ended, for good or until somebody starts it anew.
async fn ended(handle: &Handle) {
    let mut shown = handle.shown.subscribe();
    // The sender lives in the handle.
    let _ = shown.wait_for(|agent| agent.state.is_final()).await;
}
