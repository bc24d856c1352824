//! One directory in one hierarchy: made, written, read back and removed below a descriptor of its root.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::CgroupError;
use super::hybrid::pause;
use super::layout::Tree;
use super::mountinfo::Version;
use crate::id::AgentId;

/// The directory that holds all agents' groups in a v2 tree with controllers.
///
/// While it hands them down the kernel refuses to take them from the root (EBUSY), which systemd otherwise does as
/// soon as no unit of its own wants one. Elsewhere there is nothing to hand down, and a directory more would
/// double the time that a group takes, so that an agent's is `stockade-<id>` in the root.
pub(super) const HOUSE: &str = "stockade";

/// How often a group is tried again whose parent was removed by an agent that ended just then.
const MOST_RACES: usize = 1000;

/// How long the claim of a crashed owner may live on in children that are being killed, or about to exec.
const LAPSE: Duration = Duration::from_secs(1);

/// An agent's directory in one hierarchy.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) tree: Arc<Tree>,
    directory: OwnedFd,
    id: AgentId,
}

impl Group {
    /// Makes the directory; `None`: there is one of this name.
    pub(super) fn make(tree: &Arc<Tree>, id: &AgentId) -> Result<Option<Self>, CgroupError> {
        let below = relative(tree, id);
        let path = || tree.path.join(&below);
        for _ in 0..MOST_RACES {
            match rustix::fs::mkdirat(&tree.root, below.as_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) => return Self::open(tree, id),
                Err(Errno::EXIST) => return Ok(None),
                // ENODEV: the parent is open by name but being removed.
                Err(Errno::NOENT | Errno::NODEV) if has_house(tree) => {}
                Err(source) => return Err(CgroupError::Make { path: path(), source: source.into() }),
            }
            match rustix::fs::mkdirat(&tree.root, HOUSE, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(source) => {
                    return Err(CgroupError::Make { path: tree.path.join(HOUSE), source: source.into() });
                }
            }
        }
        Err(CgroupError::Make { path: path(), source: Errno::NOENT.into() })
    }

    /// Opens the directory if there is one.
    pub(super) fn open(tree: &Arc<Tree>, id: &AgentId) -> Result<Option<Self>, CgroupError> {
        let below = relative(tree, id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match open_below(&tree.root, &below, flags) {
            Ok(directory) => Ok(Some(Self { tree: Arc::clone(tree), directory, id: id.clone() })),
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(Errno::NOTDIR) => Err(CgroupError::Reserved { id: id.clone() }),
            Err(errno) => Err(cannot_open(tree.path.join(below), errno)),
        }
    }

    /// Marks the group as somebody's for as long as this process keeps it open; a crash gives it up.
    pub(super) fn claim(&self) -> Result<(), CgroupError> {
        match rustix::fs::flock(&self.directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if self.is_still_there() => Ok(()),
            // Removed between mkdir and lock, by one who takes it over.
            Ok(()) => Err(CgroupError::InUse { path: self.path() }),
            Err(Errno::WOULDBLOCK) => Err(CgroupError::InUse { path: self.path() }),
            Err(errno) => Err(cannot_open(self.path(), errno)),
        }
    }

    /// Claims what another left behind. A crashed owner's children may still be about to close its descriptors (the
    /// claim is the open file's, flock(2), and fork(2) shares that), so an owner counts as alive only after a while.
    pub(super) fn claim_leftover(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + LAPSE;
        loop {
            match self.claim() {
                Err(CgroupError::InUse { .. }) if self.is_still_there() && Instant::now() < deadline => {
                    pause()
                }
                result => return result,
            }
        }
    }

    /// Whether the name still leads to this very directory.
    fn is_still_there(&self) -> bool {
        let own = rustix::fs::fstat(&self.directory);
        let named =
            rustix::fs::statat(&self.tree.root, relative(&self.tree, &self.id), AtFlags::SYMLINK_NOFOLLOW);
        matches!((own, named), (Ok(own), Ok(named)) if own.st_ino == named.st_ino)
    }

    /// Where it is, for people and for attestations.
    pub(super) fn path(&self) -> PathBuf {
        self.tree.path.join(relative(&self.tree, &self.id))
    }

    /// Whether this line of `/proc/PID/cgroup` is about its hierarchy.
    pub(super) fn is_named(&self, controllers: &str) -> bool {
        match self.tree.version {
            Version::Unified => controllers.is_empty(),
            Version::Legacy => {
                let names = || controllers.split(',');
                self.tree.controllers.iter().any(|one| names().any(|name| name == one.legacy_name()))
            }
        }
    }

    /// Whether that line's path is its own. It may begin higher up than the mount does.
    pub(super) fn is_at(&self, path: &str) -> bool {
        path.strip_suffix(&relative(&self.tree, &self.id)).is_some_and(|above| above.ends_with('/'))
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Whether the kernel offers this file.
    pub(super) fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.directory, file, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Opens a control file that is on this very filesystem.
    pub(super) fn file(&self, file: &str, flags: OFlags) -> Result<OwnedFd, CgroupError> {
        open_below(&self.directory, file, flags).map_err(|errno| cannot_open(self.path().join(file), errno))
    }

    /// The whole of a control file.
    pub(super) fn read(&self, file: &str) -> Result<String, CgroupError> {
        read(&self.directory, file)
            .map_err(|source| CgroupError::Read { path: self.path().join(file), source })
    }

    /// One write of a value.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        write(&self.directory, file, value).map_err(|errno| self.refused(file, value, errno))
    }

    /// One write, then what the file reads.
    pub(super) fn set(&self, file: &str, value: &str) -> Result<String, CgroupError> {
        let open = self.file(file, OFlags::RDWR)?;
        rustix::io::write(&open, value.as_bytes()).map_err(|errno| self.refused(file, value, errno))?;
        read_all(&open).map_err(|source| CgroupError::Read { path: self.path().join(file), source })
    }

    /// Who is in the group, as this process numbers them; those it cannot number (another PID namespace) are 0.
    pub(super) fn members(&self) -> Result<Vec<u32>, CgroupError> {
        match read(&self.directory, "cgroup.procs") {
            Ok(text) => Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect()),
            // The group is gone: somebody else removed it, and it was empty then.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(Vec::new()),
            Err(source) => Err(CgroupError::Read { path: self.path().join("cgroup.procs"), source }),
        }
    }

    /// Removes the directory; `false`: there are still processes in it.
    pub(super) fn remove(&self) -> Result<bool, CgroupError> {
        match rustix::fs::unlinkat(&self.tree.root, relative(&self.tree, &self.id), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(true),
            Err(Errno::BUSY) => Ok(false),
            Err(source) => Err(CgroupError::Remove { path: self.path(), source: source.into() }),
        }
    }

    fn refused(&self, file: &str, value: &str, errno: Errno) -> CgroupError {
        CgroupError::Write { path: self.path().join(file), value: value.into(), source: errno.into() }
    }
}

