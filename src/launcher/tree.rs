//! The directories of a node: who may see, enter and change what.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, RawMode, ResolveFlags, Uid, openat2};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::LauncherError;
use crate::wire::service::Places;
use crate::wire::service::claim::Settings;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// The tree, made.
pub struct Tree {
    /// Where everything is.
    pub places: Places,
    /// Where new agents get their directory.
    pub agents: OwnedFd,
    /// Where workspaces go that are to be removed: no tenant has such a name.
    pub removed: OwnedFd,
    run: OwnedFd,
    shims: OwnedFd,
    root: OwnedFd,
    uid: Uid,
    gid: Gid,
}

/// Whose a directory is.
#[derive(Debug, Clone, Copy)]
enum Whose {
    /// Root's, and the daemon's group reads it.
    Ours,
    /// The daemon's own.
    Daemon,
}

impl Tree {
    /// Makes what is missing, and puts the modes right.
    pub fn make(node: &Settings) -> Result<Self, LauncherError> {
        let places = Places::under(&node.root);
        let (uid, gid) = (Uid::from_raw(node.daemon_uid), Gid::from_raw(node.daemon_gid));
        let at = |path: &Path| {
            let what = format!("cannot use {}", path.display());
            move |source: io::Error| LauncherError::Tree { what, source }
        };
        let root = open_root(&node.root).map_err(at(&node.root))?;
        let make = |path: PathBuf, mode: RawMode, whose: Whose| {
            make(root.as_fd(), &node.root, &path, mode, whose, uid, gid).map_err(at(&path))
        };
        make(places.state(), 0o751, Whose::Ours)?;
        let agents = make(places.agents(), 0o750, Whose::Ours)?;
        make(places.homes(), 0o711, Whose::Ours)?;
        make(places.workspaces(), 0o711, Whose::Ours)?;
        let removed = make(places.workspaces().join(".removed"), 0o700, Whose::Ours)?;
        make(places.records(), 0o700, Whose::Daemon)?;
        make(places.audit(), 0o750, Whose::Daemon)?;
        let run = make(places.run(), 0o750, Whose::Ours)?;
        let shims = make(places.shims(), 0o750, Whose::Ours)?;
        make(places.orders(), 0o700, Whose::Ours)?;
        Ok(Self { places, agents, removed, run, shims, root, uid, gid })
    }

    /// The launcher's own socket.
    pub fn listen(&self) -> Result<OwnedFd, LauncherError> {
        let path = self.places.launcher_socket();
        let socket = self.bind(self.run.as_fd(), "launcher.sock");
        socket.map_err(|source| LauncherError::Tree {
            what: format!("cannot listen on {}", path.display()),
            source,
        })
    }

    /// The socket of one shim.
    pub fn listen_for(&self, id: &str) -> io::Result<OwnedFd> {
        self.bind(self.shims.as_fd(), &format!("{id}.sock"))
    }

    /// Whether somebody holds the listening end of a shim's socket, and so whether the shim lives.
    pub fn is_listening(&self, id: &str) -> bool {
        let path = format!("/proc/self/fd/{}/{id}.sock", self.shims.as_raw_fd());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (Ok(socket), Ok(address)) = (socket, SocketAddrUnix::new(path)) else { return false };
        // EAGAIN: so many knock that it has not come to them yet.
        matches!(rustix::net::connect(&socket, &address), Ok(()) | Err(Errno::AGAIN))
    }

    /// A directory of the node's own, for the daemon's agents: `homes/<tenant>/<name>`.
    pub fn make_place(&self, path: &Path) -> io::Result<()> {
        let tenant = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let root = self.places.root();
        make(self.root.as_fd(), root, tenant, 0o711, Whose::Ours, self.uid, self.gid)?;
        make(self.root.as_fd(), root, path, 0o700, Whose::Daemon, self.uid, self.gid).map(drop)
    }

    /// The directory of a new agent; `None`: it is there already. What is made in it gets the daemon's group.
    pub fn make_agent(&self, id: &str) -> io::Result<Option<OwnedFd>> {
        match rustix::fs::mkdirat(&self.agents, id, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => return Ok(None),
            made => made?,
        }
        let directory = open(self.agents.as_fd(), Path::new(id))?;
        own(directory.as_fd(), 0o2750, None, self.gid)?;
        Ok(Some(directory))
    }

    /// Reached through the directory, for a path can be longer than an address (unix(7)).
    fn bind(&self, directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => return Err(error.into()),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::fs::chownat(directory, name, None, Some(self.gid), AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(0o660), AtFlags::empty())?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    }
}

/// The root of the tree: only root decides what lies in it.
fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let root =
        openat2(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    check(root.as_fd(), path)?;
    Ok(root)
}

/// A directory below the root. Those on the way to it are made for everybody to pass.
fn make(
    root: BorrowedFd<'_>,
    root_path: &Path,
    path: &Path,
    mode: RawMode,
    whose: Whose,
    uid: Uid,
    gid: Gid,
) -> io::Result<OwnedFd> {
    let below = path.strip_prefix(root_path).map_err(io::Error::other)?;
    let mut here = root.try_clone_to_owned()?;
    let names: Vec<&OsStr> = below.iter().collect();
    for (at, name) in names.iter().enumerate() {
        let is_last = at + 1 == names.len();
        let made = match rustix::fs::mkdirat(&here, *name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        here = open(here.as_fd(), Path::new(name))?;
        match (is_last, whose) {
            (true, Whose::Daemon) => own(here.as_fd(), mode, Some(uid), gid)?,
            (true, Whose::Ours) => {
                check(here.as_fd(), path)?;
                own(here.as_fd(), mode, None, gid)?;
            }
            (false, _) if made => own(here.as_fd(), 0o755, None, Gid::ROOT)?,
            (false, _) => check(here.as_fd(), path)?,
        }
    }
    Ok(here)
}

fn open(at: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(at, path, flags, Mode::empty(), resolve)?)
}

fn own(directory: BorrowedFd<'_>, mode: RawMode, uid: Option<Uid>, gid: Gid) -> io::Result<()> {
    rustix::fs::fchown(directory, uid, Some(gid))?;
    rustix::fs::fchmod(directory, Mode::from_raw_mode(mode))?;
    match rustix::fs::fstat(directory)?.st_mode & 0o7777 {
        found if found == mode => Ok(()),
        // The kernel drops the set-group-ID bit without a word (chmod(2)).
        found => {
            Err(io::Error::other(format!("its mode is {found:o} instead of {mode:o} (CAP_FSETID is needed)")))
        }
    }
}

fn check(directory: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let found = rustix::fs::fstat(directory)?;
    let is_sticky = found.st_mode & 0o1000 != 0;
    if found.st_uid == 0 && (found.st_mode & 0o022 == 0 || is_sticky) {
        return Ok(());
    }
    let mode = found.st_mode & 0o7777;
    Err(io::Error::other(format!(
        "on the way to {} a directory of uid {} with mode {mode:o}: it must be root's, and writable by nobody else",
        path.display(),
        found.st_uid
    )))
}
