//! Files that records are written to before they get their names, made before they are wanted: to make a file is what costs in
//! a start (ext4 without a journal looks at all that were removed lately), and each start writes its record twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// So many wait at most.
const MOST: usize = 256;

/// No id ends like that.
const SUFFIX: char = '~';

/// The files of one directory. Cheap to clone.
#[derive(Clone)]
pub(super) struct Files(Arc<Owner>);

struct Owner {
    directory: PathBuf,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    files: Vec<PathBuf>,
    /// As many as were wanted at most between two times to make some.
    wanted: usize,
    taken: usize,
    made: u64,
}

impl Files {
    /// Those of this directory; what an earlier daemon has left is removed.
    pub(super) fn of(directory: PathBuf) -> io::Result<Self> {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(SUFFIX) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self(Arc::new(Owner { directory, waiting: Mutex::default() })))
    }

    /// Replaces a file as a whole: after a crash of this process there is the old one or the new one.
    pub(super) fn put(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let (own, mut file) = self.take()?;
        file.write_all(content).and_then(|()| fs::rename(&own, path)).inspect_err(|_| {
            let _ = fs::remove_file(&own);
        })
    }

    /// Makes as many as were taken since the last time, or once: for when nobody waits. What cannot be made now is made by
    /// whoever wants it.
    pub(super) fn prepare(&self) {
        let mut missing = {
            let mut waiting = self.waiting();
            waiting.wanted = waiting.wanted.max(std::mem::take(&mut waiting.taken)).min(MOST);
            waiting.wanted.saturating_sub(waiting.files.len())
        };
        while missing > 0
            && let Ok((path, _)) = self.make()
        {
            self.waiting().files.push(path);
            missing -= 1;
        }
    }

    fn take(&self) -> io::Result<(PathBuf, File)> {
        let waiting = {
            let mut waiting = self.waiting();
            waiting.taken += 1;
            waiting.files.pop()
        };
        match waiting.map(|path| (OpenOptions::new().write(true).open(&path), path)) {
            Some((Ok(file), path)) => Ok((path, file)),
            _ => self.make(),
        }
    }

    fn make(&self) -> io::Result<(PathBuf, File)> {
        let number = {
            let mut waiting = self.waiting();
            waiting.made += 1;
            waiting.made
        };
        let path = self.0.directory.join(format!("{number}{SUFFIX}"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn listed(directory: &Path) -> BTreeSet<(String, u64)> {
        let entries = fs::read_dir(directory).expect("listed").flatten();
        let named = entries.map(|entry| {
            (entry.file_name().into_string().expect("plain"), entry.metadata().expect("there").ino())
        });
        named.collect()
    }

    #[test]
    fn as_many_files_wait_as_were_wanted_and_become_records_as_they_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::of(directory.path().to_path_buf()).expect("opened");
        let at = |name: &str| directory.path().join(name);
        let put = |name: &str, text: &str| {
            files.put(&at(name), text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(at(name)).expect("read"), text);
        };
        put("a.json", "first");
        put("a.json", "2");
        assert_eq!(listed(directory.path()).len(), 1, "none waited");
        files.prepare();
        let waiting: BTreeSet<u64> = listed(directory.path()).into_iter().map(|(_, inode)| inode).collect();
        assert_eq!(waiting.len(), 3);
        put("b.json", "first");
        put("a.json", "3");
        let left = listed(directory.path());
        assert!(left.iter().all(|(_, inode)| waiting.contains(inode)), "{left:?}");
        assert_eq!(left.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a.json", "b.json"]);
    }

    #[test]
    fn what_an_earlier_daemon_has_left_is_gone_and_what_somebody_has_removed_is_made() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["1~", "a.json~", "a.json"] {
            fs::write(directory.path().join(name), "half").expect("written");
        }
        let files = Files::of(directory.path().to_path_buf()).expect("opened");
        assert_eq!(listed(directory.path()).len(), 1);
        files.put(&directory.path().join("b.json"), b"whole").expect("written");
        files.prepare();
        fs::remove_file(directory.path().join("2~")).expect("it waited");
        files.put(&directory.path().join("c.json"), b"whole").expect("written");
        assert_eq!(fs::read(directory.path().join("c.json")).expect("read"), b"whole");
    }
}
