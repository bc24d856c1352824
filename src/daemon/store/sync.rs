//! What is to survive a power cut, at once or a little later.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A file waits until so long none has come, to share the disk's time with others and to leave it to those that somebody
/// waits for…
const PAUSE: Duration = Duration::from_millis(200);

/// … but no longer than this, and one pause.
const LONGEST: Duration = Duration::from_secs(1);

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
    waiting: Arc<Mutex<Waiting>>,
    then: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Waiting {
    paths: BTreeSet<PathBuf>,
    /// How often one has come.
    came: u64,
}

impl Later {
    /// This, too, is done whenever some were synced, and soon.
    pub(super) fn then(then: impl Fn() + Send + Sync + 'static) -> Self {
        let then = Arc::new(then);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let then = Arc::clone(&then);
            runtime.spawn_blocking(move || then());
        }
        Self { waiting: Arc::default(), then }
    }

    /// Syncs it soon; it may have been replaced, or removed, by then.
    pub(super) fn sync(&self, path: PathBuf) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut waiting = self.waiting();
        let is_first = waiting.paths.is_empty();
        waiting.came += 1;
        waiting.paths.insert(path);
        if is_first {
            runtime.spawn(self.clone().sync_once_none_comes());
        }
    }

    async fn sync_once_none_comes(self) {
        let (began, mut came) = (Instant::now(), 0);
        while came != self.waiting().came && began.elapsed() < LONGEST {
            came = self.waiting().came;
            tokio::time::sleep(PAUSE).await;
        }
        let paths = std::mem::take(&mut self.waiting().paths);
        let sync = move || {
            all(&paths);
            (self.then)();
        };
        // It fails where the runtime ends, which waits for nothing.
        let _ = tokio::task::spawn_blocking(sync).await;
    }

    /// Syncs what waits, now. Blocks.
    pub(super) fn flush(&self) {
        let paths = std::mem::take(&mut self.waiting().paths);
        all(&paths);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
