//! The agent's terminal, made inside: its own devpts instance, so that no other terminal exists in its view.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::tcsetwinsize;

use super::WindowSize;
use super::mounts::{Root, attach};
use super::step::{Fault, On};
use crate::plan::User;
use crate::wire::FromInit;

/// Most terminals at once: a leak of them must not eat the host's global pty count.
const MOST_TERMINALS: &str = "64";

/// Mounts devpts, and where a size is given opens a terminal in it: the master goes to the shim, the slave becomes
/// the controlling terminal of this session (TIOCSCTTY, ioctl_tty(2)).
pub fn make(
    root: &Root,
    size: Option<WindowSize>,
    user: &User,
    socket: &OwnedFd,
) -> Result<Option<OwnedFd>, Fault> {
    let id = user.uid.to_string();
    let context = rustix::mount::fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC).on("devpts")?;
    rustix::mount::fsconfig_set_flag(context.as_fd(), "newinstance").on("devpts newinstance")?;
    for (key, value) in [
        ("ptmxmode", "0666"),
        ("mode", "0620"),
        ("uid", id.as_str()),
        ("gid", id.as_str()),
        ("max", MOST_TERMINALS),
    ] {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value).on(key)?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).on("devpts")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let devpts =
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).on("devpts")?;
    attach(root, devpts.as_fd(), "dev/pts")?;

    let Some(size) = size else { return Ok(None) };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(&devpts, "ptmx", flags, Mode::empty()).on("/dev/pts/ptmx")?;
    rustix::pty::unlockpt(&master).on("/dev/pts/ptmx")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).on("/dev/pts/0")?;
    tcsetwinsize(&master, size).on("window size")?;
    rustix::process::ioctl_tiocsctty(&slave).on("controlling terminal")?;
    FromInit::Terminal.send(socket.as_fd(), Some(master.as_fd())).on("terminal master")?;
    Ok(Some(slave))
}
