//! The material in force, and its replacement: all of it, or nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::material::{Material, MaterialError};
use crate::daemon::authz::decision::Log;
use crate::daemon::authz::{Authz, Record};
use crate::daemon::config::{self, Config, ConfigError, TlsFiles};
use crate::wire::service::Places;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How many looks later what could not be used is tried again.
const AGAIN: u64 = 10;

/// Why there is nothing to serve with.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What it names.
    #[error(transparent)]
    Material(#[from] MaterialError),
}

impl LoadError {
    /// With the cause.
    pub fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}

/// How the last attempt went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Why what lies there now is not in force.
    pub error: Option<String>,
}

/// Where files come from, what is in force, and who hears of a change.
pub struct Live {
    places: Places,
    file: Option<PathBuf>,
    /// The files as they were when they were read for the first time.
    read: Vec<Seen>,
    started_with: Config,
    config: ArcSwap<Config>,
    material: ArcSwap<Material>,
    authz: Arc<Authz>,
    status: ArcSwap<Status>,
    generation: AtomicU64,
    refused: AtomicU64,
    changed: Notify,
    followers: Mutex<Vec<Follower>>,
}

/// Does what a new configuration says; nothing of it can fail any more.
type Follower = Box<dyn Fn(&Config) + Send>;

impl Live {
    /// Reads everything for the first time.
    ///
    /// # Errors
    /// When any of it cannot be used.
    pub fn load(places: Places, file: Option<PathBuf>) -> Result<Arc<Self>, LoadError> {
        Self::recording(places, file, Box::new(Log))
    }

    /// The same; `record` hears of every decision, and of every change.
    ///
    /// # Errors
    /// When any of it cannot be used.
    pub fn recording(
        places: Places,
        file: Option<PathBuf>,
        record: Box<dyn Record>,
    ) -> Result<Arc<Self>, LoadError> {
        // Looked at before they are read: what changes meanwhile differs from this.
        let mut read = look_at_config(&places, file.as_deref());
        let config = Config::load(&places, file.as_deref())?;
        read.extend(look_at_tls(&config.tls));
        let material = Material::load(&config)?;
        let authz = Arc::new(Authz::recording((*material.grants).clone(), record));
        Ok(Arc::new(Self {
            places,
            file,
            read,
            started_with: config.clone(),
            config: ArcSwap::from_pointee(config),
            material: ArcSwap::from_pointee(material),
            authz,
            status: ArcSwap::default(),
            generation: AtomicU64::new(1),
            refused: AtomicU64::new(0),
            changed: Notify::new(),
            followers: Mutex::default(),
        }))
    }

    /// This is done now, and again with each configuration that comes into force.
    pub fn follow_config(&self, follower: impl Fn(&Config) + Send + 'static) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        follower(&self.config());
        followers.push(Box::new(follower));
    }

    /// The configuration in force. What the process was started with (addresses, limits) does not follow it.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The material in force.
    pub fn material(&self) -> Arc<Material> {
        self.material.load_full()
    }

    /// Who decides by its grants.
    pub fn authz(&self) -> &Arc<Authz> {
        &self.authz
    }

    /// How the last attempt to read it anew went.
    pub fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    /// Grows with each material that comes into force; and how many did not.
    pub fn counts(&self) -> (u64, u64) {
        (self.generation.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Waits until another material is in force, or the one in force is no longer valid in full.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Reads everything anew. What is in force changes only if all of it can be used.
    pub fn reload(&self) {
        let attempt = || -> Result<_, LoadError> {
            let config = Config::load(&self.places, self.file.as_deref())?;
            let material = Material::load(&config)?;
            Ok((config, material))
        };
        match attempt() {
            Ok((config, material)) => self.replace(config, material),
            Err(error) => {
                let error = Some(error.explain());
                // Once for each mistake, however often it is looked at.
                if self.status.load().error != error {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    let error = error.as_deref().unwrap_or_default();
                    self.authz.record().reloaded(Err(error));
                    tracing::error!(
                        error,
                        "what was changed cannot be used: what was in force stays in force"
                    );
                }
                self.status.store(Arc::new(Status { error }));
            }
        }
    }

    fn replace(&self, config: Config, material: Material) {
        let waits = self.started_with.waits_for_a_start(&config);
        if !waits.is_empty() {
            let waits = waits.join(", ");
            tracing::warn!(waits, "this was changed, too, and takes effect at the next start");
        }
        self.authz.replace(Arc::clone(&material.grants));
        self.material.store(Arc::new(material));
        let config = Arc::new(config);
        self.config.store(Arc::clone(&config));
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.iter().for_each(|follower| follower(&config));
        drop(followers);
        self.status.store(Arc::default());
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        self.authz.record().reloaded(Ok(&waits));
        tracing::info!(generation, "the configuration, certificates, revocations and grants were read anew");
        self.changed.notify_one();
    }

    /// Looks at the files until the end: reads them anew once they have changed and then stayed the same for a moment,
    /// so that nobody has to write four of them at once.
    pub async fn follow(&self) {
        let mut tried = self.read.clone();
        let mut seen = tried.clone();
        let mut expired_told = None;
        for tick in 0_u64.. {
            tokio::time::sleep(LOOK).await;
            let now = self.look();
            // What a broken configuration names may be put right without anybody touching the configuration.
            let again = self.status.load().error.is_some() && tick % AGAIN == 0;
            if (now != tried || again) && now == seen {
                tried = now.clone();
                self.reload();
            }
            seen = now;
            let until = self.material.load().valid_until;
            if until <= SystemTime::now() && expired_told != Some(until) {
                expired_told = Some(until);
                self.reload();
                // Whether or not there is something newer: what is open was let in by what is no longer valid.
                self.changed.notify_one();
            }
        }
    }

    fn look(&self) -> Vec<Seen> {
        look_at(&self.places, self.file.as_deref(), &self.config.load().tls)
    }
}

/// What can be seen of the files from outside: cheap enough to look twice a second.
fn look_at(places: &Places, file: Option<&Path>, tls: &TlsFiles) -> Vec<Seen> {
    [look_at_config(places, file), look_at_tls(tls)].concat()
}

/// Also fragments that came later, or could not be used.
fn look_at_config(places: &Places, file: Option<&Path>) -> Vec<Seen> {
    let more = config::load::more(places, file);
    let fragments = config::load::fragments(&more).unwrap_or_default();
    [config::load::main(places, file), more].into_iter().chain(fragments).map(|path| look(&path)).collect()
}

fn look_at_tls(TlsFiles { cert, key, client_ca, crl }: &TlsFiles) -> Vec<Seen> {
    [cert, key, client_ca].into_iter().chain(crl).map(|path| look(path)).collect()
}

/// Device, inode, time of the last change, size.
type Seen = Option<(u64, u64, i64, i64, u64)>;

fn look(path: &Path) -> Seen {
    let seen = fs::metadata(path).ok()?;
    Some((seen.dev(), seen.ino(), seen.ctime(), seen.ctime_nsec(), seen.size()))
}
