//! What was decided about a request, for whoever keeps account.

use std::net::SocketAddr;

use http::StatusCode;

use super::{Caller, Endpoint};

/// One decision.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// About which request.
    pub request: &'a str,
    /// What was called.
    pub endpoint: Endpoint,
    /// By which path; gRPC: authority and path.
    pub path: &'a str,
    /// By whom.
    pub identity: &'a str,
    /// From where.
    pub address: SocketAddr,
    /// Serial number of its certificate.
    pub serial: &'a str,
    /// Who that is here; none without a grant.
    pub caller: Option<&'a Caller>,
    /// Whether the request goes on.
    pub allowed: bool,
}

/// Hears of what is decided here. None of it may wait: it is called by the tasks that serve.
pub trait Record: Send + Sync {
    /// Whether a request goes on; before it does.
    fn decided(&self, decision: &Decision<'_>);

    /// A request was answered. Not called if its client is gone before.
    fn answered(&self, _decision: &Decision<'_>, _status: StatusCode) {}

    /// Somebody got no connection, for a reason that is one of a few words; whom a certificate names that was good
    /// once, and its serial number.
    fn connection_refused(&self, _: SocketAddr, _reason: &'static str, _named: Option<(&str, &str)>) {}

    /// Other certificates, revocations and grants are in force; or why those that lie there are not.
    fn reloaded(&self, _outcome: Result<&[&'static str], &str>) {}
}

/// Tells operators of what was refused; what was allowed, only those who ask for debugging.
pub struct Log;

impl Record for Log {
    fn decided(&self, decision: &Decision<'_>) {
        let Decision { request, endpoint, identity, address, serial, caller, allowed, .. } = *decision;
        let role = caller.map_or("none", |caller| caller.role.name());
        let tenant = caller.map_or("", |caller| caller.tenant.as_str());
        if allowed {
            tracing::debug!(request, ?endpoint, identity, serial, role, tenant, "request allowed");
        } else {
            tracing::warn!(request, ?endpoint, identity, %address, serial, role, tenant, "request refused");
        }
    }
}
