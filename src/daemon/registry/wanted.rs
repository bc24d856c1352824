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
    /// Agents that cannot be called, and why.
    doorless: Vec<String>,
    mark: Mark,
    kept: watch::Sender<Kept>,
}

/// What should be registered, for whoever looks.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Agents, by id.
    pub agents: BTreeMap<String, Entry>,
    /// What the node's entry says beside its facts.
    pub node: Entry,
}

impl Wanted {
    /// Nothing yet; from now on whoever looks sees it.
    pub fn new(settings: &Settings, doors: Doors) -> (Self, watch::Receiver<Kept>) {
        let mark = Mark { node: settings.node.clone(), node_id: settings.node_id.clone(), generation: 0 };
        let node = node(settings, &mark, NodeFacts::default());
        let (kept, looked_at) = watch::channel(Kept { agents: BTreeMap::new(), node });
        let (announced, unwanted, doorless) = Default::default();
        (Self { settings: settings.clone(), doors, announced, unwanted, doorless, mark, kept }, looked_at)
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
        self.doorless.clear();
        for id in self.announced.difference(&self.unwanted) {
            match self.doors.open(id) {
                Ok(endpoint) => {
                    entries.insert(id.clone(), self.entry(id, &running.agents[id], endpoint));
                }
                // There is nothing that could be called. It is tried again.
                Err(why) => self.doorless.push(format!("{id}: {why}")),
            }
        }
        let node = self.node(NodeFacts::default());
        self.kept.send_replace(Kept { agents: entries.clone(), node });
        entries
    }

    /// Usable agents that had no door when they were looked at last, and why.
    pub fn doorless(&self) -> &[String] {
        &self.doorless
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
                ..metadata(&self.settings, &self.mark)
            },
            health: how(health(agent.state)),
            ttl: ttl(&self.settings),
        }
        .bounded()
    }

    /// The node's own entry.
    pub fn node(&self, facts: NodeFacts) -> Entry {
        node(&self.settings, &self.mark, facts)
    }
}

fn node(settings: &Settings, mark: &Mark, facts: NodeFacts) -> Entry {
    Entry {
        id: settings.node.clone(),
        name: settings.node.clone(),
        kind: "monitor".into(),
        endpoint: settings.service.clone(),
        health: how(node_health(&facts)),
        metadata: Metadata { node: Some(facts), ..metadata(settings, mark) },
        ttl: ttl(settings),
    }
}

/// Whether agents can be started there.
pub(super) fn node_health(facts: &NodeFacts) -> HealthStatus {
    match (facts.launcher, facts.draining) {
        (false, _) => HealthStatus::Unhealthy,
        (true, true) => HealthStatus::Degraded,
        (true, false) => HealthStatus::Healthy,
    }
}

fn metadata(settings: &Settings, mark: &Mark) -> Metadata {
    Metadata {
        capabilities: Vec::new(),
        version: env!("CARGO_PKG_VERSION").into(),
        region: settings.region.clone(),
        labels: BTreeMap::new(),
        default_confidence: settings.confidence,
        stockade: mark.clone(),
        agent: None,
        node: None,
    }
}

fn how(status: HealthStatus) -> Health {
    Health { status, last_check: String::new(), check_interval: CHECK_INTERVAL }
}

fn ttl(settings: &Settings) -> u64 {
    match &settings.kind {
        Kind::Embedded => 0,
        Kind::Etcd(etcd) => etcd.ttl.as_secs(),
    }
}
