//! The daemon: unprivileged, tokio. It speaks with the network and holds no right; who holds rights reads no network.
//!
//! ```text
//!  TLS accept (tls) ▸ identity ▸ grants (authz) ▸ endpoint table (authz) ▸ handlers (api, parallax)
//!                                                                            │
//!                                  events ◀── supervisor ◀──────────────────┘
//!                                                │  └── terminal: log reader, screen, viewers
//!                                                ▼
//!                                       launcher, shims (wire::service)
//! ```

pub mod api;
pub mod authz;
pub mod events;
pub mod parallax;
pub mod problem;
pub mod registry;
pub mod serve;
pub mod supervisor;
pub mod terminal;
pub mod tls;

use std::sync::Arc;

use authz::Authz;
use supervisor::Supervisor;

/// What every handler works with.
#[derive(Clone)]
pub struct Daemon {
    /// Who may do what.
    pub authz: Arc<Authz>,
    /// The agents.
    pub supervisor: Supervisor,
}
