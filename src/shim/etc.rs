//! The agent's /etc: made by the shim in one tree while init is at work on what only it can make.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, mkdirat, openat, openat2,
    sendfile, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::sources::SourceError;
use crate::plan::{Bind, ETC, Mount};
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
    let some_are_writable = mounts.iter().any(is_writable);
    let umask = rustix::process::umask(Mode::empty());
    let tree = Tree { root: etc.as_fd(), owner };
    let made = mounts.iter().zip(sources.iter_mut()).try_for_each(|(mount, source)| {
        let target = mount.target();
        let Ok(path) = target.strip_prefix(ETC) else { return Ok(()) };
        let Some(name) = path.file_name() else { return Ok(()) }; // /etc itself
        let hides = |other: &Mount| is_writable(other) && target.starts_with(other.target());
        if some_are_writable && mount.is_of_etc() && mounts.iter().any(hides) {
            return Err(failed(target)(io::Error::other("is hidden by a directory that can be written")));
        }
        tree.put(path, name, mount, source).map_err(failed(target))
    });
    rustix::process::umask(umask);
    made?;
    set_read_only(etc.as_fd()).map_err(failed(Path::new(ETC)))?;
    Ok(etc)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    move |source| SourceError { path: path.display().to_string(), doing: "making", source }
}

/// Whether it can be written inside, and is mounted in /etc.
fn is_writable(mount: &Mount) -> bool {
    matches!(mount, Mount::Tmpfs { .. } | Mount::Bind(Bind { writable: true, .. }))
        && mount.target().starts_with(ETC)
}

/// Where it is made, and whose it becomes: by chown(2), since whoever takes another fsuid loses its parent-death signal (prctl(2)).
struct Tree<'fd> {
    root: BorrowedFd<'fd>,
    owner: u32,
}

impl Tree<'_> {
    /// Puts one thing where it belongs; `path` is below /etc.
    fn put(&self, path: &Path, name: &OsStr, mount: &Mount, source: &mut Option<OwnedFd>) -> io::Result<()> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Some(self.directory(parent)?),
            _ => None,
        };
        let parent = parent.as_ref().map_or(self.root, AsFd::as_fd);
        match mount {
            Mount::File { content, .. } => write(&self.create(parent, name, DATA)?, content),
            Mount::Script { content, .. } => write(&self.create(parent, name, SCRIPT)?, content),
            Mount::Copy { .. } => {
                let source = source.take().ok_or_else(|| io::Error::other("was not opened"))?;
                let file = self.create(parent, name, DATA)?;
                while sendfile(&file, &source, None, 1 << 20)? > 0 {}
                Ok(())
            }
            Mount::Symlink { points_to, .. } => {
                symlinkat(points_to, parent, name)?;
                self.give(parent, name)
            }
            Mount::Directory { .. } | Mount::Tmpfs { .. } => self.make_directory(parent, name),
            Mount::Bind(_) => match source.as_ref().map(fstat).transpose()? {
                Some(found) if !FileType::from_raw_mode(found.st_mode).is_dir() => {
                    self.create(parent, name, DATA).map(drop)
                }
                _ => self.make_directory(parent, name),
            },
        }
    }

    fn create(&self, parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::from_raw_mode(mode))?;
        self.give(parent, name)?;
        Ok(file)
    }

    /// The directory at `path`; what is missing of it is made. No link is followed: it would lead out of the tree.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |at: BorrowedFd<'_>, path: &Path| openat2(at, path, flags, Mode::empty(), resolve);
        let mut here = open(self.root, Path::new("."))?;
        for name in path {
            self.make_directory(here.as_fd(), name)?;
            here = open(here.as_fd(), Path::new(name))?;
        }
        Ok(here)
    }

    fn make_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => self.give(parent, name),
        }
    }

    fn give(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.owner), Gid::from_raw(self.owner));
        Ok(chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// What everybody may do with a file.
const DATA: u32 = 0o444;
const SCRIPT: u32 = 0o555;

fn write(file: &OwnedFd, content: &str) -> io::Result<()> {
    let mut rest = content.as_bytes();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(file, rest)?..];
    }
    Ok(())
}
