//! `[registry]`: read as one, so that no half of it comes from another file.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::duration::Span;
use crate::daemon::registry::settings::{DoorPlace, EtcdSettings, Kind, OnDelete, Settings};
use crate::registry::Access;
use crate::wire::service::Places;

/// Shorter, and a slow moment of etcd's is the end of every entry; longer, and ghosts outlive their node.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);
const USUAL_TTL: Duration = Duration::from_secs(20);
const USUAL_CONFIDENCE: f64 = 0.7;

/// `[registry]`; paths are relative to their file.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Section {
    kind: RegistryKind,
    endpoints: Vec<String>,
    ttl: Option<Span>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    on_delete: OnDelete,
    doors: Doors,
    service: Option<String>,
    region: String,
    publish_labels: Vec<String>,
    capability_prefix: String,
    confidence: Option<f64>,
}

/// Where agents are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryKind {
    /// In the daemon.
    #[default]
    Embedded,
    /// In etcd.
    Etcd,
}

/// `doors`: `unix`, `unix:/DIRECTORY`, `127.0.0.1:FIRST-LAST`, or `*.DOMAIN:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
enum Doors {
    #[default]
    Unix,
    /// A directory that is there, whose group may connect.
    Directory(PathBuf),
    Loopback(Ipv4Addr, u16, u16),
    /// At the service itself, by the agent's name.
    Named {
        domain: String,
        port: u16,
    },
}

impl TryFrom<String> for Doors {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Doors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        if let Some(directory) = text.strip_prefix("unix:").filter(|directory| directory.starts_with('/')) {
            return Ok(Self::Directory(directory.into()));
        }
        let refused = || {
            format!(
                "{text:?} is no place for doors: write \"unix\", \"unix:/DIRECTORY\", \"127.0.0.1:47000-47999\" or \
                 \"*.agents.example.org:7443\""
            )
        };
        let (address, ports) = text.rsplit_once(':').ok_or_else(refused)?;
        if let Some(domain) = address.strip_prefix("*.") {
            let domain = domain.to_ascii_lowercase();
            let port =
                ports.parse().ok().filter(|port| *port > 0 && is_domain(&domain)).ok_or_else(refused)?;
            return Ok(Self::Named { domain, port });
        }
        let (first, last) = ports.split_once('-').ok_or_else(refused)?;
        let address: Ipv4Addr = address.parse().map_err(|_| refused())?;
        let (first, last): (u16, u16) =
            (first.parse().map_err(|_| refused())?, last.parse().map_err(|_| refused())?);
        if !address.is_loopback() {
            return Err(format!(
                "{address} is no loopback address, and these doors ask nobody who they are: write \
                 \"*.agents.example.org:7443\" for doors that do"
            ));
        }
        if first < 1024 || last < first {
            return Err(refused());
        }
        Ok(Self::Loopback(address, first, last))
    }
}

/// Names that a host can have (RFC 1123, 2.1), and room for a label before them.
fn is_domain(domain: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= 253 - 64 && domain.split('.').all(is_label)
}

impl Section {
    /// Why it cannot be meant; none: it can.
    pub(super) fn contradiction(&self) -> Option<String> {
        if self.confidence.is_some_and(|confidence| !(0.0..=1.0).contains(&confidence)) {
            return Some("`confidence` is between 0 and 1".into());
        }
        if self.kind == RegistryKind::Embedded {
            let is_told_of_etcd = !self.endpoints.is_empty() || self.ca.is_some() || self.user.is_some();
            return is_told_of_etcd.then(|| "it names etcd, but `kind = \"etcd\"` is missing".into());
        }
        if self.ttl.is_some_and(|Span(ttl)| !TTL.contains(&ttl)) {
            return Some("`ttl` is between 5s and 300s".into());
        }
        if self.cert.is_some() != self.key.is_some() {
            return Some("`cert` and `key` go together".into());
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Some("`user` and `password-file` go together".into());
        }
        self.access().contradiction()
    }

    /// Its paths, as they are meant.
    pub(super) fn beside(mut self, directory: &Path) -> Self {
        for path in
            [&mut self.ca, &mut self.cert, &mut self.key, &mut self.password_file].into_iter().flatten()
        {
            *path = directory.join(&*path);
        }
        self
    }

