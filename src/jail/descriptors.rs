//! What the sandbox's processes hold open: three streams, and for init its way to the shim.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Stream;
use super::step::{Fault, On};
use crate::sys::fd;

/// The socket's number, and the dialer's, until exec closes them.
const SOCKET: i32 = 3;
const DIALER: i32 = 4;

/// The socket, once it is in its place.
pub fn socket() -> BorrowedFd<'static> {
    fd::fixed(SOCKET)
}

/// Puts the terminal where streams lead to it, the socket at 3, the dialer at 4, and closes everything else.
pub fn keep_only(
    streams: [Stream; 3],
    slave: Option<OwnedFd>,
    socket: OwnedFd,
    dialer: Option<OwnedFd>,
) -> Result<(OwnedFd, Option<OwnedFd>), Fault> {
    for (number, stream) in (0..).zip(streams) {
        match (stream, &slave) {
            (Stream::Inherited, _) => {}
            (Stream::Terminal, Some(slave)) => fd::place(slave.as_fd(), number).on(number)?,
            (Stream::Terminal, None) => return Err(std::io::Error::other("no terminal was made")).on(number),
        }
    }
    drop(slave);
    // First, for it may be where the other has to go.
    let dialer = dialer.map(|dialer| fd::raise(dialer, DIALER)).transpose().on("dialer")?;
    let socket = fd::place_owned(socket, SOCKET).on("socket")?;
    let dialer = dialer.map(|dialer| fd::place_owned(dialer, DIALER)).transpose().on("dialer")?;
    fd::close_from(if dialer.is_some() { DIALER + 1 } else { SOCKET + 1 }).on("descriptors")?;
    Ok((socket, dialer))
}
