//! The other way in: a connection to a published port of the host is carried to a port inside.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::time::timeout;

use super::account::Account;
use super::carry::{self, Carriage, Ended};
use super::gateway::Gateway;
use super::upstream;
use crate::sys::ready::watch;
use crate::wire;
use crate::wire::egress::{DialAnswer, DialRequest, Protocol};

/// The process inside that connects on request. It answers in order, so one asks at a time.
pub struct Dialer(Mutex<AsyncFd<OwnedFd>>);

impl Dialer {
    /// Over this socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(Mutex::new(watch(socket)?)))
    }

    async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        let socket = self.0.lock().await;
        let request: DialRequest = port.to_be_bytes();
        let send = |socket: &OwnedFd| {
            use std::os::fd::AsFd;
            wire::send(socket.as_fd(), &request, &[])
        };
        socket.async_io(Interest::WRITABLE, send).await?;
        let answer = socket.async_io(Interest::READABLE, |socket| wire::receive(socket, 1)).await?;
        let (bytes, mut fds) = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        let errno: DialAnswer = bytes.as_slice().try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        match (i32::from_le_bytes(errno), fds.pop()) {
            (0, Some(fd)) => {
                let stream = std::net::TcpStream::from(fd);
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)
            }
            (0, None) => Err(io::ErrorKind::InvalidData.into()),
            (errno, _) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Carries one connection of the host's to `port` inside.
pub async fn serve(
    gateway: Rc<Gateway>,
    dialer: Rc<Dialer>,
    port: u16,
    outer: TcpStream,
    permit: OwnedSemaphorePermit,
) {
    let account = Account::open(&gateway.ledger, Protocol::Published, None, port);
    account.to(IpAddr::from([127, 0, 0, 1]));
    account.allow(format!("--publish to port {port}"));
    let dialed = timeout(gateway.hello_patience(), dialer.dial(port)).await;
    let inner = match dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(inner) => inner,
        Err(error) => {
            account.trouble(format!("cannot connect to port {port} inside: {error}"));
            return carry::reset(outer);
        }
    };
    upstream::tend(&inner);
    let last = Cell::new(Instant::now());
    let carriage = Carriage { inner: &inner, outer: &outer, account: &account, pipes: &gateway.pipes, last };
    let what = match carry::both_ways(&carriage, gateway.idle_patience()).await {
        Ended::Finished => return drop(permit),
        Ended::Broken(error) => format!("broken off: {error}"),
        Ended::Idle => "nothing was said for too long".into(),
    };
    account.trouble(what);
    carry::reset(inner);
    carry::reset(outer);
    drop(permit);
}
