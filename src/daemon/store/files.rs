//! Files that records are written to before they get their names, made before they are wanted: to make a file is what costs in
//! a start (ext4 without a journal looks at all that were removed lately), and each start writes its record twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// So many wait: for a hundred starts at once.
const WANTED: usize = 200;

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
    /// The highest number of one so far.
    made: u64,
}

impl Files {
    /// Those of this directory, the ones that an earlier daemon has left included.
    pub(super) fn of(directory: PathBuf) -> io::Result<Self> {
        let mut waiting = Waiting::default();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(number) = name.strip_suffix(SUFFIX) else { continue };
            match number.parse() {
                Ok(number) => {
                    // It may have been killed while it wrote to it.
                    OpenOptions::new().write(true).truncate(true).open(&path)?;
                    waiting.made = waiting.made.max(number);
                    waiting.files.push(path);
                }
                Err(_) => fs::remove_file(path)?,
            }
        }
        Ok(Self(Arc::new(Owner { directory, waiting: Mutex::new(waiting) })))
    }

    /// Replaces a file as a whole: after a crash of this process there is the old one or the new one.
    pub(super) fn put(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let (own, mut file) = self.take()?;
        file.write_all(content).and_then(|()| fs::rename(&own, path)).inspect_err(|_| {
            let _ = fs::remove_file(&own);
        })
    }

    /// Makes what is missing: for when nobody waits. What cannot be made now is made by whoever wants it.
    pub(super) fn prepare(&self) {
        while self.waiting().files.len() < WANTED
            && let Ok((path, _)) = self.make()
        {
            self.waiting().files.push(path);
        }
    }

    fn take(&self) -> io::Result<(PathBuf, File)> {
        let waiting = self.waiting().files.pop();
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
    fn files_wait_and_become_records_as_they_are() {
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
        assert_eq!(waiting.len(), 1 + WANTED);
        put("b.json", "first");
        put("a.json", "3");
        let left = listed(directory.path());
        assert!(left.iter().all(|(_, inode)| waiting.contains(inode)), "{left:?}");
        assert_eq!(left.len(), WANTED, "two of them have become records, and one record is replaced");
    }

    #[test]
    fn what_an_earlier_daemon_has_left_is_used_whatever_is_in_it_and_what_somebody_has_removed_is_made() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["7~", "a.json~", "a.json"] {
            fs::write(directory.path().join(name), "half of what was longer").expect("written");
        }
        let files = Files::of(directory.path().to_path_buf()).expect("opened");
        assert_eq!(listed(directory.path()).len(), 2, "a.json~ can be nothing");
        files.put(&directory.path().join("b.json"), b"whole").expect("written");
        assert_eq!(fs::read(directory.path().join("b.json")).expect("read"), b"whole");
        assert_eq!(listed(directory.path()).len(), 2);
        files.prepare();
        fs::remove_file(directory.path().join(format!("{}~", 7 + WANTED))).expect("it waited");
        files.put(&directory.path().join("c.json"), b"whole").expect("written");
        assert_eq!(fs::read(directory.path().join("c.json")).expect("read"), b"whole");
    }
}
