//! Bytes from one socket to the other and back, by splice(2): the kernel moves pages, this process reads none of them.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::account::Account;

/// What one splice moves at most. Larger pipes than the usual 64 KiB halve the number of wake-ups of a fast stream.
const CHUNK: usize = 1024 * 1024;
/// Pipes kept for the next connection that has bytes.
const MOST_SPARE: usize = 64;

/// A pipe that is empty whenever it is not being used.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// Pipes for connections that have bytes to move right now: an idle connection holds none.
#[derive(Debug, Default)]
pub struct Pipes(RefCell<Vec<Pipe>>);

impl Pipes {
    fn take(&self) -> io::Result<Pipe> {
        if let Some(spare) = self.0.borrow_mut().pop() {
            return Ok(spare);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The kernel limits what one user may hold in pipes; beyond that a smaller one does as well.
        let _ = fcntl_setpipe_size(&write, CHUNK);
        Ok(Pipe { read, write })
    }

    fn give_back(&self, pipe: Pipe) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < MOST_SPARE {
            spare.push(pipe);
        }
    }
}

/// Why carrying ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides have said that they are done.
    Finished,
    /// One side broke off.
    Broken(io::Error),
    /// Nobody said anything for too long.
    Idle,
}

/// What a carried connection shares between its two directions.
pub struct Carriage<'a> {
    /// The agent's side.
    pub inner: &'a TcpStream,
    /// The network's side.
    pub outer: &'a TcpStream,
    /// Counts the bytes.
    pub account: &'a Account,
    /// Lends pipes.
    pub pipes: &'a Pipes,
    /// When a byte last moved.
    pub last: Cell<Instant>,
}

impl Carriage<'_> {
    /// Everything that the agent sends from now on, then the end of it.
    pub async fn outward(&self) -> io::Result<()> {
        self.one_way(self.inner, self.outer, &self.account.sent).await
    }

    /// Everything that the network sends from now on, then the end of it.
    pub async fn inward(&self) -> io::Result<()> {
        self.one_way(self.outer, self.inner, &self.account.received).await
    }

    /// Returns once nothing has moved for `patience`.
    pub async fn idle(&self, patience: Duration) {
        loop {
            let rest = patience.saturating_sub(self.last.get().elapsed());
            if rest.is_zero() {
                return;
            }
            tokio::time::sleep(rest).await;
        }
    }

    async fn one_way(&self, from: &TcpStream, to: &TcpStream, count: &Cell<u64>) -> io::Result<()> {
        loop {
            from.readable().await?;
            let pipe = self.pipes.take()?;
            // Interrupted in here the pipe may hold bytes: it is closed, not given back.
            let moved = self.move_once(&pipe, from, to, count).await?;
            self.pipes.give_back(pipe);
            if moved == Some(0) {
                // The end goes on to the other side, which may go on talking (half-close).
                return match rustix::net::shutdown(to.as_fd(), rustix::net::Shutdown::Write) {
                    Err(rustix::io::Errno::NOTCONN) => Ok(()),
                    result => Ok(result?),
                };
            }
        }
    }

    /// Fills the pipe once and empties it. `None`: there was nothing after all.
    async fn move_once(
        &self,
        pipe: &Pipe,
        from: &TcpStream,
        to: &TcpStream,
        count: &Cell<u64>,
    ) -> io::Result<Option<usize>> {
        let fill = || Ok(splice(from.as_fd(), None, &pipe.write, None, CHUNK, FLAGS)?);
        let filled = match from.try_io(Interest::READABLE, fill) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            result => result?,
        };
        let mut rest = filled;
        while rest > 0 {
            let empty = || Ok(splice(&pipe.read, None, to.as_fd(), None, rest, FLAGS)?);
            match to.try_io(Interest::WRITABLE, empty) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                result => {
                    let written = result?;
                    rest -= written;
                    count.set(count.get() + written as u64);
                    self.last.set(Instant::now());
                    self.account.moved();
                }
            }
        }
        Ok(Some(filled))
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Carries both ways until both sides are done. `first` are bytes that the agent has already sent.
pub async fn both_ways(carriage: &Carriage<'_>, patience: Duration) -> Ended {
    let both = async { tokio::try_join!(carriage.outward(), carriage.inward()) };
    tokio::select! {
        result = both => match result {
            Ok(_) => Ended::Finished,
            Err(error) => Ended::Broken(error),
        },
        () = carriage.idle(patience) => Ended::Idle,
    }
}

/// Sends what was read ahead of time.
pub async fn replay(to: &TcpStream, bytes: &[u8], account: &Account) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        to.writable().await?;
        match to.try_write(rest) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => {
                let written = result?;
                rest = &rest[written..];
                account.sent.set(account.sent.get() + written as u64);
            }
        }
    }
    Ok(())
}

/// From now on the end of this process is a reset and no end of the stream: what was cut off must not look complete.
pub fn until_done(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Its end is the end of the stream.
pub fn is_done(stream: &TcpStream) {
    let _ = set_socket_linger(stream, None);
}

/// Ends a connection with a reset: the peer's next call fails at once instead of waiting for an answer.
pub fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}
