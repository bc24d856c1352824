//! What all agents of the node have in common.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::agent::Handle;
use super::collect::Look;
use super::config::{Config, Rules};
use super::launcher::Launcher;
use super::times::now;
use super::{Result, SupervisorError};
use crate::agents::Library;
use crate::daemon::audit::Audit;
use crate::daemon::events::Events;
use crate::daemon::quota::rate::Starts;
use crate::daemon::store::Store;
use crate::daemon::usage::Usage;
use crate::wire::service::Places;

/// The node, for its supervisor.
pub(crate) struct Shared {
    pub(crate) places: Places,
    pub(crate) config: Config,
    pub(crate) launcher: Launcher,
    /// A connection of its own to the launcher, for what can take its time: to end an agent.
    pub(crate) undertaker: Launcher,
    pub(crate) store: Store,
    pub(crate) events: Events,
    /// What is known about the kinds of agents.
    pub(crate) kinds: Library,
    pub(crate) audit: Audit,
    /// What was used, as it is recorded.
    pub(crate) usage: Usage,
    /// /proc/sys/kernel/random/boot_id
    pub(crate) boot: String,
    /// When this daemon began, in milliseconds since 1970.
    pub(crate) since: u64,
    rules: ArcSwap<Rules>,
    /// What the agents that run were measured to have used.
    looks: Mutex<Arc<Vec<Look>>>,
    starts: Mutex<Starts>,
    agents: Mutex<BTreeMap<String, Arc<Handle>>>,
    draining: AtomicBool,
    /// One permit for every agent that was found again.
    found: Semaphore,
}

impl Shared {
    pub(super) fn open(places: Places, config: Config, audit: Audit) -> Result<Arc<Self>> {
        let failed = |what: String| move |source: io::Error| SupervisorError::Io { what, source };
        let records = places.records();
        let store =
            Store::open(records.clone()).map_err(failed(format!("cannot open {}", records.display())))?;
        let events = Events::open(store.clone()).map_err(failed("cannot take event numbers".into()))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.map_err(failed("cannot read boot_id".into()))?.trim().to_owned();
        let launcher = Launcher::start(places.launcher_socket());
        let own = ["etc/stockade/policies/agents", "usr/lib/stockade/policies/agents"];
        let kinds = Library::of(own.map(|below| places.root().join(below)), 0);
        let is_there = |id: &str| matches!(store.get(id), Ok(Some(_))) || places.agent(id).exists();
        let usage = Usage::open(&records, &config.node, config.rules.usage.keep, is_there);
        let usage = usage.map_err(failed("cannot open the usage log".into()))?;
        let undertaker = Launcher::start(places.launcher_socket());
        Ok(Arc::new(Self {
            places,
            rules: ArcSwap::from_pointee(config.rules.clone()),
            looks: Mutex::default(),
            config,
            launcher,
            undertaker,
            store,
            events,
            kinds,
            audit,
            usage,
            boot,
            since: now(),
            starts: Mutex::default(),
            agents: Mutex::default(),
            draining: AtomicBool::new(false),
            found: Semaphore::new(0),
        }))
    }

    /// By their ids. Never held over an `await`.
    pub(crate) fn agents(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Handle>>> {
        // A panic elsewhere leaves the map whole: every change of it is one call.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be used, as it is now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// From now on.
    pub(super) fn replace_rules(&self, rules: Rules) {
        self.usage.keep(rules.usage.keep);
        self.rules.store(Arc::new(rules));
    }

    /// What the agents that run were measured to have used, a moment ago.
    pub(super) fn looks(&self) -> Arc<Vec<Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn remember(&self, looks: Vec<Look>) -> Arc<Vec<Look>> {
        let looks = Arc::new(looks);
        *self.looks.lock().unwrap_or_else(PoisonError::into_inner) = looks.clone();
        looks
    }

    /// There is no such agent any more: nothing here keeps its log open until the next look.
    pub(super) fn forget(&self, id: &str) {
        self.agents().remove(id);
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.iter().any(|(handle, _)| handle.id == id) {
            *looks = Arc::new(looks.iter().filter(|(handle, _)| handle.id != id).cloned().collect());
        }
    }

    /// Who has started how many lately. Taken after the agents, never before.
    pub(crate) fn starts(&self) -> MutexGuard<'_, Starts> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// From now on; whether it was not before.
    pub(super) fn drain(&self) -> bool {
        !self.draining.swap(true, Ordering::Relaxed)
    }

    /// One more agent was found again, or is known to have ended.
    pub(crate) fn adopted(&self) {
        self.found.add_permits(1);
    }

    /// Waits until so many were.
    pub(super) async fn all_adopted(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // Nobody closes it.
        let _ = self.found.acquire_many(count).await;
    }
}
