//! What runs on this node, as far as a registry may know it.

use std::collections::BTreeMap;

use crate::api::{Agent, State};
use crate::registry::entry::HealthStatus;

/// All agents that are listed, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    /// By id.
    pub agents: BTreeMap<String, Registered>,
}

/// One agent: neither its variables nor its workspace nor whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// For people.
    pub name: String,
    /// `claude`, `codex` …
    pub kind: String,
    /// Whose it is. Not registered; whoever carries messages needs it.
    pub tenant: String,
    /// What it says it can do.
    pub capabilities: Vec<String>,
    /// Labels; of these only those are registered that the operator names.
    pub labels: BTreeMap<String, String>,
    /// What it is doing.
    pub state: State,
}

impl From<&Agent> for Registered {
    fn from(agent: &Agent) -> Self {
        Self {
            name: agent.name.clone(),
            kind: agent.kind.clone(),
            tenant: agent.tenant.clone(),
            capabilities: agent.capabilities.clone(),
            labels: agent.labels.clone(),
            state: agent.state,
        }
    }
}

impl<'a> FromIterator<&'a Agent> for Running {
    fn from_iter<I: IntoIterator<Item = &'a Agent>>(agents: I) -> Self {
        Self { agents: agents.into_iter().map(|agent| (agent.id.clone(), agent.into())).collect() }
    }
}

/// Whether an agent in this state is registered, given whether it was.
pub fn belongs(state: State, was_registered: bool) -> bool {
    match state {
        State::Ready | State::Busy => true,
        // Not usable yet, or not any more for a while: it is not announced for this, nor is it withdrawn.
        State::Starting | State::LoginRequired | State::Blocked | State::Unknown => was_registered,
        State::Stopping | State::Exited | State::Failed => false,
    }
}

/// How an agent in this state is, in Parallax's words.
pub fn health(state: State) -> HealthStatus {
    match state {
        State::Ready | State::Busy => HealthStatus::Healthy,
        State::Starting | State::LoginRequired | State::Blocked | State::Unknown => HealthStatus::Degraded,
        State::Stopping | State::Exited | State::Failed => HealthStatus::Unhealthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_announced_once_it_is_usable_and_withdrawn_once_it_ends() {
        let states = [State::Starting, State::LoginRequired, State::Ready, State::Blocked, State::Busy];
        let mut registered = false;
        let seen = states.map(|state| {
            registered = belongs(state, registered);
            registered
        });
        assert_eq!(seen, [false, false, true, true, true]);
        for state in [State::Stopping, State::Exited, State::Failed] {
            assert!(!belongs(state, true), "{state:?} is still registered");
        }
        assert_eq!(health(State::LoginRequired), HealthStatus::Degraded);
    }
}
