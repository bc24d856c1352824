//! The agent's terminal, from the side of its master: what is typed goes in, what it shows goes to the log.
//!
//! ```text
//!  agent ─▶ master ─▶ [64 KiB] ─▶ log on disk
//!  agent ◀─ master ◀─ [keys]   ◀─ daemon
//! ```
//! While the disk takes nothing the master is not read, and the agent waits: nothing is lost without a word.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::termios::tcsetwinsize;

use super::log::Log;
use crate::jail::WindowSize;
use crate::shim::backlog::{Backlog, CAPACITY};
use crate::wire::service::INPUT_WINDOW;
use crate::wire::service::order::Size;

/// How long to wait before a full disk is tried again.
const DISK_PAUSE: Duration = Duration::from_millis(100);

/// How long a disk that is full is tried again once the agent has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was typed, by one daemon and by others before it, and waits.
const MOST_KEYS: usize = 4 * INPUT_WINDOW as usize;

/// The terminal.
pub struct Terminal {
    master: Option<OwnedFd>,
    log: Log,
    size: WindowSize,
    /// Typed, and not yet taken.
    keys: VecDeque<u8>,
    /// Put out, and not yet on disk.
    shown: Backlog,
    /// Typed bytes that were taken.
    taken: u64,
    /// When the disk is tried again, if it took nothing.
    disk: Option<Instant>,
    /// Nobody holds the other side any more.
    agent_gone: bool,
    /// Whether the disk took no more of the output in the end.
    lost: bool,
}

impl Terminal {
    /// Not made yet.
    pub fn new(log: Log, size: WindowSize) -> Self {
        Self {
            master: None,
            log,
            size,
            keys: VecDeque::new(),
            shown: Backlog::default(),
            taken: 0,
            disk: None,
            agent_gone: false,
            lost: false,
        }
    }

    /// It was made: its master.
    pub fn open(&mut self, master: OwnedFd) -> io::Result<()> {
        // Nobody else reads or writes through the master, so its description may be non-blocking.
        rustix::io::ioctl_fionbio(&master, true)?;
        self.master = Some(master);
        Ok(())
    }

    /// The offset of the next byte of output.
    pub fn end(&self) -> u64 {
        self.log.end()
    }

    /// How many typed bytes the agent's terminal has taken, and how many have been typed.
    pub fn typed(&self) -> (u64, u64) {
        (self.taken, self.taken + self.keys.len() as u64)
    }

    /// Its size.
    pub fn size(&self) -> WindowSize {
        self.size
    }

    /// Whether output is missing from the end of the log.
    pub fn has_lost(&self) -> bool {
        self.lost
    }

    /// What poll is to wait for, if for anything.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, self.shown.has_room() && self.disk.is_none());
        wanted.set(PollFlags::OUT, !self.keys.is_empty());
        let master = self.master.as_ref().filter(|_| !self.agent_gone && !wanted.is_empty())?;
        Some((master.as_fd(), wanted))
    }

    /// When the disk is tried again.
    pub fn recheck(&self) -> Option<Instant> {
        self.disk
    }

    /// Types; false: more waits already than may.
    pub fn type_in(&mut self, bytes: &[u8]) -> bool {
        let fits = self.keys.len() + bytes.len() <= MOST_KEYS;
        if fits {
            self.keys.extend(bytes);
        }
        fits
    }

    /// Gives it another size, and says so in the log.
    pub fn resize(&mut self, size: Size) -> io::Result<()> {
        self.size = WindowSize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        if let Some(master) = &self.master {
            tcsetwinsize(master, self.size)?;
        }
        // A full disk has no room for the mark; the next segment begins with one.
        let _ = self.log.resize((size.cols, size.rows));
        Ok(())
    }

    /// Moves what can be moved without blocking.
    pub fn attend(&mut self, events: PollFlags) -> io::Result<()> {
        self.write_keys()?;
        if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read_output()?;
        }
        if !self.shown.is_empty() && self.disk.is_none_or(|at| Instant::now() >= at) {
            self.write_output();
        }
        Ok(())
    }

    /// Brings home what there is. A disk that takes nothing is tried again for a while, for the agent has ended.
    pub fn drain(&mut self) -> io::Result<()> {
        self.agent_gone = false;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let exhausted = self.read_output()?;
            self.write_output();
            match self.disk {
                None if exhausted => return Ok(()),
                None => {}
                Some(_) if Instant::now() >= deadline || self.lost => {
                    self.lost = true;
                    return Ok(());
                }
                Some(_) => std::thread::sleep(DISK_PAUSE),
            }
        }
    }

    fn write_keys(&mut self) -> io::Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        while !self.keys.is_empty() {
            match rustix::io::write(master, self.keys.as_slices().0) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(written) => {
                    self.keys.drain(..written);
                    self.taken += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::IO) => {
                    // Nobody will read them any more.
                    self.taken += self.keys.len() as u64;
                    self.keys.clear();
                }
                Err(error) => return Err(error.into()),
            }
        }
        // A paste is over, and its room is not kept.
        if self.keys.capacity() > 4096 {
            self.keys = VecDeque::new();
        }
        Ok(())
    }

    /// Whether there is no more at this moment.
    fn read_output(&mut self) -> io::Result<bool> {
        let Some(master) = &self.master else { return Ok(true) };
        let mut moved = 0;
        while self.shown.has_room() && moved < CAPACITY {
            match self.shown.fill(master) {
                Ok(0) | Err(Errno::IO) => {
                    self.agent_gone = true;
                    return Ok(true);
                }
                Ok(read) => moved += read,
                Err(Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    fn write_output(&mut self) {
        while !self.shown.is_empty() {
            match self.log.append(self.shown.waiting()) {
                Ok(written) => {
                    self.shown.consume(written);
                    self.disk = None;
                }
                Err(_) => {
                    self.disk = Some(Instant::now() + DISK_PAUSE);
                    return;
                }
            }
        }
    }
}
