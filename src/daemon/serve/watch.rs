//! Why a connection has to end, for whoever streams over it.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio::sync::watch;

/// The longest that a change of the clock goes unnoticed.
const CLOCK: Duration = Duration::from_secs(30);

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closing {
    /// The client's certificate is no longer valid.
    CertificateExpired,
    /// It was revoked, or its CA is no longer trusted.
    Revoked,
    /// Its identity has no grant any more, or another one.
    GrantRemoved,
    /// The daemon ends.
    Draining,
    /// Nothing was asked for a while.
    Idle,
}

impl Closing {
    /// As clients read it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::CertificateExpired => "certificate-expired",
            Self::Revoked => "revoked",
            Self::GrantRemoved => "grant-removed",
            Self::Draining => "draining",
            Self::Idle => "idle",
        }
    }
}

/// Tells when its connection has to end. An extractor; what streams (WebSocket, SSE) waits for it beside its own
/// work, says the reason and ends. Whoever does not is cut off a few seconds later.
#[derive(Debug, Clone)]
pub struct ConnectionWatch {
    told: watch::Receiver<Option<Closing>>,
    not_after: Option<SystemTime>,
}

impl ConnectionWatch {
    pub(crate) fn new(told: watch::Receiver<Option<Closing>>, not_after: Option<SystemTime>) -> Self {
        Self { told, not_after }
    }

    /// Of a connection that never has to end: for tests, and the listener without TLS.
    pub fn never() -> Self {
        Self { told: watch::channel(None).1, not_after: None }
    }

    /// Waits until the connection has to end.
    pub async fn closing(&self) -> Closing {
        let mut told = self.told.clone();
        let told = async {
            // Copied at once: what wait_for gives is a lock, which no future may hold.
            match told.wait_for(Option::is_some).await.map(|told| *told) {
                Ok(closing) => closing.expect("waited until it is some"),
                // Its connection is gone: nobody will tell any more, and nobody is there to be told.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            closing = told => closing,
            () = expired(self.not_after) => Closing::CertificateExpired,
        }
    }
}

async fn expired(not_after: Option<SystemTime>) {
    let Some(not_after) = not_after else { return std::future::pending().await };
    // In steps: the clock that certificates go by may be set, the one that timers go by is not.
    while let Ok(left) = not_after.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(CLOCK) + Duration::from_millis(1)).await;
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ConnectionWatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(Self::never))
    }
}
