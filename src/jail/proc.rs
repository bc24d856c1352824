//! A private /proc without what tells about, or acts on, the host.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::mounts::{Root, kind_of_mode};
use super::step::{Fault, On};
use crate::plan::proc::{MASKED, READ_ONLY};
use crate::sys;

/// A detached procfs of this pid namespace. Fails in a container whose own /proc is partly covered: the kernel does
/// not let a user namespace see more of procfs than its parent does.
pub fn make() -> Result<OwnedFd, Fault> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).on("procfs")?;
    rustix::mount::fsconfig_create(context.as_fd()).on("procfs")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).on("procfs")
}

/// No user namespace below this one, whoever asks: the second wall behind the filter (namespaces(7)).
pub fn forbid_user_namespaces(proc: &OwnedFd) -> Result<(), Fault> {
    let file = "sys/user/max_user_namespaces";
    let limit = rustix::fs::openat(proc, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).on(file)?;
    rustix::io::write(&limit, b"0").on(file)?;
    Ok(())
}

/// Covers and freezes the dangerous entries that this kernel has. The covers come from a filesystem that this process
/// made, so nobody can have swapped them (CVE-2025-31133).
pub fn mask(proc: &OwnedFd, root: &Root) -> Result<(), Fault> {
    root.make_empty()?;
    for name in MASKED {
        let found = match rustix::fs::statat(proc, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error).on(name),
        };
        let cover = root.clone_empty(kind_of_mode(found.st_mode))?;
        // A name of one component, and not followed: it is what was looked at.
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&cover, "", proc, name, flags).on(name)?;
    }
    root.remove_empty()?;
    for name in READ_ONLY {
        let Some(target) = entry(proc.as_fd(), name).on(name)? else { continue };
        let itself = clone(target.as_fd()).on(name)?;
        sys::mount::set_read_only(itself.as_fd()).on(name)?;
        cover_with(itself.as_fd(), target.as_fd()).on(name)?;
    }
    Ok(())
}

fn entry(proc: BorrowedFd<'_>, name: &str) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match openat2(proc, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn clone(entry: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(entry, "", flags)?)
}

fn cover_with(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}
