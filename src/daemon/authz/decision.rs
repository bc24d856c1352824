//! What was decided about a request, for whoever keeps account.

use super::{Caller, Endpoint};

/// One decision.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// What was called.
    pub endpoint: Endpoint,
    /// By whom.
    pub identity: &'a str,
    /// Serial number of its certificate.
    pub serial: &'a str,
    /// Who that is here; none without a grant.
    pub caller: Option<&'a Caller>,
    /// Whether the request goes on.
    pub allowed: bool,
}

/// Hears of every decision, before its request goes on.
pub trait Record: Send + Sync {
    /// Takes note.
    fn record(&self, decision: &Decision<'_>);
}

/// Tells operators of what was refused; what was allowed, only those who ask for debugging.
pub struct Log;

impl Record for Log {
    fn record(&self, decision: &Decision<'_>) {
        let Decision { endpoint, identity, serial, caller, allowed } = *decision;
        let role = caller.map_or("none", |caller| caller.role.name());
        let tenant = caller.map_or("", |caller| caller.tenant.as_str());
        if allowed {
            tracing::debug!(?endpoint, identity, serial, role, tenant, "request allowed");
        } else {
            tracing::warn!(?endpoint, identity, serial, role, tenant, "request refused");
        }
    }
}
