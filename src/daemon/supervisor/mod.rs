//! The agents: started through the launcher, followed through their shims, found again after a restart.

use std::time::Duration;

use crate::api::agent::{Agent, Exec, ExecResult, Sent, Size, Spawn, Stats};
use crate::api::node::Node;
use crate::daemon::authz::Caller;
use crate::daemon::events::Events;
use crate::daemon::terminal::Terminal;
use crate::id::AgentId;
use crate::wire::service::Refusal;

/// All agents of the node. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {}

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
        /// Which quota, and when to come again.
        detail: String,
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

type Result<T> = std::result::Result<T, SupervisorError>;

impl Supervisor {
    /// Starts an agent for this caller, in its tenant. Answers when the agent was started (attested, running) or refused:
    /// milliseconds. Idempotent by id: the same request finds the same agent.
    pub async fn spawn(&self, _caller: &Caller, _request: Spawn) -> Result<Spawned> {
        todo!()
    }

    /// One agent that this caller may see; others do not exist for it.
    pub fn get(&self, _caller: &Caller, _id: &str) -> Result<Agent> {
        todo!()
    }

    /// All that this caller may see, in order of their ids.
    pub fn list(&self, _caller: &Caller) -> Vec<Agent> {
        todo!()
    }

    /// SIGTERM, then the whole cgroup. Of an agent that has ended: nothing to do.
    pub async fn stop(&self, _caller: &Caller, _id: &str, _stop: Stop) -> Result<Agent> {
        todo!()
    }

    /// Waits until it has ended; `None`: it had not after `timeout`.
    pub async fn wait(&self, _caller: &Caller, _id: &str, _timeout: Duration) -> Result<Option<Agent>> {
        todo!()
    }

    /// Starts it anew by its own order, stopping it first if it runs.
    pub async fn restart(&self, _caller: &Caller, _id: &str) -> Result<Agent> {
        todo!()
    }

    /// Removes an agent that has ended, with all that is kept of it.
    pub async fn remove(&self, _caller: &Caller, _id: &str) -> Result<()> {
        todo!()
    }

    /// Types a message and submits it; with `wait` until the agent has answered (its turn's text).
    pub async fn send(&self, _caller: &Caller, _id: &str, _message: crate::api::agent::Send) -> Result<Sent> {
        todo!()
    }

    /// Runs something else within the agent's walls.
    pub async fn exec(&self, _caller: &Caller, _id: &str, _exec: Exec) -> Result<ExecResult> {
        todo!()
    }

    /// What it uses.
    pub async fn stats(&self, _caller: &Caller, _id: &str) -> Result<Stats> {
        todo!()
    }

    /// What was enforced, as the shim read it back from the kernel.
    pub fn attestation(&self, _caller: &Caller, _id: &str) -> Result<serde_json::Value> {
        todo!()
    }

    /// Gives the gateway a new value for a credential.
    pub async fn secret(&self, _caller: &Caller, _id: &str, _name: &str, _value: String) -> Result<()> {
        todo!()
    }

    /// Its terminal.
    pub fn terminal(&self, _caller: &Caller, _id: &str) -> Result<Terminal> {
        todo!()
    }

    /// Sets the terminal's size; its owner, if it has one, keeps it.
    pub async fn resize(&self, _caller: &Caller, _id: &str, _size: Size) -> Result<()> {
        todo!()
    }

    /// What happens.
    pub fn events(&self) -> &Events {
        todo!()
    }

    /// The node.
    pub fn node(&self) -> Node {
        todo!()
    }

    /// From now on no new agents; with `stop` those that run are stopped.
    pub async fn drain(&self, _stop: bool) -> Result<()> {
        todo!()
    }

    /// For tests and names: whether this is an id at all.
    pub fn id(text: &str) -> Result<AgentId> {
        text.parse().map_err(|error: crate::id::InvalidName| SupervisorError::Field {
            field: "id",
            detail: error.to_string(),
            malformed: true,
        })
    }
}
