//! What is to survive a power cut, at once or a little later.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a file may wait for others, to share the disk's time with them and to leave it to those that somebody waits
/// for.
const PAUSE: Duration = Duration::from_millis(200);

/// Syncs a file and its name.
pub(super) fn now(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    File::open(directory(path))?.sync_all()
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Syncs files and their names, as many as are still there: each directory once.
fn all(paths: &BTreeSet<PathBuf>) {
    let sync = |path: &Path| drop(File::open(path).and_then(|file| file.sync_all()));
    paths.iter().for_each(|path| sync(path));
    let directories: BTreeSet<&Path> = paths.iter().map(|path| directory(path)).collect();
    directories.into_iter().for_each(sync);
}

/// Files that are to be synced soon, each once for all changes until then. Cheap to clone.
#[derive(Clone)]
pub(super) struct Later {
    waiting: Arc<Mutex<BTreeSet<PathBuf>>>,
    then: Arc<dyn Fn() + Send + Sync>,
}

impl Later {
    /// This, too, is done whenever some were synced.
    pub(super) fn then(then: impl Fn() + Send + Sync + 'static) -> Self {
        Self { waiting: Arc::default(), then: Arc::new(then) }
    }

    /// Syncs it soon; it may have been replaced, or removed, by then.
    pub(super) fn sync(&self, path: PathBuf) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.is_empty();
        waiting.insert(path);
        if is_first {
            let Self { waiting, then } = self.clone();
            runtime.spawn(async move {
                tokio::time::sleep(PAUSE).await;
                let paths = std::mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
                let sync = move || {
                    all(&paths);
                    then();
                };
                tokio::task::spawn_blocking(sync).await
            });
        }
    }
}
