//! What the sandbox's processes hold open: three streams, and for init its way to the shim.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Stream;
use super::step::{Fault, On};
use crate::sys::fd;

/// The socket's number until exec closes it.
const SOCKET: i32 = 3;

/// The socket, once it is in its place.
pub fn socket() -> BorrowedFd<'static> {
    fd::fixed(SOCKET)
}

/// Puts the terminal where streams lead to it, the socket at 3, and closes everything else.
pub fn keep_only(streams: [Stream; 3], slave: Option<OwnedFd>, socket: OwnedFd) -> Result<OwnedFd, Fault> {
    for (number, stream) in (0..).zip(streams) {
        match (stream, &slave) {
            (Stream::Inherited, _) => {}
            (Stream::Terminal, Some(slave)) => fd::place(slave.as_fd(), number).on(number)?,
            (Stream::Terminal, None) => return Err(std::io::Error::other("no terminal was made")).on(number),
        }
    }
    drop(slave);
    let socket = fd::place_owned(socket, SOCKET).on("socket")?;
    fd::close_from(SOCKET + 1).on("descriptors")?;
    Ok(socket)
}
