//! What the gateway is started with: the control socket, the configuration, the sockets.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use crate::sys::fd::{adopt, fixed};
use crate::wire::egress::{CONFIG, CONTROL, Config, LONGEST_CONFIG, SOCKETS, Socket};

/// One socket, by what it is for.
#[derive(Debug)]
pub enum Taken {
    /// See [`Socket::Listener`].
    Listener(u16, TcpListener),
    /// See [`Socket::DnsUdp`].
    DnsUdp(UdpSocket),
    /// See [`Socket::DnsTcp`].
    DnsTcp(TcpListener),
    /// See [`Socket::Monitor`].
    Monitor(OwnedFd),
    /// See [`Socket::Published`].
    Published(u16, TcpListener),
    /// See [`Socket::Dialer`].
    Dialer(OwnedFd),
    /// See [`Socket::Tally`].
    Tally(OwnedFd),
}

/// The socket to the shim. It stays open for as long as the process lives: what goes wrong is said there.
pub fn control() -> BorrowedFd<'static> {
    fixed(CONTROL)
}

/// The configuration. Read from its beginning: an earlier gateway has read the same file.
pub fn config() -> io::Result<Config> {
    let file = std::fs::File::from(adopt(CONFIG)?);
    let length = file.metadata()?.len();
    if length > LONGEST_CONFIG {
        return Err(io::Error::other("the configuration is too long"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

/// The sockets that the configuration says there are.
pub fn sockets(config: &Config) -> io::Result<Vec<Taken>> {
    config.sockets.iter().zip(SOCKETS..).map(|(socket, number)| Ok(take(*socket, adopt(number)?))).collect()
}

/// The first number that is nobody's.
pub fn end(config: &Config) -> i32 {
    SOCKETS + i32::try_from(config.sockets.len()).unwrap_or(i32::MAX - SOCKETS)
}

fn take(socket: Socket, fd: OwnedFd) -> Taken {
    match socket {
        Socket::Listener { port, .. } => Taken::Listener(port, fd.into()),
        Socket::DnsUdp => Taken::DnsUdp(fd.into()),
        Socket::DnsTcp => Taken::DnsTcp(fd.into()),
        Socket::Monitor => Taken::Monitor(fd),
        Socket::Published { inside } => Taken::Published(inside, fd.into()),
        Socket::Dialer => Taken::Dialer(fd),
        Socket::Tally => Taken::Tally(fd),
    }
}
