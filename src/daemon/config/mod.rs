//! What the operator decided: `etc/stockade/stockaded.toml`, then `stockaded.d/*.toml` in the order of their names.

pub mod audit;
pub mod document;
pub mod duration;
pub mod load;
pub mod registry;
pub mod tenant;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::audit::sinks::Sink;
use crate::daemon::authz::Grants;
use crate::daemon::authz::grant::Pattern;
use crate::daemon::quota::Quota;
use crate::daemon::{supervisor, usage};
use crate::id::Tenant;
use crate::policy::Bytes;

pub use load::ConfigError;

/// All of it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the service listens, with TLS.
    pub listen: SocketAddr,
    /// Where `/livez` and `/readyz` are answered without TLS: on the loopback, or nowhere.
    pub health_listen: Option<SocketAddr>,
    /// `[tls]`
    pub tls: TlsFiles,
    /// Every `[[grant]]`.
    pub grants: Grants,
    /// Every `[tenant.NAME]`.
    pub tenants: BTreeMap<Tenant, Quota>,
    /// Every `[grant.quota]`.
    pub identities: Vec<(Pattern, Quota)>,
    /// `[node]`
    pub node: NodeSettings,
    /// `[limits]`
    pub limits: Limits,
    /// `[parallax]`
    pub parallax: ParallaxSettings,
    /// `[registry]`
    pub registry: registry::Section,
    /// Every `[[audit.sink]]`.
    pub sinks: Vec<Sink>,
    /// How much of the audit log is kept, in bytes; none: all of it.
    pub audit_keep: Option<u64>,
    /// For how long it is kept; none: for ever.
    pub audit_keep_for: Option<Duration>,
    /// `[usage]`
    pub usage: usage::Options,
}

/// Where the material for TLS lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The daemon's certificate, with what is between it and its CA.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CAs that clients' certificates come from.
    pub client_ca: PathBuf,
    /// What these CAs revoked; none: nothing is.
    pub crl: Option<PathBuf>,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its name: the host's, unless given.
    pub name: String,
}

/// `[parallax]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParallaxSettings {
    /// What this runtime is called there.
    pub runtime_name: String,
}

/// `[limits]`: what clients can take of the daemon at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, streams included.
    pub connections: usize,
    /// Connections of one identity.
    pub connections_per_identity: usize,
    /// Connections of one address that have not said yet who they are.
    pub handshakes_per_address: usize,
    /// Requests of one identity, in the long run.
    pub requests_per_second: u32,
    /// Requests of one identity at once, after a pause.
    pub burst: u32,
    /// Bytes of a request's body.
    pub body: Bytes,
    /// HTTP/2: requests at once on one connection.
    pub streams: u32,
    /// From the first byte of a connection to its verified certificate.
    pub handshake_timeout: Duration,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_timeout: Duration,
    /// A connection on which nothing is asked.
    pub idle_timeout: Duration,
    /// From the signal to end to the end of the last stream.
    pub drain_timeout: Duration,
}

impl Config {
    /// What the supervisor goes by.
    pub fn supervisor(&self) -> supervisor::Config {
        supervisor::Config {
            node: self.node.name.clone(),
            rules: self.rules(),
            ..supervisor::Config::default()
        }
    }

    /// What may be used.
    pub fn rules(&self) -> supervisor::Rules {
        supervisor::Rules {
            quotas: self.tenants.iter().map(|(name, quota)| (name.to_string(), quota.clone())).collect(),
            identities: self.identities.clone(),
            usage: self.usage,
            ..supervisor::Rules::default()
        }
    }

    /// What differs in this one and takes effect at the next start, by section or key.
    pub fn waits_for_a_start(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("listen", self.listen != other.listen),
            ("health-listen", self.health_listen != other.health_listen),
            ("node", self.node != other.node),
            ("limits", self.limits != other.limits),
            ("parallax", self.parallax != other.parallax),
            ("registry", self.registry != other.registry),
        ];
        differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_identity: 1024,
            handshakes_per_address: 64,
            requests_per_second: 500,
            burst: 1000,
            body: Bytes::mib(8),
            streams: 128,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
