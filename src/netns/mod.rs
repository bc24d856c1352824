//! One private network: a namespace in which nothing but `lo` exists, so nothing can leave it.
//!
//! ```text
//!  agent ── connect 203.0.113.9:443 ──▶ lo (local 0.0.0.0/0: every address is this host) ──▶ listener 0.0.0.0:443
//!                                                                                                ║ descriptor
//!                                                                   gateway, in the host's namespace: accepts
//! ```
//! Where a policy names destinations, every address there is belongs to `lo`. Sockets that were made inside and handed out
//! are the only way on; what nobody listens on, the kernel refuses at once.

mod monitor;
mod routes;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::sys;

pub use routes::own_every_address;

/// Where names are asked for.
pub const DNS: u16 = 53;

/// As many as may wait for a gateway that has just died (the kernel's own limit is net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// Brings `lo` up in the network namespace that this process is in.
pub fn enable_loopback() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::net::bring_loopback_up(socket.as_fd())
}

/// What a gateway needs of this namespace, in this order: the datagrams to port 53, the view of what is refused, then a
/// listener for each of `ports`. Needs CAP_NET_RAW and CAP_NET_BIND_SERVICE inside.
pub fn open_doors(ports: &[u16]) -> io::Result<Vec<OwnedFd>> {
    let mut doors = vec![datagrams()?, monitor::open(ports)?];
    for port in ports {
        doors.push(listener(*port)?);
    }
    Ok(doors)
}

/// A socket of this namespace, not yet connected: whoever holds it can connect it to a server inside.
pub fn unconnected() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn datagrams() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &everywhere(DNS))?;
    Ok(socket)
}

fn listener(port: u16) -> io::Result<OwnedFd> {
    let socket = unconnected()?;
    bind(&socket, &everywhere(port))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn everywhere(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}
