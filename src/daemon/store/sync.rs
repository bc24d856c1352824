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
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Files that are to be synced soon, each once for all changes until then. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Later(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Later {
    /// Syncs it soon; it may have been replaced, or removed, by then.
    pub(super) fn sync(&self, path: PathBuf) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.is_empty();
        waiting.insert(path);
        if is_first {
            let all = self.0.clone();
            runtime.spawn(async move {
                tokio::time::sleep(PAUSE).await;
                let waiting = std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner));
                tokio::task::spawn_blocking(move || waiting.iter().for_each(|path| drop(now(path)))).await
            });
        }
    }
}
