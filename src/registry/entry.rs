//! One entry: its key, and a value that Parallax can read whatever an agent is called.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that is registered, ours or not.
pub const SERVICES: &str = "/parallax/services/";
/// Agents. The namespace is fixed in Parallax.
pub const AGENTS: &str = "/parallax/services/agent/";
/// Nodes, under a type that Parallax knows and never selects.
pub const NODES: &str = "/parallax/services/monitor/";

/// What an agent may bring into a value: more is cut off, so that one value never comes near etcd's limit for a request.
const LONGEST_TEXT: usize = 256;
const MOST_CAPABILITIES: usize = 64;

/// The key of an agent.
pub fn agent_key(id: &str) -> String {
    format!("{AGENTS}{id}")
}

/// The key of a node.
pub fn node_key(name: &str) -> String {
    format!("{NODES}{name}")
}

/// A value. `registeredAt` is left out on purpose: Parallax calls a date's methods on it, and after JSON it is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema), schema(as = RegistryEntry))]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Last part of the key.
    pub id: String,
    /// For people.
    pub name: String,
    /// `agent` or `monitor`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is reached; never empty.
    pub endpoint: String,
    /// What it is.
    pub metadata: Metadata,
    /// How it is.
    pub health: Health,
    /// Seconds after which it is gone when nobody renews it.
    pub ttl: u64,
}

/// What it is. The first five are Parallax's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema), schema(as = RegistryMetadata))]
pub struct Metadata {
    /// What it says it can do.
    pub capabilities: Vec<String>,
    /// Of Stockade.
    pub version: String,
    /// Where the node is.
    pub region: String,
    /// Those that the operator publishes.
    pub labels: BTreeMap<String, String>,
    /// What an answer counts that does not say.
    pub default_confidence: f64,
    /// Whose entry this is.
    pub stockade: Mark,
    /// Of an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentFacts>,
    /// Of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeFacts>,
}

/// Who wrote an entry. Whoever finds another mark, or none, keeps its hands off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema), schema(as = RegistryMark))]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// The node's name.
    pub node: String,
    /// Its identity: survives the daemon, and is nobody else's.
    pub node_id: String,
    /// Grows with every daemon of this node.
    pub generation: u64,
}

/// Of an agent: nothing that one tenant should not read of another's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema), schema(as = RegistryAgent))]
#[serde(rename_all = "camelCase")]
pub struct AgentFacts {
    /// `claude`, `codex` …
    #[serde(rename = "type")]
    pub kind: String,
    /// The slot that Parallax knows this runtime by.
    pub runtime: String,
}

/// Of a node: what chooses between several.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema), schema(as = RegistryNode))]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// What it has.
    pub capacity: Amounts,
    /// What its agents may use of it: how many run, and the sums of their limits, which may exceed what there is.
    pub used: Amounts,
    /// It takes no new agents.
    pub draining: bool,
    /// It can start agents: its launcher answers.
    #[serde(default)]
    pub launcher: bool,
    /// The policies that an agent can be started under.
    pub policies: Vec<String>,
    /// `uname -r`
    pub kernel: String,
    /// What this kernel can enforce, by the names of `stockade doctor`.
    pub abilities: BTreeMap<String, bool>,
}

/// Of a node's resources.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema), schema(as = RegistryAmounts))]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Agents; as a capacity 0 means that nobody set a bound.
    pub agents: u64,
    /// Bytes.
    pub memory: u64,
    /// CPUs.
    pub cpus: f64,
}

/// How it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema), schema(as = RegistryHealth))]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// In Parallax's words.
    pub status: HealthStatus,
    /// When this was written, ISO 8601.
    pub last_check: String,
    /// Milliseconds.
    pub check_interval: u64,
}

/// In Parallax's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema), schema(as = RegistryHealthStatus))]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Can be given work.
    Healthy,
    /// Somebody has to do something first.
    Degraded,
    /// Can not be given work.
    Unhealthy,
}

