//! One private network: a namespace in which nothing but `lo` exists, so nothing can leave it.

use std::io;
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sys;

/// Brings `lo` up in the network namespace that this process is in.
pub fn enable_loopback() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::net::bring_loopback_up(socket.as_fd())
}
