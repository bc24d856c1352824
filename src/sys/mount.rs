//! mount_setattr(2), which rustix does not have, and what it has in parts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use super::check;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A detached tmpfs of the caller's user namespace, with these options (tmpfs(5)).
pub fn tmpfs(options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// What becomes of a mount, and of every mount below it where `recursive`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'fd> {
    /// MOUNT_ATTR_RDONLY
    pub read_only: bool,
    /// MOUNT_ATTR_NOEXEC
    pub no_exec: bool,
    /// MOUNT_ATTR_IDMAP with this user namespace: its inside ids are those on disk.
    pub idmap: Option<BorrowedFd<'fd>>,
    /// AT_RECURSIVE
    pub recursive: bool,
}

/// Sets nosuid and nodev always, the rest as asked, and cuts the mount off from propagation.
pub fn set_attributes(mount: BorrowedFd<'_>, wanted: Attributes<'_>) -> io::Result<()> {
    let mut attr = MountAttr {
        set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    if wanted.read_only {
        attr.set |= libc::MOUNT_ATTR_RDONLY;
    }
    if wanted.no_exec {
        attr.set |= libc::MOUNT_ATTR_NOEXEC;
    }
    if let Some(namespace) = wanted.idmap {
        attr.set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = namespace.as_raw_fd() as u64;
    }
    apply(mount, &attr, wanted.recursive)
}

/// Makes one mount read-only and leaves the rest of it as it is.
pub fn set_read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    apply(mount, &MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() }, false)
}

fn apply(mount: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty string, and the kernel reads exactly the size of the struct it is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}
