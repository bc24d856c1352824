//! The caller's ends of a relay: where keys come from and where output goes, neither of which may block us or be
//! made non-blocking, since the caller's shell shares their open file descriptions.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// Room for at least this much is what POLLOUT means on a pipe (pipe(7), PIPE_BUF).
const PIPE_ROOM: usize = 4096;

/// A terminal promises no amount at all; this is what its driver keeps free as a rule.
const TERMINAL_ROOM: usize = 256;

/// Where keys come from. Read only after poll said so.
#[derive(Debug)]
pub struct Source {
    /// The caller's.
    pub fd: OwnedFd,
    /// Asked beforehand: a terminal that hung up no longer knows that it was one.
    pub is_terminal: bool,
}

/// Where output goes.
#[derive(Debug)]
pub struct Sink {
    /// The caller's.
    pub fd: OwnedFd,
    manner: Manner,
}

/// How to write without blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// The description is non-blocking already: our own, or the caller chose so.
    AsItIs,
    /// Sockets can be told each time.
    Socket,
    /// Once for each POLLOUT, and no more than there is room for then.
    AfterPoll { at_most: usize },
}

impl Source {
    /// Takes over the caller's descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        let is_terminal = rustix::termios::isatty(&fd);
        Self { fd, is_terminal }
    }
}

impl Sink {
    /// Takes over the caller's descriptor.
    pub fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let manner = if rustix::fs::fcntl_getfl(&fd)?.contains(OFlags::NONBLOCK) {
            Manner::AsItIs
        } else {
            match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
                FileType::Socket => Manner::Socket,
                FileType::Fifo => Manner::AfterPoll { at_most: PIPE_ROOM },
                FileType::RegularFile => Manner::AfterPoll { at_most: usize::MAX },
                _ => Manner::AfterPoll { at_most: TERMINAL_ROOM },
            }
        };
        Ok(Self { fd, manner })
    }

    /// Writes some of `bytes`; EAGAIN if it would block, or if only poll can tell (`polled`: it has).
    pub fn write(&self, bytes: &[u8], polled: bool) -> Result<usize, Errno> {
        match self.manner {
            Manner::AsItIs => rustix::io::write(&self.fd, bytes),
            Manner::Socket => rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Manner::AfterPoll { at_most } if polled => {
                rustix::io::write(&self.fd, &bytes[..bytes.len().min(at_most)])
            }
            Manner::AfterPoll { .. } => Err(Errno::AGAIN),
        }
    }
}
