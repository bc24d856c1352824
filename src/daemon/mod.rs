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
pub mod arguments;
pub mod audit;
pub mod authz;
pub mod config;
pub mod confine;
pub mod events;
pub mod main;
pub mod operations;
pub mod parallax;
pub mod problem;
pub mod quota;
pub mod registry;
pub mod serve;
pub mod store;
pub mod supervisor;
pub mod terminal;
pub mod tls;
pub mod usage;

use std::sync::Arc;

use authz::Authz;
use operations::Metrics;
use parallax::Parallax;
use registry::Registry;
use supervisor::Supervisor;
use tls::Live;

use crate::policy::Library;

/// What every handler works with.
#[derive(Clone)]
pub struct Daemon {
    /// Who may do what.
    pub authz: Arc<Authz>,
    /// The agents.
    pub supervisor: Supervisor,
    /// The configuration and the material in force.
    pub live: Arc<Live>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the node's policies lie.
    pub policies: Arc<Library>,
    /// Who finds them, where they look.
    pub registry: Arc<Registry>,
    /// The face of Parallax: its threads, and whom it tells what.
    pub parallax: Parallax,
}
