//! Who may do what: an identity from a certificate, grants from the configuration, one table for every endpoint.

pub mod decision;
pub mod endpoint;
pub mod grant;
pub mod guard;
pub mod routes;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use decision::{Decision, Record};
pub use endpoint::{Action, Endpoint};
pub use grant::{Grant, Grants};
pub use routes::Routes;

use crate::daemon::serve::Peer;
use crate::id::Tenant;

/// What a caller may do at most. A role includes those before it, except that only `Auditor` and `Admin` read the audit,
/// and an auditor reads nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads the audit and nothing else.
    Auditor,
    /// Sees agents, logs, screens.
    Viewer,
    /// Also spawns, types, stops, completes logins.
    Operator,
    /// Also drains, and sees every tenant.
    Admin,
}

impl Role {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auditor => "auditor",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Who calls, once the certificate was verified and a grant found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// URI SAN (a SPIFFE id), else DNS SAN.
    pub identity: String,
    /// From the grant.
    pub role: Role,
    /// Whose agents it works with.
    pub tenant: Tenant,
    /// Serial number of its certificate, hexadecimal.
    pub serial: String,
}

impl Caller {
    /// Whether an agent of this tenant exists for this caller.
    pub fn sees(&self, tenant: &str) -> bool {
        self.role == Role::Admin || self.tenant.as_str() == tenant
    }

    /// Whether its role allows this at all.
    pub fn may(&self, action: Action) -> bool {
        action.roles().contains(&self.role)
    }
}

/// The grants in force, and who hears of every decision.
pub struct Authz {
    grants: ArcSwap<Grants>,
    record: Box<dyn Record>,
}

impl Authz {
    /// With these grants; decisions go to the operators' log.
    pub fn new(grants: Grants) -> Self {
        Self::recording(grants, Box::new(decision::Log))
    }

    /// With these grants; `record` hears of every decision before its request goes on.
    pub fn recording(grants: Grants, record: Box<dyn Record>) -> Self {
        Self { grants: ArcSwap::from_pointee(grants), record }
    }

    /// From now on these are in force, for requests on connections that are open, too.
    pub fn replace(&self, grants: Arc<Grants>) {
        self.grants.store(grants);
    }

    /// The grants in force.
    pub fn grants(&self) -> Arc<Grants> {
        self.grants.load_full()
    }

    /// Who a verified peer is here; none without a grant.
    pub fn caller(&self, peer: &Peer) -> Option<Caller> {
        let grants = self.grants.load();
        let grant = grants.of(&peer.identity)?;
        Some(Caller {
            identity: peer.identity.clone(),
            role: grant.role,
            tenant: grant.tenant.clone(),
            serial: peer.serial.clone(),
        })
    }

    /// Who keeps account.
    pub fn record(&self) -> &dyn Record {
        &*self.record
    }
}
