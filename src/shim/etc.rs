//! The agent's /etc: made by the shim in one tree while init is at work on what only it can make.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::{
    FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, sendfile, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::sources::SourceError;
use crate::plan::{ETC, Mount};
use crate::sys::mount::{self, set_read_only};

/// A detached, read-only tmpfs with all that the plan has in /etc, and places for what is mounted there. It belongs to the host
/// uid `owner`, the sandbox's uid 0. `sources` are the mounts' own, in their order; of those that are copied, none is left.
pub fn make(mounts: &[Mount], sources: &mut [Option<OwnedFd>], owner: u32) -> Result<OwnedFd, SourceError> {
    let id = owner.to_string();
    let options = [
        ("source", "etc"),
        ("size", "4M"),
        ("nr_inodes", "4096"),
        ("mode", "0755"),
        ("uid", id.as_str()),
        ("gid", id.as_str()),
    ];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let etc = mount::tmpfs(&options, attributes).map_err(failed(Path::new(ETC)))?;
    as_owner(owner, || {
        mounts.iter().zip(sources.iter_mut()).try_for_each(|(mount, source)| {
            let Ok(path) = mount.target().strip_prefix(ETC) else { return Ok(()) };
            let Some(name) = path.file_name() else { return Ok(()) }; // /etc itself
            put(&etc, path, name, mount, source).map_err(failed(mount.target()))
        })
    })?;
    set_read_only(etc.as_fd()).map_err(failed(Path::new(ETC)))?;
    Ok(etc)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    move |source| SourceError { path: path.display().to_string(), doing: "making", source }
}

/// Makes files as this owner, and with no more rights than it has (setfsuid(2)); modes are meant as they stand.
fn as_owner<T>(owner: u32, deed: impl FnOnce() -> T) -> T {
    let umask = rustix::process::umask(Mode::empty());
    let group = setfsgid(Gid::from_raw(owner));
    let user = setfsuid(Uid::from_raw(owner));
    let done = deed();
    setfsuid(user);
    setfsgid(group);
    rustix::process::umask(umask);
    done
}

/// Puts one thing where it belongs; `path` is below /etc.
fn put(
    etc: &OwnedFd,
    path: &Path,
    name: &OsStr,
    mount: &Mount,
    source: &mut Option<OwnedFd>,
) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Some(directory(etc.as_fd(), parent)?),
        _ => None,
    };
    let parent = parent.as_ref().unwrap_or(etc).as_fd();
    match mount {
        Mount::File { content, .. } => write(&create(parent, name, DATA)?, content),
        Mount::Script { content, .. } => write(&create(parent, name, SCRIPT)?, content),
        Mount::Copy { .. } => {
            let source = source.take().ok_or_else(|| io::Error::other("was not opened"))?;
            let file = create(parent, name, DATA)?;
            while sendfile(&file, &source, None, 1 << 20)? > 0 {}
            Ok(())
        }
        Mount::Symlink { points_to, .. } => Ok(symlinkat(points_to, parent, name)?),
        Mount::Directory { .. } | Mount::Tmpfs { .. } => make_directory(parent, name),
        Mount::Bind(_) => match source.as_ref().map(fstat).transpose()? {
            Some(found) if !FileType::from_raw_mode(found.st_mode).is_dir() => {
                create(parent, name, DATA).map(drop)
            }
            _ => make_directory(parent, name),
        },
    }
}

/// What everybody may do with a file.
const DATA: u32 = 0o444;
const SCRIPT: u32 = 0o555;

fn create(parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::from_raw_mode(mode))?)
}

fn write(file: &OwnedFd, content: &str) -> io::Result<()> {
    let mut rest = content.as_bytes();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(file, rest)?..];
    }
    Ok(())
}

/// The directory at `path`; what is missing of it is made. No link is followed: it would lead out of the tree.
fn directory(etc: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |at: BorrowedFd<'_>, path: &Path| openat2(at, path, flags, Mode::empty(), resolve);
    let mut here = open(etc, Path::new("."))?;
    for name in path {
        make_directory(here.as_fd(), name)?;
        here = open(here.as_fd(), Path::new(name))?;
    }
    Ok(here)
}

fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        made => Ok(made?),
    }
}
