//! What should be registered: from what runs, and from what the operator decided.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::confidence::Doors;
use super::running::{Registered, Running, belongs, health};
use super::settings::{Kind, Settings};
use crate::registry::entry::{AgentFacts, Entry, Health, HealthStatus, Mark, Metadata, NodeFacts};

/// Milliseconds that Parallax's own entries say; nobody reads them.
const CHECK_INTERVAL: u64 = 30_000;

/// What should be registered. Opens and closes the doors of agents as they come and go.
pub struct Wanted {
    settings: Settings,
    doors: Doors,
    /// Which agents have been usable, and have not ended since.
    announced: BTreeSet<String>,
    /// Agents that somebody wants stopped: not put back while that takes its time.
    unwanted: BTreeSet<String>,
    mark: Mark,
    kept: watch::Sender<BTreeMap<String, Entry>>,
}

impl Wanted {
    pub fn new(settings: &Settings, doors: Doors, kept: watch::Sender<BTreeMap<String, Entry>>) -> Self {
        let mark = Mark { node: settings.node.clone(), node_id: settings.node_id.clone(), generation: 0 };
        let (announced, unwanted) = Default::default();
        Self { settings: settings.clone(), doors, announced, unwanted, mark, kept }
    }

    /// From now on entries carry this generation.
    pub fn becomes(&mut self, generation: u64) {
        self.mark.generation = generation;
    }

    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// These were registered by a daemon before this one: they were usable.
    pub fn inherits<'a>(&mut self, ids: impl Iterator<Item = &'a String>) {
        self.announced.extend(ids.cloned());
    }

    /// Somebody wants this agent stopped.
    pub fn let_go(&mut self, id: &str) {
        self.unwanted.insert(id.to_owned());
    }

    /// Everything that should be registered now, by id.
    pub fn update(&mut self, running: &Running) -> BTreeMap<String, Entry> {
        let listed = |id: &String| running.agents.get(id).is_some_and(|agent| !agent.state.is_final());
        self.unwanted.retain(listed);
        let belong =
            |(id, agent): &(&String, &Registered)| belongs(agent.state, self.announced.contains(*id));
        self.announced = running.agents.iter().filter(belong).map(|(id, _)| id.clone()).collect();
        self.doors.only(&self.announced);
        let mut entries = BTreeMap::new();
        for id in self.announced.difference(&self.unwanted) {
            // Without a door there is nothing that could be called: the reason has been logged, and is tried again.
            if let Some(endpoint) = self.doors.open(id) {
                entries.insert(id.clone(), self.entry(id, &running.agents[id], endpoint));
            }
        }
        self.kept.send_replace(entries.clone());
        entries
    }

    fn entry(&self, id: &str, agent: &Registered, endpoint: String) -> Entry {
        let prefixed = |capability: &String| format!("{}{capability}", self.settings.capability_prefix);
        let published = |(name, _): &(&String, &String)| self.settings.publish_labels.contains(name);
        let labels = agent.labels.iter().filter(published).map(|(name, value)| (name.clone(), value.clone()));
        Entry {
            id: id.to_owned(),
            name: agent.name.clone(),
            kind: "agent".into(),
            endpoint,
            metadata: Metadata {
                capabilities: agent.capabilities.iter().map(prefixed).collect(),
                labels: labels.collect(),
                agent: Some(AgentFacts { kind: agent.kind.clone(), runtime: self.settings.runtime.clone() }),
                ..self.metadata()
            },
            health: self.health(health(agent.state)),
            ttl: self.ttl(),
        }
        .bounded()
    }

    /// The node's own entry.
    pub fn node(&self, facts: NodeFacts) -> Entry {
        let draining = facts.draining;
        Entry {
            id: self.settings.node.clone(),
            name: self.settings.node.clone(),
            kind: "monitor".into(),
            endpoint: self.settings.service.clone(),
            metadata: Metadata { node: Some(facts), ..self.metadata() },
            health: self.health(if draining { HealthStatus::Degraded } else { HealthStatus::Healthy }),
            ttl: self.ttl(),
        }
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            capabilities: Vec::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            region: self.settings.region.clone(),
            labels: BTreeMap::new(),
            default_confidence: self.settings.confidence,
            stockade: self.mark.clone(),
            agent: None,
            node: None,
        }
    }

    fn health(&self, status: HealthStatus) -> Health {
        Health { status, last_check: String::new(), check_interval: CHECK_INTERVAL }
    }

    fn ttl(&self) -> u64 {
        match &self.settings.kind {
            Kind::Embedded => 0,
            Kind::Etcd(etcd) => etcd.ttl.as_secs(),
        }
    }
}
