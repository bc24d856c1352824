//! What holds the place of protected paths that a workspace does not have yet (CVE-2026-25725: an agent creates the
//! configuration that the host will later trust).
//!
//! A mount needs something to stand on, so what is missing is made for the time of the run and removed after it: an empty
//! directory, or for a file a socket with mode 0, which git does not count as a file and nobody can open. Inside, a
//! cover lies over it (`devices::make_covers`).
//!
//! ```text
//!  /run/stockade/held-<device>-<inode of the workspace>   the ledger: absolute paths, one a line
//!    flock(2), shared    by every run in that workspace, as long as it lives
//!    flock(2), exclusive by the last run to leave, which removes what the ledger names
//!    fcntl(2)            for the moment of a change, by who joins and by who leaves; the two kinds do not mix
//! ```
//! A run that is killed leaves the ledger to its keeper, and if that is killed, too, to the next run in the workspace.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, flock, fstat,
    mkdirat, mknodat, openat, openat2, unlinkat,
};
use rustix::io::Errno;

use super::ids;
use crate::ordered;
use crate::plan::{Bind, Mount, Owner, Source, StandIn};

/// `commondir` of a repository that is its own.
const ITSELF: &[u8] = b".\n";

/// The ledgers that this run holds: one for the workspace, one for the repository of a linked worktree.
#[derive(Default)]
pub struct Placeholders {
    ledgers: Vec<Ledger>,
}

/// Why a protected path cannot be protected.
#[derive(Debug, thiserror::Error)]
pub enum PlaceholderError {
    /// A component is a symbolic link.
    #[error("protected path {} in the workspace goes through a symbolic link, which an agent could redirect", .0.display())]
    Symlink(PathBuf),
    /// What was there when the plan was made is gone.
    #[error("{} was removed while the sandbox was made: try again", .0.display())]
    Changed(PathBuf),
    /// Anything else.
    #[error("cannot hold the place of protected path {}: {source}", path.display())]
    Hold {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Placeholders {
    /// Makes what is missing for the plan's protected paths. `announce` is told each ledger before anything is made.
    pub fn hold(
        mounts: &[Mount],
        mut announce: impl FnMut(&Path) -> io::Result<()>,
    ) -> Result<Self, PlaceholderError> {
        let mut placeholders = Self::default();
        match placeholders.join_and_place(mounts, &mut announce) {
            Ok(()) => Ok(placeholders),
            Err(error) => {
                placeholders.remove();
                Err(error)
            }
        }
    }

    fn join_and_place(
        &mut self,
        mounts: &[Mount],
        announce: &mut impl FnMut(&Path) -> io::Result<()>,
    ) -> Result<(), PlaceholderError> {
        // Whoever stands on something that another run made needs it as long, so that the ledger is joined even by a
        // run that makes nothing itself. All of them in one order, for two runs must not wait for each other.
        let roots = ordered::set(protected(mounts).map(|(_, root, ..)| root));
        for root in roots {
            self.join(root, announce)
                .map_err(|source| PlaceholderError::Hold { path: root.to_path_buf(), source })?;
        }
        for (bind, root, path, stand_in) in protected(mounts) {
            let failed = |source: io::Error| match Errno::from_io_error(&source) {
                Some(Errno::LOOP) => PlaceholderError::Symlink(path.to_path_buf()),
                Some(Errno::NOENT) => PlaceholderError::Changed(root.join(path)),
                _ => PlaceholderError::Hold { path: root.join(path), source },
            };
            let Some(stand_in) = stand_in else {
                check_present(root, path).map_err(failed)?;
                continue;
            };
            let ledger = self.ledgers.iter_mut().find(|ledger| ledger.root == root);
            let ledger = ledger.expect("each root's ledger was joined above");
            ledger.place(root, path, stand_in, bind.owner).map_err(failed)?;
        }
        self.ledgers.iter().for_each(Ledger::unlock);
        Ok(())
    }

    fn join(&mut self, root: &Path, announce: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
        let path = Ledger::path_for(root)?;
        announce(&path)?;
        self.ledgers.push(Ledger::open(root, path)?);
        Ok(())
    }

    /// Removes what no other run needs.
    pub fn remove(self) {
        for ledger in self.ledgers {
            ledger.close();
        }
    }
}

/// Does for a killed run what [`Placeholders::remove`] would have done; says whether nothing of it is left.
pub fn settle(ledger: &Path) -> bool {
    if let Ok(file) = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(ledger) {
        Ledger { root: PathBuf::new(), path: ledger.into(), file }.close();
    }
    !ledger.exists()
}

/// The mounts of what is protected, each with its workspace, its path there, and what stands in for it if it is missing.
fn protected(mounts: &[Mount]) -> impl Iterator<Item = (&Bind, &Path, &Path, Option<StandIn>)> {
    mounts.iter().filter_map(|mount| match mount {
        Mount::Bind(bind) => match &bind.source {
            Source::Protected { root, path, stand_in } => {
                Some((bind, root.as_path(), path.as_path(), *stand_in))
            }
            Source::Path { .. } => None,
        },
        _ => None,
    })
}

/// Settles what runs left behind whose keeper was killed, too: no later run may ever come to their workspace.
pub fn settle_abandoned() {
    let entries = ids::existing_directory().map(std::fs::read_dir);
    for entry in entries.into_iter().flatten().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(LEDGER_NAME.as_bytes()) {
            settle(&entry.path()); // one that is in use is locked, and stays
        }
    }
}

/// How the names of ledgers begin.
const LEDGER_NAME: &str = "held-";

struct Ledger {
    root: PathBuf,
    path: PathBuf,
    file: File,
}

impl Ledger {
    fn path_for(root: &Path) -> io::Result<PathBuf> {
        let found = fstat(open_root(root)?)?;
        Ok(ids::directory()?.join(format!("{LEDGER_NAME}{:x}-{}", found.st_dev, found.st_ino)))
    }

