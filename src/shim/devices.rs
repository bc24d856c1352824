//! The agent's /dev: exactly the devices it needs, made fresh, so that nothing on the host's /dev can have been swapped
//! (CVE-2025-31133, CVE-2025-52565, CVE-2026-41579).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::mount::MountAttrFlags;

use crate::plan::cover;
use crate::plan::devices::{DEVICES, LINKS};
use crate::sys::mount::{self, set_read_only};

/// A detached, read-only tmpfs with the devices, the usual links, and mount points for `pts` and `shm`.
///
/// Made in the host's user namespace: in the sandbox's own, the kernel opens no device node.
pub fn make() -> io::Result<OwnedFd> {
    let dev = tmpfs("dev")?;
    let umask = rustix::process::umask(Mode::empty());
    let made = populate(&dev);
    rustix::process::umask(umask);
    made?;
    set_read_only(dev.as_fd())?;
    Ok(dev)
}

fn tmpfs(name: &str) -> io::Result<OwnedFd> {
    let options = [("source", name), ("size", "64k"), ("nr_inodes", "32"), ("mode", "0755")];
    mount::tmpfs(&options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)
}

/// A detached tmpfs with what covers protected files that do not exist, by the names that [`cover::name`] gives: a device
/// that reads as empty, which git does not count as a file, and files that say nothing. Their modes let nobody write.
pub fn make_covers() -> io::Result<OwnedFd> {
    let covers = tmpfs("covers")?;
    let umask = rustix::process::umask(Mode::empty());
    let made = fill(&covers);
    rustix::process::umask(umask);
    made?;
    Ok(covers)
}

fn fill(covers: &OwnedFd) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o444);
    mknodat(covers, cover::NOTHING, FileType::CharacterDevice, mode, makedev(1, 3))?;
    for (name, text) in cover::TEXTS {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(covers, name, flags, mode)?;
        // A few bytes on an empty tmpfs are written whole or not at all.
        rustix::io::write(&file, text.as_bytes())?;
    }
    Ok(())
}

fn populate(dev: &OwnedFd) -> io::Result<()> {
    for (name, major, minor) in DEVICES {
        mknodat(dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, dev, name)?;
    }
    for name in ["pts", "shm"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}
