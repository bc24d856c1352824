//! Who may do what: an identity from a certificate, grants from the configuration, one table for every endpoint.

pub mod endpoint;

pub use endpoint::{Action, Endpoint};

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

/// The grants in force.
pub struct Authz {}
