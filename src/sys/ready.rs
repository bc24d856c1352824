//! Descriptors that tell tokio when there is something to do.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Watches `fd` for as long as it is open. It must not block.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names the same open descriptor until it is dropped, and AsyncFd drops it after its registration.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
