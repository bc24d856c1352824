//! One private network: a namespace in which nothing but `lo` exists, so nothing can leave it.
//!
//! It is made by a process of the host's root and belongs to the host's user namespace: whatever an agent becomes inside its
//! own, it has no power over the network that it is in. Making one is the dearest step of a start, so that it is begun
//! first, by a process of its own, and entered when it is there.
//!
//! ```text
//!  agent ── connect 198.18.7.9:443 ──▶ lo (local 0.0.0.0/0: every address is this host) ──▶ listener 198.18.7.9:443
//!                                                                                                ║ descriptor
//!                                                                   gateway, in the host's namespace: accepts
//! ```
//! Where a policy names destinations, every address there belongs to `lo`. Sockets that were made inside are the only way
//! on; what nobody listens on, the kernel refuses at once.

mod doors;
mod filter;
mod monitor;
mod routes;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sys;

pub use doors::{Door, Range, open_doors};
pub use routes::own_every_address;

/// Where names are asked for.
pub const DNS: u16 = 53;

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

/// In this process's network namespace, nobody connects by sending (TCP Fast Open, ip-sysctl): Landlock's rules about
/// connect(2) know nothing of sendto(2) with MSG_FASTOPEN.
pub fn close_fast_open() -> io::Result<()> {
    std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "0")
}

/// A socket of this namespace, not yet connected: whoever holds it can connect it to a server inside.
pub fn unconnected() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}
