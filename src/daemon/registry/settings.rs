//! What the operator decided about the registry.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::registry::Access;

/// `[registry]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where.
    pub kind: Kind,
    /// This node's name.
    pub node: String,
    /// Its identity (see `node_id`).
    pub node_id: String,
    /// Where the node's service is reached: the endpoint of its entry.
    pub service: String,
    /// The slot that Parallax knows this runtime by.
    pub runtime: String,
    /// Where the node is; may be empty.
    pub region: String,
    /// Labels of agents that are published.
    pub publish_labels: Vec<String>,
    /// Put before every capability, so that only patterns that ask for it find these agents.
    pub capability_prefix: String,
    /// What an answer counts that does not say.
    pub confidence: f64,
    /// Where agents answer.
    pub doors: DoorPlace,
}

/// Where agents are registered.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// In this daemon.
    Embedded,
    /// In etcd.
    Etcd(EtcdSettings),
}

/// Of etcd.
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdSettings {
    /// How it is reached.
    pub access: Access,
    /// After so long without this daemon its agents are gone.
    pub ttl: Duration,
    /// What it means when somebody deletes an agent's key.
    pub on_delete: OnDelete,
}

/// What it means when somebody deletes an agent's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDelete {
    /// An accident: it is put back.
    #[default]
    Restore,
    /// Somebody wants the agent to stop.
    Stop,
}

/// Where agents answer. The first two are not encrypted and ask nobody who calls, so they never leave this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorPlace {
    /// A socket per agent in this directory: whoever may open it.
    Unix(PathBuf),
    /// A port of the loopback per agent, from the first to the last: every user of this host.
    Loopback(Ipv4Addr, u16, u16),
    /// A name per agent below this domain, at the service itself: over mTLS, for whoever has a grant.
    Named {
        /// Without a dot in front.
        domain: String,
        /// Where the service is reached.
        port: u16,
    },
}

impl Settings {
    /// As in the configuration.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Embedded => "embedded",
            Kind::Etcd(_) => "etcd",
        }
    }
}

impl EtcdSettings {
    /// How long one request may take.
    pub fn patience(&self) -> Duration {
        (self.ttl / 4).clamp(Duration::from_millis(500), Duration::from_secs(5))
    }
}