    /// Joined, and locked for changes.
    fn open(root: &Path, path: PathBuf) -> io::Result<Self> {
        loop {
            ids::directory()?;
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let file = match options.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // /run/stockade was just removed
                file => file?,
            };
            ids::lock_for_change(&file)?;
            // The last run may have removed it between open and lock.
            if ids::is_current(&file, &path)? {
                // Nobody holds it exclusively but under the lock for changes.
                flock(&file, FlockOperation::NonBlockingLockShared)?;
                return Ok(Self { root: root.into(), path, file });
            }
        }
    }

    fn unlock(&self) {
        ids::unlock_for_change(&self.file);
    }

    /// Makes what stands in for `path`. Written down before it is made, so that no moment is uncovered.
    fn place(&mut self, root: &Path, path: &Path, stand_in: StandIn, owner: Option<Owner>) -> io::Result<()> {
        let whole = root.join(path);
        let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else {
            return Err(io::Error::other("not a path in the workspace"));
        };
        let parent = open_root(parent)?;
        match open_below(parent.as_fd(), name) {
            Err(Errno::NOENT) => {}
            // Another run, or the host, made it since the plan was: it stands as well.
            found => return found.map(drop).map_err(io::Error::from),
        }
        if whole.as_os_str().as_bytes().contains(&b'\n') {
            return Err(io::Error::other("a line break in its name"));
        }
        self.file.write_all(&[whole.as_os_str().as_bytes(), b"\n"].concat())?;
        make(parent.as_fd(), name, stand_in, owner)
    }

    /// Leaves; the last to leave removes what was made.
    fn close(mut self) {
        // If it was removed meanwhile, whoever removed it was the last.
        let is_ours =
            || ids::lock_for_change(&self.file).and_then(|()| ids::is_current(&self.file, &self.path));
        if !is_ours().unwrap_or(false) {
            return;
        }
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        let mut listed = Vec::new();
        if self.file.seek(SeekFrom::Start(0)).is_ok() {
            let lines = BufReader::new(&self.file).split(b'\n').map_while(Result::ok);
            listed = lines.map(|line| PathBuf::from(std::ffi::OsString::from_vec(line))).collect();
        }
        for path in listed.iter().rev() {
            remove(path);
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes one placeholder, if it still is one.
fn remove(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
    let Ok(parent) = open_root(parent) else { return };
    let Ok(fd) = open_below(parent.as_fd(), name) else { return };
    let Ok(found) = fstat(&fd) else { return };
    // What the host has put there meanwhile stays: rmdir(2) takes only an empty directory.
    let _ = match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => unlinkat(&parent, name, AtFlags::REMOVEDIR),
        FileType::Socket if found.st_mode & 0o7777 == 0 => unlinkat(&parent, name, AtFlags::empty()),
        FileType::RegularFile if says_itself(&fd) => unlinkat(&parent, name, AtFlags::empty()),
        _ => Ok(()),
    };
}

fn says_itself(file: &OwnedFd) -> bool {
    // Through /proc, for an O_PATH descriptor cannot be read; it is known to be a regular file.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read(path).is_ok_and(|content| content == ITSELF)
}

fn make(at: BorrowedFd<'_>, name: &OsStr, stand_in: StandIn, owner: Option<Owner>) -> io::Result<()> {
    match stand_in {
        StandIn::Directory => mkdirat(at, name, Mode::from_raw_mode(0o755))?,
        StandIn::File => mknodat(at, name, FileType::Socket, Mode::empty(), 0)?,
        StandIn::GitCommonDirectory => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(at, name, flags, Mode::from_raw_mode(0o444))?;
            File::from(file).write_all(ITSELF)?;
        }
    }
    if let Some(Owner { uid, gid }) = owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// It is still there, and no symbolic link leads to it.
fn check_present(root: &Path, path: &Path) -> io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(open_root(root)?, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(_) | Err(Errno::NOTDIR) => Ok(()),
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
