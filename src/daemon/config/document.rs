//! What one configuration file says, and nothing that it does not say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::audit::AuditEntry;
use super::duration::Span;
use super::registry::Section;
use super::tenant::{IdentityEntry, TenantEntry};
use crate::daemon::authz::Role;
use crate::daemon::authz::grant::Pattern;
use crate::id::{PlaceName, Tenant};
use crate::policy::Bytes;

/// One file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)] // each is the field of the same name in `Config`
pub struct Document {
    pub listen: Option<SocketAddr>,
    pub health_listen: Option<Spanned<SocketAddr>>,
    pub tls: Tls,
    pub registry: Option<Spanned<Section>>,
    pub grant: Vec<GrantEntry>,
    pub tenant: BTreeMap<Tenant, TenantEntry>,
    pub node: Node,
    pub limits: Limits,
    pub parallax: Parallax,
    pub usage: Usage,
    pub audit: AuditEntry,
}

/// `[usage]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Usage {
    pub interval: Option<Span>,
    pub look: Option<Span>,
    pub keep: Option<Bytes>,
}

/// `[tls]`; paths are relative to their file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Tls {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
    pub crl: Option<PathBuf>,
}

/// `[[grant]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)]
pub struct GrantEntry {
    pub identity: Spanned<Pattern>,
    pub role: Role,
    pub tenant: Tenant,
    pub quota: Option<IdentityEntry>,
}

/// `[node]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Node {
    pub name: Option<PlaceName>,
}

/// `[parallax]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Parallax {
    pub runtime_name: Option<PlaceName>,
}

macro_rules! limits {
    ($($name:ident: $type:ty => $of:expr;)*) => {
        /// `[limits]`
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        #[allow(missing_docs)]
        pub struct Limits {
            $(pub $name: Option<$type>,)*
        }

        impl Limits {
            /// What this file says replaces what was said before.
            pub fn onto(&self, limits: &mut super::Limits) {
                $(if let Some(given) = self.$name { limits.$name = $of(given); })*
            }
        }
    };
}

limits! {
    connections: AtLeastOne => AtLeastOne::size;
    connections_per_identity: AtLeastOne => AtLeastOne::size;
    handshakes_per_address: AtLeastOne => AtLeastOne::size;
    requests_per_second: AtLeastOne => AtLeastOne::number;
    burst: AtLeastOne => AtLeastOne::number;
    body: Bytes => std::convert::identity;
    streams: AtLeastOne => AtLeastOne::number;
    handshake_timeout: Span => Span::time;
    header_timeout: Span => Span::time;
    body_timeout: Span => Span::time;
    idle_timeout: Span => Span::time;
    drain_timeout: Span => Span::time;
}

impl Span {
    fn time(self) -> std::time::Duration {
        self.0
    }
}

/// A number of something that there must be some of, and not without end.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
pub struct AtLeastOne(u32);

impl AtLeastOne {
    fn size(self) -> usize {
        self.0 as usize
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for AtLeastOne {
    type Error = String;

    fn try_from(given: i64) -> Result<Self, String> {
        match u32::try_from(given) {
            Ok(number @ 1..=1_000_000) => Ok(Self(number)),
            _ => Err(format!("{given} is out of range: write 1 to 1000000")),
        }
    }
}
