//! Empty files and directories that hold the place of protected paths which a workspace does not have yet
//! (CVE-2026-25725: an agent creates the configuration that the host will later trust).
//!
//! A bind mount needs something to stand on, so what is missing is made for the time of the run and removed after it.
//! A shared lock on each says that a run still needs it: several sandboxes may share one workspace.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, flock, fstat, mkdirat,
    openat, openat2, unlinkat,
};
use rustix::io::Errno;

use crate::plan::{Mount, Owner, Source};

/// The placeholders of one run, kept alive by their locks.
#[derive(Default)]
pub struct Placeholders {
    held: Vec<(PathBuf, OwnedFd)>,
}

/// Why a protected path cannot be protected.
#[derive(Debug, thiserror::Error)]
pub enum PlaceholderError {
    /// A component is a symbolic link.
    #[error(
        "protected path {0} in the workspace goes through a symbolic link, which an agent could redirect"
    )]
    Symlink(PathBuf),
    /// Anything else.
    #[error("cannot protect {path} in the workspace: {source}")]
    Hold {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Placeholders {
    /// Makes what is missing for the plan's protected paths. `announce` is told each path *before* it is made.
    pub fn hold(
        mounts: &[Mount],
        mut announce: impl FnMut(&Path) -> io::Result<()>,
    ) -> Result<Self, PlaceholderError> {
        let mut placeholders = Self::default();
        for mount in mounts {
            let Mount::Bind(bind) = mount else { continue };
            let Source::Protected { root, path, directory, even_if_missing } = &bind.source else { continue };
            let failed = |source: io::Error| match Errno::from_io_error(&source) {
                Some(Errno::LOOP) => PlaceholderError::Symlink(path.clone()),
                _ => PlaceholderError::Hold { path: path.clone(), source },
            };
            if *even_if_missing {
                placeholders.place(root, path, *directory, bind.owner, &mut announce).map_err(failed)?;
            } else {
                reject_symlink(root, path).map_err(failed)?;
            }
        }
        Ok(placeholders)
    }

    fn place(
        &mut self,
        root: &Path,
        path: &Path,
        directory: bool,
        owner: Option<Owner>,
        announce: &mut impl FnMut(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut at: OwnedFd = open_root(root)?;
        let mut so_far = root.to_path_buf();
        let mut names = path.components().peekable();
        while let Some(Component::Normal(name)) = names.next() {
            so_far.push(name);
            let last = names.peek().is_none();
            at = match open_below(at.as_fd(), name) {
                Err(Errno::NOENT) => {
                    announce(&so_far)?;
                    make(at.as_fd(), name, directory || !last, owner)?;
                    let made = open_below(at.as_fd(), name)?;
                    self.lock(&so_far, &made)?;
                    made
                }
                found => {
                    let found = found?;
                    self.adopt(&so_far, &found, announce)?;
                    found
                }
            };
        }
        Ok(())
    }

    /// Somebody else's placeholder is ours, too, from now on: whoever ends last removes it.
    fn adopt(
        &mut self,
        path: &Path,
        found: &OwnedFd,
        announce: &mut impl FnMut(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.held.iter().any(|(held, _)| held == path) || !is_empty(found)? {
            return Ok(());
        }
        let Ok(lock) = reopen(found) else { return Ok(()) };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            announce(path)?;
            self.lock(path, found)?;
        }
        Ok(())
    }

    fn lock(&mut self, path: &Path, fd: &OwnedFd) -> io::Result<()> {
        let lock = reopen(fd)?;
        flock(&lock, FlockOperation::NonBlockingLockShared)?;
        self.held.push((path.to_path_buf(), lock));
        Ok(())
    }

    /// Removes those that nobody else needs, innermost first.
    pub fn remove(self) {
        for (path, lock) in self.held.into_iter().rev() {
            drop(lock);
            remove(&path);
        }
    }
}

/// Removes one placeholder, if it is one: empty, and not in use by another run.
pub fn remove(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
    let Ok(parent) = open_root(parent) else { return };
    let Ok(found) = open_below(parent.as_fd(), name) else { return };
    let Ok(lock) = reopen(&found) else { return };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    match is_empty(&found) {
        Ok(true) => {}
        _ => return,
    }
    let directory = fstat(&found).is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_dir());
    let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    // If the host has put something of its own there meanwhile, it stays.
    let _ = unlinkat(&parent, name, flags);
}

fn make(at: BorrowedFd<'_>, name: &OsStr, directory: bool, owner: Option<Owner>) -> io::Result<()> {
    if directory {
        mkdirat(at, name, Mode::from_raw_mode(0o755))?;
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(at, name, flags, Mode::from_raw_mode(0o644))?;
    }
    if let Some(owner) = owner {
        let made = openat(at, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        fchown(&made, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    }
    Ok(())
}

fn reject_symlink(root: &Path, path: &Path) -> io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(open_root(root)?, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

fn open_below(at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(at, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The same file, open for locking. Only regular files and directories: opening a FIFO or device could block or act.
fn reopen(fd: &OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let kind = rustix::fs::FileType::from_raw_mode(fstat(fd)?.st_mode);
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::other("neither a file nor a directory"));
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

fn is_empty(fd: &OwnedFd) -> io::Result<bool> {
    let found = fstat(fd)?;
    if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir() {
        return Ok(found.st_size == 0);
    }
    let directory = reopen(fd)?;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
