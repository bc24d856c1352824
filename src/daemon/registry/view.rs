//! The registry, for whoever asks the service.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;

use super::Registry;
use super::running::{Registered, belongs};
use super::wanted::node_health;
use crate::daemon::Daemon;
use crate::daemon::authz::{Caller, Endpoint, Routes};
use crate::registry::{Entry, View};

/// Its route.
pub fn routes() -> Routes {
    Routes::new().on(Endpoint::Registry, registry)
}

/// What this node registers: itself, and those of the caller's agents that are usable.
#[utoipa::path(get, path = "/v1/registry", tag = "node", responses((status = 200, description = "The registry", body = View)))]
pub async fn registry(State(daemon): State<Daemon>, caller: Caller) -> Json<View> {
    Json(daemon.registry.view(|tenant| caller.sees(tenant)))
}

impl Registry {
    /// What should be registered of the agents in tenants that `sees`: in the embedded registry this is what is.
    pub fn view(&self, sees: impl Fn(&str) -> bool) -> View {
        let (kept, status) = (self.kept.borrow().clone(), self.status.borrow().clone());
        let running = self.running.borrow().clone().unwrap_or_default();
        let is_seen = |id: &str| running.agents.get(id).is_some_and(|agent| sees(&agent.tenant));
        // No id has a colon.
        let is_theirs = |why: &String| why.split_once(':').is_some_and(|(id, _)| is_seen(id));
        let mut unregistered: Vec<String> = status.conflicts.into_iter().filter(is_theirs).collect();
        let told: BTreeSet<String> =
            unregistered.iter().filter_map(|why| Some(why.split_once(':')?.0.to_owned())).collect();
        // Nothing is made ready for them while there is nowhere to put it.
        let waits = |(id, agent): &(&String, &Registered)| {
            belongs(agent.state, false) && !kept.agents.contains_key(*id) && !told.contains(*id)
        };
        let waiting = running.agents.iter().filter(|(id, _)| is_seen(id)).filter(waits);
        unregistered.extend(waiting.map(|(id, _)| format!("{id}: waits to be registered")));
        let is_registered = |entry: &&Entry| is_seen(&entry.id) && !told.contains(&entry.id);
        let agents = kept.agents.values().filter(is_registered).map(Entry::now);
        let facts = self.node.borrow().clone();
        let mut node = kept.node.now();
        node.health.status = node_health(&facts);
        node.metadata.node = Some(facts);
        View {
            kind: status.kind.into(),
            connected: status.connected,
            trouble: status.trouble,
            node,
            agents: agents.collect(),
            unregistered,
        }
    }
}
