//! The face that an unmodified Parallax drives.
//!
//! ```text
//!  /api/agents, /api/threads ─▶ request ─▶ supervisor ─▶ handle, words ─▶ answer
//!  supervisor's events ─▶ bridge ─▶ bus ─▶ sockets (/ws, /ws/events)
//!                           └─ store: what is kept of threads
//! ```

pub mod agents;
pub mod bridge;
pub mod bus;
pub mod handle;
pub mod output;
pub mod request;
#[cfg(test)]
mod request_tests;
pub mod sockets;
mod spawns;
pub mod store;
pub mod terminal;
pub mod text;
pub mod threads;
pub mod words;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bus::Bus;
use spawns::Spawns;
use store::Store;

use super::authz::{Caller, Endpoint, Role, Routes};
use super::supervisor::Supervisor;
use crate::api::agent::Stats;

/// What this face works with, beside the supervisor. Cheap to clone.
#[derive(Clone)]
pub struct Parallax {
    /// The agents.
    pub(crate) supervisor: Supervisor,
    /// What this runtime is called in handles: the control plane's slot.
    pub(crate) runtime_name: Arc<str>,
    /// The threads.
    pub(crate) threads: Store,
    /// Whom to tell.
    pub(crate) bus: Bus,
    /// Sees every tenant's agents, and types nothing: what it finds is shown only to those who may see it.
    pub(crate) eye: Caller,
    /// Which executions ask for threads.
    pub(crate) spawns: Spawns,
    /// By agent: CPU seconds at the last look.
    looks: Arc<Mutex<HashMap<String, (Instant, f64)>>>,
}

impl Parallax {
    /// Reads the records below `records`, and tells from now on what happens. Within a runtime.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn start(supervisor: Supervisor, records: &Path, runtime_name: &str) -> io::Result<Self> {
        let eye = Caller {
            identity: "stockaded".into(),
            role: Role::Admin,
            tenant: "stockaded".parse().expect("a plain name"),
            serial: String::new(),
        };
        let parallax = Self {
            supervisor,
            runtime_name: runtime_name.into(),
            threads: Store::open(records.join("threads"))?,
            bus: Bus::default(),
            eye,
            spawns: Spawns::default(),
            looks: Arc::default(),
        };
        tokio::spawn(bridge::Bridge::run(parallax.clone()));
        Ok(parallax)
    }

    /// Percent of one CPU since the last look, else since the start.
    pub(crate) fn cpu_percent(&self, stats: &Stats) -> Option<f64> {
        let mut looks = self.looks.lock().expect("nobody panics while holding it");
        let now = Instant::now();
        looks.retain(|_, (at, _)| now.duration_since(*at).as_secs() < 3600);
        let used = stats.cpu_seconds?;
        let (seconds, of) = match looks.insert(stats.id.clone(), (now, used)) {
            Some((at, before)) if before <= used => (now.duration_since(at).as_secs_f64(), used - before),
            _ => (stats.uptime?, used),
        };
        (seconds > 0.0).then(|| (of / seconds * 1000.0).round() / 10.0)
    }
}

/// Its routes.
pub fn routes() -> Routes {
    Routes::new()
        .on(Endpoint::Root, agents::root)
        .on(Endpoint::ParallaxHealth, agents::health)
        .on(Endpoint::ParallaxAgents, agents::list)
        .on(Endpoint::ParallaxSpawn, agents::spawn)
        .on(Endpoint::ParallaxAgent, agents::get)
        .on(Endpoint::ParallaxStop, agents::stop)
        .on(Endpoint::ParallaxRestart, agents::restart)
        .on(Endpoint::ParallaxSend, agents::send)
        .on(Endpoint::ParallaxLogs, agents::logs)
        .on(Endpoint::ParallaxMetrics, agents::metrics)
        .on(Endpoint::ParallaxThreads, threads::list)
        .on(Endpoint::ParallaxThreadSpawn, threads::spawn)
        .on(Endpoint::ParallaxThread, threads::get)
        .on(Endpoint::ParallaxThreadStop, threads::stop)
        .on(Endpoint::ParallaxThreadSend, threads::send)
        .on(Endpoint::ParallaxCleanup, agents::cleanup)
        .on(Endpoint::ParallaxBus, sockets::bus)
        .on(Endpoint::ParallaxEvents, sockets::events)
        .on(Endpoint::ParallaxTerminal, terminal::attach)
}
