//! What the daemon counts. No label names an agent, an identity or a tenant: there is no bound on those.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::daemon::authz::Endpoint;
use crate::daemon::serve::open::Open;

/// In seconds: a list of agents to a turn that is waited for.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// How a handshake went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handshake {
    /// A verified client.
    Done,
    /// Too many connections.
    Crowded,
    /// It took too long.
    Timeout,
    /// No certificate was shown.
    NoCertificate,
    /// Of another CA, expired, or naming nobody.
    Certificate,
    /// It is revoked.
    Revoked,
    /// The CRL is out of date, or lacks a CA.
    Revocation,
    /// Not TLS 1.3.
    Protocol,
    /// The client went away.
    Gone,
}

impl Handshake {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Crowded => "crowded",
            Self::Timeout => "timeout",
            Self::NoCertificate => "no-certificate",
            Self::Certificate => "certificate",
            Self::Revoked => "revoked",
            Self::Revocation => "revocation-unknown",
            Self::Protocol => "protocol",
            Self::Gone => "gone",
        }
    }

    /// What a failed handshake failed by.
    pub fn of(error: &io::Error) -> Self {
        use rustls::{CertificateError as Certificate, Error};
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidCertificate(Certificate::Revoked)) => Self::Revoked,
            Some(Error::InvalidCertificate(
                Certificate::UnknownRevocationStatus
                | Certificate::ExpiredRevocationList
                | Certificate::ExpiredRevocationListContext { .. },
            )) => Self::Revocation,
            Some(Error::InvalidCertificate(_)) => Self::Certificate,
            Some(_) => Self::Protocol,
            None => Self::Gone,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: String,
    method: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

type Durations = Family<EndpointLabel, Histogram, fn() -> Histogram>;

/// All counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Durations,
    handshakes: Family<ResultLabel, Counter>,
    open: Arc<Open>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("stockade");
        let (requests, handshakes) = (Family::default(), Family::default());
        let durations: Durations = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register("requests", "Requests answered", requests.clone());
        registry.register(
            "request_duration_seconds",
            "From a request's headers to its answer's",
            durations.clone(),
        );
        registry.register("handshakes", "Handshakes by how they ended", handshakes.clone());
        Self { registry, requests, durations, handshakes, open: Arc::default() }
    }
}

impl Metrics {
    /// The connections that are counted.
    pub fn connections(&self) -> Arc<Open> {
        Arc::clone(&self.open)
    }

    /// A request was answered.
    pub fn answered(&self, endpoint: Option<Endpoint>, method: &Method, status: StatusCode, took: Duration) {
        let endpoint = endpoint.map_or_else(|| "none".into(), |endpoint| format!("{endpoint:?}"));
        // A method that nothing here has is any text at all.
        let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE].contains(method);
        let method = if known { method.as_str() } else { "other" }.to_owned();
        let labels = RequestLabels { endpoint: endpoint.clone(), method, status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&EndpointLabel { endpoint }).observe(took.as_secs_f64());
    }

    /// A handshake ended.
    pub fn handshake(&self, how: Handshake) {
        self.handshakes.get_or_create(&ResultLabel { result: how.name() }).inc();
    }

    /// Everything that is registered here.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