/// Removes the directory that held all agents, if this was the last one.
pub(super) fn leave_house(tree: &Tree) -> Result<(), CgroupError> {
    if !has_house(tree) {
        return Ok(());
    }
    match rustix::fs::unlinkat(&tree.root, HOUSE, AtFlags::REMOVEDIR) {
        // EBUSY is what cgroupfs says for ENOTEMPTY: another agent lives there.
        Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::BUSY | Errno::NOTEMPTY) => Ok(()),
        Err(source) => Err(CgroupError::Remove { path: tree.path.join(HOUSE), source: source.into() }),
    }
}

fn has_house(tree: &Tree) -> bool {
    tree.version == Version::Unified && !tree.controllers.is_empty()
}

/// Where an agent's group is, from the root of the hierarchy.
pub(super) fn relative(tree: &Tree, id: &AgentId) -> String {
    if has_house(tree) { format!("{HOUSE}/{id}") } else { format!("{HOUSE}-{id}") }
}

/// Opens `path` below `directory`, refusing every link and every mount on the way: a limit that is written to
/// another file than the kernel's own is no limit (CVE-2025-52881).
pub(super) fn open_below(directory: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    rustix::fs::openat2(
        directory,
        path.as_c_str(),
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )
}

/// The whole of a control file below `directory`.
pub(super) fn read(directory: impl AsFd, path: &str) -> io::Result<String> {
    read_all(&open_below(directory, path, OFlags::RDONLY)?)
}

/// One write to a control file below `directory`: the kernel takes each write(2) as a whole value.
pub(super) fn write(directory: impl AsFd, path: &str, value: &str) -> Result<(), Errno> {
    let open = open_below(directory, path, OFlags::WRONLY)?;
    rustix::io::write(&open, value.as_bytes()).map(drop)
}

/// From the start, in a buffer that fits every control file but a long `cgroup.procs`.
pub(super) fn read_all(file: &OwnedFd) -> io::Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::pread(file, &mut buffer, text.len() as u64) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}

pub(super) fn cannot_open(path: PathBuf, errno: Errno) -> CgroupError {
    match errno {
        Errno::XDEV | Errno::LOOP => CgroupError::Redirected { path },
        source => CgroupError::Open { path, source: source.into() },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::layout::Controller;
    use super::*;

    fn group(version: Version, controllers: &[Controller]) -> Group {
        let root = || rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("/ exists");
        let controllers: BTreeSet<_> = controllers.iter().copied().collect();
        let tree = Arc::new(Tree { version, path: "/".into(), root: root(), controllers });
        Group { tree, directory: root(), id: "run-0".parse().expect("a name") }
    }

    #[test]
    fn a_line_of_a_process_is_its_own_only_by_hierarchy_and_by_whole_name() {
        let cpu = group(Version::Legacy, &[Controller::Cpu]);
        assert!(cpu.is_named("cpu,cpuacct") && !cpu.is_named("cpuset") && !cpu.is_named(""));
        assert!(cpu.is_at("/stockade-run-0") && cpu.is_at("/docker/1/stockade-run-0"));
        assert!(!cpu.is_at("/") && !cpu.is_at("/x-stockade-run-0") && !cpu.is_at("/stockade-run-01"));
        let unified = group(Version::Unified, &[Controller::Memory]);
        assert!(unified.is_named("") && !unified.is_named("memory"));
        assert!(unified.is_at("/stockade/run-0") && !unified.is_at("/stockade/run-0/below"));
    }
}
