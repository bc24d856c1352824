//! One private network: a namespace in which nothing but `lo` exists, so nothing can leave it.
//!
//! It is made by a process of the host's root and belongs to the host's user namespace: whatever an agent becomes inside its
//! own, it has no power over the network that it is in. Making one is the dearest step of a start, so that it is begun
//! first, by a process of its own, and entered when it is there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys;

/// Does something in another process's network namespace, and comes back whatever comes of it.
pub fn within<T>(pidfd: BorrowedFd<'_>, deed: impl FnOnce() -> T) -> io::Result<T> {
    let own = File::open("/proc/self/ns/net")?;
    sys::net::enter(pidfd)?;
    let done = deed();
    sys::net::enter(own.as_fd())?;
    Ok(done)
}

/// In this process's network namespace, ports below 1024 are anybody's (ip(7)): inside, nobody has a capability over it.
pub fn open_low_ports() -> io::Result<()> {
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
}
