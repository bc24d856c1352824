//! Network namespaces, and interfaces by ioctl: two calls, where a netlink conversation would take four.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// The request that brings the loopback interface up (netdevice(7), SIOCSIFFLAGS).
pub(super) fn loopback_up() -> libc::ifreq {
    // SAFETY: an all-zero ifreq is a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    request
}

/// Moves this process into the network namespace that `namespace` is, or that the process behind this pidfd is in
/// (setns(2), Linux 5.8).
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: only this process's own namespace changes.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }.into()).map(drop)
}
