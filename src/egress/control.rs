//! The conversation with the shim.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::gateway::Gateway;
use crate::sys::ready::watch;
use crate::wire::egress::{FromEgress, LONGEST, ToEgress};

/// How long records gather before they are sent: what repeats meanwhile is added up.
const GATHERING: Duration = Duration::from_millis(50);

/// The shim's end of the socket is at the other side.
pub struct Control {
    socket: AsyncFd<OwnedFd>,
    /// What the shim has not taken yet.
    outbox: RefCell<VecDeque<FromEgress>>,
}

impl Control {
    /// Over this socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: watch(socket)?, outbox: RefCell::default() })
    }

    /// Tells the shim what happens and does what it says, until it says `Finish` or is gone.
    pub async fn converse(&self, gateway: &Rc<Gateway>) -> io::Result<()> {
        self.send(&FromEgress::Ready).await?;
        tokio::select! {
            result = self.obey(gateway) => result?,
            result = self.report(gateway) => result?,
            error = gateway.failure.happened() => return Err(error),
        }
        let mut tasks = std::mem::take(&mut *gateway.tasks.borrow_mut());
        // Each connection's account is entered when its task is dropped.
        tasks.shutdown().await;
        self.outbox.borrow_mut().extend(gateway.ledger.take());
        self.empty_outbox().await?;
        self.send(&FromEgress::Done).await
    }

    async fn obey(&self, gateway: &Gateway) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let receive =
                |socket: &OwnedFd| Ok(rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT)?.0);
            let length = self.socket.async_io(Interest::READABLE, receive).await?;
            if length == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the shim is gone"));
            }
            match ToEgress::decode(&buffer[..length]).map_err(io::Error::other)? {
                ToEgress::Secret { name, value } => gateway.injector.learn(&name, &value),
                ToEgress::Finish => return Ok(()),
            }
            buffer.fill(0); // it may have held a secret
        }
    }

    async fn report(&self, gateway: &Gateway) -> io::Result<()> {
        loop {
            gateway.ledger.filled().await;
            self.outbox.borrow_mut().extend(gateway.ledger.take());
            self.empty_outbox().await?;
            tokio::time::sleep(GATHERING).await;
        }
    }

    /// Interrupted in here nothing is lost: a message leaves the box once it is sent.
    async fn empty_outbox(&self) -> io::Result<()> {
        loop {
            let Some(message) = self.outbox.borrow().front().cloned() else { return Ok(()) };
            self.send(&message).await?;
            self.outbox.borrow_mut().pop_front();
        }
    }

    async fn send(&self, message: &FromEgress) -> io::Result<()> {
        let bytes = message.encode().map_err(io::Error::other)?;
        let send = |socket: &OwnedFd| transmit(socket, &bytes);
        self.socket.async_io(Interest::WRITABLE, send).await
    }
}

/// Sends one packet.
pub fn transmit(socket: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?;
    Ok(())
}
