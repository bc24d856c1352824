//! Directories that are to go. What an agent has left in them may be deep and long: they are moved out of the way at once,
//! and removed bit by bit, without recursion and with two descriptors, while nobody asks for anything.
//!
//! ```text
//!  workspaces/<tenant>/<name> ──rename──▶ .removed/17 ──what is in it──▶ .removed/18 …
//! ```

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

/// As much is removed at once.
const PORTION: usize = 256;

/// What is to go.
pub struct Refuse {
    directory: OwnedFd,
    has_some: bool,
    /// The next name.
    next: u64,
}

impl Refuse {
    /// An earlier launcher may have left some.
    pub fn of(directory: OwnedFd) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { directory, has_some: true, next: u64::try_from(now.as_micros()).unwrap_or_default() }
    }

    /// Whether there is something that could be removed.
    pub fn has_some(&self) -> bool {
        self.has_some
    }

    /// Takes `name` out of a directory that only root changes, if it is there.
    pub fn take(&mut self, parent: &Path, name: &str) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let taken = openat(CWD, parent, flags, Mode::empty())
            .and_then(|parent| self.receive(parent.as_fd(), &CString::new(name).map_err(|_| Errno::INVAL)?));
        match taken {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // A disk of its own.
            Err(Errno::XDEV) => fs::remove_dir_all(parent.join(name)),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self, parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
        self.has_some = true;
        loop {
            self.next += 1;
            let new = self.next.to_string();
            match renameat_with(parent, name, &self.directory, new, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                moved => return moved,
            }
        }
    }

    /// Removes a portion. What cannot be removed is left to the next start.
    pub fn remove_some(&mut self) {
        if !self.has_some {
            return;
        }
        let mut has_moved = false;
        for name in portion(self.directory.as_fd()) {
            has_moved |= remove(self.directory.as_fd(), &name) || self.empty(&name);
        }
        self.has_some = has_moved;
    }

    /// Takes a portion out of a directory; whether it held anything that could be moved.
    fn empty(&mut self, name: &CString) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(directory) = openat(&self.directory, name, flags, Mode::empty()) else { return false };
        let mut has_moved = false;
        for name in portion(directory.as_fd()) {
            has_moved |= remove(directory.as_fd(), &name) || self.receive(directory.as_fd(), &name).is_ok();
        }
        has_moved
    }
}

/// Some of the names in a directory.
fn portion(directory: BorrowedFd<'_>) -> Vec<CString> {
    let entries = Dir::read_from(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_owned());
    names.filter(|name| !matches!(name.as_bytes(), b"." | b"..")).take(PORTION).collect()
}

/// Removes a file, or a directory that is empty.
fn remove(directory: BorrowedFd<'_>, name: &CString) -> bool {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => unlinkat(directory, name, AtFlags::REMOVEDIR).is_ok(),
        removed => removed.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deep_and_wide_goes_with_few_descriptors_and_no_recursion() {
        let root = tempfile::tempdir().expect("a directory");
        let (removed, tenant) = (root.path().join("removed"), root.path().join("tenant"));
        fs::create_dir(&removed).expect("made");
        fs::create_dir_all(tenant.join("w/wide")).expect("made");
        fs::write(root.path().join("kept"), "x").expect("written");
        std::os::unix::fs::symlink(root.path(), tenant.join("w/link")).expect("linked");
        for file in 0..2 * PORTION {
            fs::write(tenant.join(format!("w/wide/{file}")), "x").expect("written");
        }
        // Deeper than any path, and than there may be descriptors.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |at: BorrowedFd<'_>, name: &str| openat(at, name, flags, Mode::empty()).expect("opened");
        let mut here = openat(CWD, tenant.join("w"), flags, Mode::empty()).expect("opened");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o755)).expect("made");
            here = open(here.as_fd(), "d");
        }
        drop(here);
        let mut refuse = Refuse::of(openat(CWD, &removed, flags, Mode::empty()).expect("opened"));
        refuse.take(&tenant, "w").expect("taken");
        refuse.take(&tenant, "w").expect("gone already");
        assert!(!tenant.join("w").exists());
        while refuse.has_some() {
            refuse.remove_some();
        }
        assert_eq!(fs::read_dir(&removed).expect("listed").count(), 0);
        assert!(root.path().join("kept").exists());
    }
}
