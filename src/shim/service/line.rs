//! The line to the daemon, if there is one: never blocks, and is given up rather than waited for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketType};
use serde::Serialize;

use crate::wire::service::{self, Frame, LONGEST_FRAME, ToShim};

/// Answers that a daemon has not taken yet; one that lets more pile up is no daemon.
const MOST_WAITING: usize = 256;

/// Descriptors that may come with a message (`Exec`, `Dial`).
const MOST_DESCRIPTORS: usize = 3;

/// One connection.
pub struct Line {
    socket: OwnedFd,
    /// Answers, oldest first.
    waiting: VecDeque<Vec<u8>>,
    /// The version that both speak, once that is known.
    pub version: Option<u16>,
    /// How much had been typed before this line was.
    pub first: u64,
    /// The same, and how much has been read of what was typed on it.
    pub typed: u64,
    /// The newest end of the log, if the daemon has not been told of it.
    output: Option<u64>,
    /// The newest count of typed bytes, likewise.
    taken: Option<u64>,
}

/// What came over a line.
pub enum Came {
    /// Nothing more at this moment.
    Nothing,
    /// This.
    Frame(Frame<ToShim>, Vec<OwnedFd>),
    /// Its end, or nonsense.
    End,
}

impl Line {
    /// Takes over a socket.
    pub fn new(socket: OwnedFd, typed: u64) -> Self {
        let (first, waiting) = (typed, VecDeque::new());
        Self { socket, waiting, version: None, first, typed, output: None, taken: None }
    }

    /// What poll is to wait for.
    pub fn interest(&self) -> PollFlags {
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, self.has_waiting());
        wanted
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether something waits until the daemon takes it.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.output.is_some() || self.taken.is_some()
    }

    /// Reads one frame, if there is one.
    pub fn receive(&self) -> Came {
        match crate::wire::receive_now(&self.socket, LONGEST_FRAME, MOST_DESCRIPTORS) {
            Ok(Some((bytes, fds))) => match service::decode(&bytes) {
                Ok(frame) => Came::Frame(frame, fds),
                Err(_) => Came::End,
            },
            Ok(None) => Came::End,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Came::Nothing,
            Err(_) => Came::End,
        }
    }

    /// Says something, now or as soon as the daemon takes it. False: it takes too little, and the line is to be closed.
    pub fn say(&mut self, message: &impl Serialize) -> bool {
        self.waiting.push_back(service::encode(message));
        self.waiting.len() <= MOST_WAITING && self.flush()
    }

    /// The log reaches this far.
    pub fn tell_output(&mut self, end: u64) -> bool {
        self.output = Some(end);
        self.flush()
    }

    /// So much has been typed.
    pub fn tell_taken(&mut self, total: u64) -> bool {
        self.taken = Some(total);
        self.flush()
    }

    /// Sends what the daemon takes. False: the line is dead.
    pub fn flush(&mut self) -> bool {
        if self.version.is_none() && self.waiting.is_empty() {
            // Nothing is said before `Welcome`; that says how far everything is.
            (self.output, self.taken) = (None, None);
        }
        while let Some(bytes) = self.waiting.front() {
            match self.send(bytes) {
                Ok(true) => drop(self.waiting.pop_front()),
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
        if let Some(total) = self.taken {
            match self.send(&service::encode(&service::FromShim::Taken { total })) {
                Ok(true) => self.taken = None,
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
        if let Some(end) = self.output {
            match self.send(&service::encode(&service::FromShim::Output { end })) {
                Ok(true) => self.output = None,
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether all of it could be sent without waiting; a frame goes as a whole or not at all.
    fn send(&self, bytes: &[u8]) -> io::Result<bool> {
        // Each time anew: the daemon may hold the same open socket, and have made it blocking.
        match rustix::net::send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Accepts a later daemon, if one knocks and it is the daemon's uid.
pub fn accept(listener: BorrowedFd<'_>, uid: u32) -> Option<OwnedFd> {
    let socket = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC).ok()?;
    is_from(&socket, uid).then_some(socket)
}

/// Whether this is one end of a connection that this user made.
pub fn is_from(socket: impl AsFd, uid: u32) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(&socket);
    let kind = rustix::net::sockopt::socket_type(&socket);
    peer.is_ok_and(|peer| peer.uid.as_raw() == uid) && kind.is_ok_and(|kind| kind == SocketType::SEQPACKET)
}
