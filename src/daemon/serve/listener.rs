//! Sockets to listen on: systemd's, or our own.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::sys;

/// What waits to be accepted.
const BACKLOG: u32 = 1024;

/// The socket that systemd hands over (`LISTEN_FDS`), if it does; else one on `address`.
///
/// # Errors
/// As bind(2) and listen(2), and when systemd hands over anything but one TCP socket.
pub fn inherited_or_bound(address: SocketAddr) -> io::Result<TcpListener> {
    let mut handed = sd_notify::listen_fds()?;
    match (handed.next(), handed.next()) {
        (None, _) => bound(address),
        (Some(number), None) => {
            let listener = std::net::TcpListener::from(sys::fd::adopt(number)?);
            // A unix socket, say, fails here.
            listener.local_addr()?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        }
        (Some(_), Some(_)) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "systemd hands over more than one socket: it takes one",
        )),
    }
}

/// A socket of our own.
///
/// # Errors
/// As bind(2) and listen(2).
pub fn bound(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A daemon that is started anew takes its address back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