    fn access(&self) -> Access {
        Access {
            endpoints: self.endpoints.clone(),
            ca: self.ca.clone(),
            identity: self.cert.clone().zip(self.key.clone()),
            user: self.user.clone().zip(self.password_file.clone()),
        }
    }

    /// The way to etcd, if agents are registered there.
    pub fn etcd(&self) -> Option<Access> {
        (self.kind == RegistryKind::Etcd).then(|| self.access())
    }

    /// For the registry of this node.
    pub fn settings(
        &self,
        node: &str,
        node_id: String,
        port: u16,
        runtime: &str,
        places: &Places,
    ) -> Settings {
        let etcd = || EtcdSettings {
            access: self.access(),
            ttl: self.ttl.map_or(USUAL_TTL, |Span(ttl)| ttl),
            on_delete: self.on_delete,
        };
        Settings {
            kind: match self.kind {
                RegistryKind::Embedded => Kind::Embedded,
                RegistryKind::Etcd => Kind::Etcd(etcd()),
            },
            node: node.to_owned(),
            node_id,
            service: self.service.clone().unwrap_or_else(|| format!("https://{node}:{port}")),
            runtime: runtime.to_owned(),
            region: self.region.clone(),
            publish_labels: self.publish_labels.clone(),
            capability_prefix: self.capability_prefix.clone(),
            confidence: self.confidence.unwrap_or(USUAL_CONFIDENCE),
            doors: match &self.doors {
                Doors::Unix => DoorPlace::Unix(places.doors()),
                Doors::Directory(directory) => DoorPlace::Unix(directory.clone()),
                Doors::Loopback(address, first, last) => DoorPlace::Loopback(*address, *first, *last),
                Doors::Named { domain, port } => DoorPlace::Named { domain: domain.clone(), port: *port },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        match toml::from_str::<Section>(text) {
            Ok(section) => section.contradiction().unwrap_or_default(),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_can() {
        let etcd =
            |more: &str| said(&format!("kind = 'etcd'\nendpoints = ['https://e:2379']\nca = 'a'\n{more}"));
        assert_eq!((etcd(""), said("")), (String::new(), String::new()));
        assert!(said("kind = 'etcd'").contains("no `endpoints`"));
        assert!(said("endpoints = ['https://e:2379']").contains("is missing"));
        assert!(said("kind = 'etcd'\nendpoints = ['https://e:2379']").contains("needs `ca`"));
        assert!(etcd("ttl = '1s'").contains("5s"));
        assert!(etcd("cert = 'c'").contains("go together"));
        assert!(etcd("user = 'u'").contains("password-file"));
        assert!(etcd("doors = '0.0.0.0:47000-47999'").contains("no loopback"));
        assert!(etcd("doors = '127.0.0.1:47999-47000'").contains("no place"));
        assert!(etcd("doors = 'unix:relative'").contains("no place"));
        assert!(etcd("doors = '*.:7443'").contains("no place"));
        assert!(etcd("doors = '*.a_b:7443'").contains("no place"));
        assert_eq!(etcd("doors = '*.Agents.example.org:7443'"), "");
        assert!(etcd("on-delete = 'ignore'").contains("restore"));
        assert!(said("confidence = 7.0").contains("between 0 and 1"));
    }

    #[test]
    fn an_agent_is_gone_after_twenty_seconds_and_answers_on_a_socket_unless_that_is_said_otherwise() {
        let section: Section =
            toml::from_str("kind = 'etcd'\nendpoints = ['http://127.0.0.1:2379']").expect("TOML");
        let settings = section.settings("n", "x".into(), 7443, "local", &Places::under("/d"));
        let Kind::Etcd(etcd) = settings.kind else { panic!("etcd was asked for") };
        assert_eq!((etcd.ttl.as_secs(), etcd.on_delete), (20, OnDelete::Restore));
        assert_eq!(settings.doors, DoorPlace::Unix("/d/run/stockade/doors".into()));
        assert_eq!(settings.service, "https://n:7443");
    }
}