impl Entry {
    /// Within bounds, whatever its agent is called.
    pub fn bounded(mut self) -> Self {
        let cut = |text: &mut String| *text = text.chars().take(LONGEST_TEXT).collect();
        self.metadata.capabilities.truncate(MOST_CAPABILITIES);
        let facts = self.metadata.agent.iter_mut().map(|agent| &mut agent.kind);
        let labels = self.metadata.labels.values_mut();
        self.metadata.capabilities.iter_mut().chain(facts).chain(labels).for_each(cut);
        cut(&mut self.name);
        self
    }

    /// The value, written now. Always JSON, and always JSON that Parallax takes: names are text by then.
    pub fn value(&self) -> Vec<u8> {
        serde_json::to_vec(&self.now()).expect("text, finite numbers and maps with text for keys")
    }

    /// As it is now.
    pub fn now(&self) -> Self {
        let last_check = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        Self { health: Health { last_check, ..self.health.clone() }, ..self.clone() }
    }

    /// Whether these differ in nothing but when they were written.
    pub fn says_what(&self, other: &Self) -> bool {
        let Self { id, name, kind, endpoint, metadata, health, ttl } = self;
        let is_as_well =
            health.status == other.health.status && health.check_interval == other.health.check_interval;
        (id, name, kind, endpoint, ttl) == (&other.id, &other.name, &other.kind, &other.endpoint, &other.ttl)
            && *metadata == other.metadata
            && is_as_well
    }

    /// Reads one of ours.
    pub fn read(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }
}

/// The mark in any value; none: not ours, whatever it is.
pub fn mark(value: &[u8]) -> Option<Mark> {
    marked(value).map(|(_, mark)| mark)
}

/// The mark of what lies under the key of `id`. What somebody has copied there from another key is theirs.
pub fn mark_of(id: &str, value: &[u8]) -> Option<Mark> {
    marked(value).filter(|(of, _)| of == id).map(|(_, mark)| mark)
}

fn marked(value: &[u8]) -> Option<(String, Mark)> {
    #[derive(Deserialize)]
    struct Marked {
        id: String,
        metadata: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        stockade: Mark,
    }
    serde_json::from_slice::<Marked>(value).ok().map(|marked| (marked.id, marked.metadata.stockade))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(id: &str, name: &str) -> Entry {
        Entry {
            id: id.into(),
            name: name.into(),
            kind: "agent".into(),
            endpoint: "unix:/run/stockade/doors/a.sock".into(),
            metadata: Metadata {
                capabilities: vec!["code".into()],
                version: "0".into(),
                region: String::new(),
                labels: BTreeMap::new(),
                default_confidence: 0.7,
                stockade: Mark { node: "n".into(), node_id: "x".into(), generation: 1 },
                agent: Some(AgentFacts { kind: "claude".into(), runtime: "stockade".into() }),
                node: None,
            },
            health: Health {
                status: HealthStatus::Healthy,
                last_check: String::new(),
                check_interval: 30_000,
            },
            ttl: 20,
        }
    }

    #[test]
    fn a_value_is_bounded_however_long_an_agent_s_name_is() {
        let mut long = entry("a", &"\u{1F980}\"\\\0".repeat(100_000));
        long.metadata.capabilities = vec!["x".repeat(10_000); 10_000];
        let long = long.bounded();
        assert!(long.value().len() < 64 * 1024, "{} bytes", long.value().len());
        assert!(Entry::read(&long.value()).is_some_and(|read| read.says_what(&long)));
    }

    #[test]
    fn only_a_whole_mark_is_one() {
        assert_eq!(mark(&entry("a", "a").value()).expect("marked").node_id, "x");
        for foreign in
            ["", "null", "{", r#"{"metadata":{}}"#, r#"{"metadata":{"stockade":{"node":"n"}}}"#, "\u{0}"]
        {
            assert_eq!(mark(foreign.as_bytes()), None, "{foreign:?}");
        }
    }
}
