//! Agents by name: `ID.DOMAIN`, on the service's own port. A gRPC client sends the target that it was given as the
//! authority, so that one port is enough for all; and whoever comes has shown a certificate there, and has a grant.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::response::Response;
use sha2::{Digest, Sha256};
use tonic::Status;
use tower::Service;

use super::agent::Agent;
use super::service::Served;
use crate::daemon::Daemon;
use crate::daemon::authz::{Caller, Endpoint, Routes};

/// Of a label (RFC 1035, 2.3.4).
const LONGEST: usize = 63;
/// Before the digest of an id that is none.
const DIGEST: &str = "agent-";
const DIGITS: usize = 32;

/// Those that answer by name now. Cheap to clone.
#[derive(Clone, Default)]
pub struct Named(Arc<RwLock<BTreeMap<String, Arc<Agent>>>>);

/// Answers until it is dropped.
pub struct Registration {
    named: Named,
    host: String,
}

impl Named {
    /// From now on this agent answers by its name below `domain`: the name. None while another has it.
    pub fn register(&self, domain: &str, agent: Agent) -> Option<Registration> {
        let host = format!("{}.{domain}", label(&agent.id));
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(&host) {
            return None;
        }
        all.insert(host.clone(), Arc::new(agent));
        drop(all);
        Some(Registration { named: self.clone(), host })
    }

    fn find(&self, host: &str) -> Option<Arc<Agent>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&host.to_ascii_lowercase()).cloned()
    }
}

impl Registration {
    /// The name.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.named.0.write().unwrap_or_else(PoisonError::into_inner).remove(&self.host);
    }
}

/// An id as one label of a domain name: itself, or a digest of it where it could not be one. No id is another's digest:
/// whoever can choose ids could take a name away from another tenant.
fn label(id: &str) -> String {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let is_digest = id.strip_prefix(DIGEST).is_some_and(|rest| {
        rest.len() == DIGITS && rest.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    });
    if id.len() <= LONGEST
        && id.bytes().all(plain)
        && !id.starts_with('-')
        && !id.ends_with('-')
        && !is_digest
    {
        return id.to_owned();
    }
    let digest = Sha256::digest(id.as_bytes());
    let digits: String = digest.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    format!("{DIGEST}{digits}")
}

/// The four calls.
pub fn routes() -> Routes {
    Routes::new()
        .on(Endpoint::ConfidenceHealth, call)
        .on(Endpoint::ConfidenceCapabilities, call)
        .on(Endpoint::ConfidenceAnalyze, call)
        .on(Endpoint::ConfidenceStream, call)
}

async fn call(State(daemon): State<Daemon>, caller: Caller, request: Request) -> Response {
    // HTTP/2 has the authority in the URI; nobody speaks gRPC over anything else.
    let host = request.uri().host().unwrap_or_default().to_owned();
    // One of another tenant's is none.
    let agent = daemon.registry.named().find(&host);
    let seen = agent.filter(|agent| agent.tenant().is_some_and(|tenant| caller.sees(&tenant)));
    match seen {
        Some(agent) => match Served(agent).call(request).await {
            Ok(answer) => answer.map(axum::body::Body::new),
            Err(never) => match never {},
        },
        None => {
            let detail =
                format!("no registered agent of yours answers to {host:?}: see `stockade registry ls`");
            Status::not_found(detail).into_http::<axum::body::Body>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_own_label_where_it_can_be_one() {
        assert_eq!(label("claude-1"), "claude-1");
        let labels = ["a.b", "a_b", "A", "a-", &"x".repeat(64)].map(label);
        for label in &labels {
            assert!(label.len() == 38 && label.starts_with("agent-"), "{label}");
        }
        assert_eq!(labels.iter().collect::<std::collections::BTreeSet<_>>().len(), labels.len());
    }

    #[test]
    fn no_id_can_be_chosen_so_that_it_takes_the_name_of_another() {
        let theirs = label("a.b");
        assert_ne!(label(&theirs), theirs);
        // Nor is what is only like a digest changed.
        assert_eq!(label("agent-1"), "agent-1");
        let longer = format!("{theirs}0");
        assert_eq!(label(&longer), longer);
    }
}
