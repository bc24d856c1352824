//! Carries bytes between the caller and the agent's terminal, in constant memory.
//!
//! ```text
//!  keys    input ──fill──▶ [64 KiB] ──flush──▶ master ──▶ agent
//!  output  output ◀─flush── [64 KiB] ◀──fill── master ◀── agent
//! ```
//!
//! While a backlog is full its source is not polled, so the kernel's own terminal buffer fills and the agent
//! waits: a slow reader slows the agent, and nothing is lost or piles up. No call here blocks but `finish`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};

use crate::shim::backlog::{Backlog, CAPACITY};
use crate::shim::ends::{Sink, Source};
use crate::shim::modes::Modes;
use crate::shim::terminal::WindowSize;

/// POLLIN, or one of the events that nobody asks for and that only a read can tell apart.
const READABLE: PollFlags = PollFlags::IN.union(PollFlags::HUP).union(PollFlags::ERR);

/// Both directions between the caller and one agent's terminal.
#[derive(Debug)]
pub struct Relay {
    input: Option<Source>,
    output: Option<Sink>,
    master: OwnedFd,
    keys: Backlog,
    shown: Backlog,
    listening: bool,
    /// Whether the agent's terminal still has to be told that the input ended.
    end_of_file_due: bool,
    /// Whether the last key that it got ended a line.
    at_line_start: bool,
    progress: Progress,
}

/// What has come to an end; each stays true once it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The caller's terminal hung up, or nobody reads the output any more: the agent is to be ended.
    pub caller_gone: bool,
    /// No process holds the agent's terminal any more, and all that was written to it has been read.
    pub agent_gone: bool,
}

/// How `Relay::finish` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Every byte has reached the caller.
    Complete,
    /// The caller went away before, or took nothing until the time was over.
    CallerGone,
    /// `interrupt` became readable before; `finish` may be called again.
    Interrupted,
}

/// Which poll entries are the relay's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interest {
    input: Option<usize>,
    output: Option<usize>,
    master: Option<usize>,
}

/// What poll said about them.
#[derive(Debug, Clone, Copy)]
pub struct Events {
    input: PollFlags,
    output: PollFlags,
    master: PollFlags,
}

impl Interest {
    /// Copies the answers out, which ends the borrow of the relay's descriptors.
    pub fn events(self, polled: &[PollFd<'_>]) -> Events {
        let of = |slot: Option<usize>| slot.map_or(PollFlags::empty(), |at| polled[at].revents());
        Events { input: of(self.input), output: of(self.output), master: of(self.master) }
    }
}

impl Relay {
    /// Between `input` and `output` (the caller's, either may be missing) and the agent's terminal.
    pub fn new(input: Option<OwnedFd>, output: Option<OwnedFd>, master: OwnedFd) -> io::Result<Self> {
        // Nobody but us reads or writes through the master, so its description may be non-blocking.
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self {
            input: input.map(Source::new),
            output: output.map(Sink::new).transpose()?,
            master,
            keys: Backlog::default(),
            shown: Backlog::default(),
            listening: true,
            end_of_file_due: false,
            at_line_start: true,
            progress: Progress::default(),
        })
    }

    /// Whether to read input at all. A terminal is read only while it is raw (`HostTerminal::is_raw`): in the
    /// background reading would stop us (SIGTTIN), and in a pipeline the keys may be meant for a neighbour.
    pub fn listen(&mut self, listening: bool) {
        self.listening = listening;
    }

    /// Resizes the agent's terminal; its foreground process group gets SIGWINCH if that changes anything.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        Ok(rustix::termios::tcsetwinsize(&self.master, size)?)
    }

    /// Gives the agent's terminal the caller's attributes (`HostTerminal::attributes`), before the agent starts.
    pub fn adopt(&self, attributes: &Termios) -> io::Result<()> {
        // On the master these ioctls speak of the slave (ioctl_tty(2)).
        Ok(rustix::termios::tcsetattr(&self.master, OptionalActions::Now, attributes)?)
    }

    /// Adds what is worth waiting for at this moment. Nothing is polled that could not be acted on, so poll never spins.
    pub fn register<'a>(&'a self, polls: &mut Vec<PollFd<'a>>) -> Interest {
        let mut add = |fd: BorrowedFd<'a>, events| {
            polls.push(PollFd::from_borrowed_fd(fd, events));
            Some(polls.len() - 1)
        };
        let mut interest = Interest::default();
        if let Some(input) = &self.input {
            if self.listening && self.keys.has_room() {
                interest.input = add(input.fd.as_fd(), PollFlags::IN);
            } else if input.is_terminal {
                interest.input = add(input.fd.as_fd(), PollFlags::empty()); // still tells of a hangup
            }
        }
        if let Some(output) = self.output.as_ref().filter(|_| !self.shown.is_empty()) {
            interest.output = add(output.fd.as_fd(), PollFlags::OUT);
        }
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, self.shown.has_room());
        wanted.set(PollFlags::OUT, !self.keys.is_empty() || self.end_of_file_due);
        if !self.progress.agent_gone && !wanted.is_empty() {
            interest.master = add(self.master.as_fd(), wanted);
        }
        interest
    }

    /// Moves what can be moved without blocking, at most one backlog's worth in each direction, so that the caller's
    /// other descriptors get their turn.
    pub fn ready(&mut self, events: Events, modes: &mut Modes) -> io::Result<Progress> {
        if events.input.intersects(READABLE) {
            self.read_input(events.input)?;
        }
        self.write_master()?;
        if events.output.intersects(PollFlags::OUT | PollFlags::HUP | PollFlags::ERR) {
            self.write_output(true, modes)?;
        }
        if events.master.intersects(READABLE) {
            let mut moved = 0;
            while moved < CAPACITY && self.shown.has_room() {
                match self.read_master()? {
                    0 => break,
                    read => moved += read,
                }
                self.write_output(false, modes)?;
            }
        }
        Ok(self.progress)
    }

    /// Brings the rest of the output to the caller, after the agent has ended and its cgroup is empty (else a writer
    /// that is left could go on for ever). Waits as long as the caller takes, like any program's last write; a
    /// readable `interrupt` (the signalfd) ends the wait, and so does `until`.
    pub fn finish(
        &mut self,
        interrupt: Option<BorrowedFd<'_>>,
        until: Option<Instant>,
        modes: &mut Modes,
    ) -> io::Result<Finish> {
        self.keys.clear();
        let mut writable = false;
        loop {
            let exhausted = self.read_all_there_is_room_for()?;
            self.write_output(writable, modes)?;
            if self.progress.caller_gone {
                return Ok(Finish::CallerGone);
            }
            if self.shown.is_empty() {
                match exhausted {
                    true => return Ok(Finish::Complete),
                    false => continue,
                }
            }
            let output = self.output.as_ref().expect("without an output nothing is left waiting");
            let mut polls = vec![PollFd::new(&output.fd, PollFlags::OUT)];
            polls.extend(interrupt.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut polls, timeout.as_ref()) {
                Ok(0) => return Ok(Finish::CallerGone),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            writable = !polls[0].revents().is_empty();
            if !writable && polls.get(1).is_some_and(|p| !p.revents().is_empty()) {
                return Ok(Finish::Interrupted);
            }
        }
    }

    fn read_input(&mut self, events: PollFlags) -> io::Result<()> {
        let Some(input) = &self.input else { return Ok(()) };
        let hung_up = input.is_terminal && events.contains(PollFlags::HUP);
        if !self.listening || !self.keys.has_room() {
            if hung_up {
                self.end_input(true);
            }
            return Ok(());
        }
        match self.keys.fill(&input.fd) {
            Ok(0) => self.end_input(hung_up),
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(Errno::IO) if hung_up => self.end_input(true),
            // Became somebody else's since we were told to listen; reading on would spin (or stop us, SIGTTIN).
            Err(Errno::IO) => self.listening = false,
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn end_input(&mut self, hung_up: bool) {
        self.input = None;
        self.end_of_file_due = !hung_up;
        self.progress.caller_gone |= hung_up;
    }

    fn write_master(&mut self) -> io::Result<()> {
        loop {
            if self.keys.is_empty() && self.end_of_file_due {
                self.push_end_of_file()?;
            }
            if self.keys.is_empty() {
                return Ok(());
            }
            match rustix::io::write(&self.master, self.keys.waiting()) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(written) => {
                    self.at_line_start = self.keys.waiting()[written - 1] == b'\n';
                    self.keys.consume(written);
                }
                Err(Errno::INTR) => {}
                Err(Errno::IO) => self.keys.clear(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// A terminal has no end of file to pass on, only a key that makes one: Ctrl-D as a rule, and only in canonical
    /// mode (termios(3), VEOF). Within a line the first one merely hands over what there is of it.
    fn push_end_of_file(&mut self) -> io::Result<()> {
        self.end_of_file_due = false;
        let attributes = rustix::termios::tcgetattr(&self.master)?;
        if attributes.local_modes.contains(LocalModes::ICANON) {
            let key = attributes.special_codes[SpecialCodeIndex::VEOF];
            let count = if self.at_line_start { 1 } else { 2 };
            self.keys.push(&[key; 2][..count]);
        }
        Ok(())
    }

    /// Whether the master has no more, rather than the backlog no more room.
    fn read_all_there_is_room_for(&mut self) -> io::Result<bool> {
        while self.shown.has_room() {
            if self.read_master()? == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads once; 0 if there is nothing now, or nothing any more.
    fn read_master(&mut self) -> io::Result<usize> {
        match self.shown.fill(&self.master) {
            // EIO: the last descriptor of the slave is closed and its output read.
            Ok(0) | Err(Errno::IO) => {
                self.progress.agent_gone = true;
                Ok(0)
            }
            Ok(read) => Ok(read),
            Err(Errno::AGAIN) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes what the caller takes now. `polled`: poll has just said that it takes something.
    fn write_output(&mut self, mut polled: bool, modes: &mut Modes) -> io::Result<()> {
        while !self.shown.is_empty() {
            let Some(output) = &self.output else {
                self.shown.clear();
                return Ok(());
            };
            match output.write(self.shown.waiting(), polled) {
                Ok(written) => {
                    modes.observe(&self.shown.waiting()[..written]);
                    self.shown.consume(written);
                    polled = false;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET | Errno::IO) => {
                    self.output = None;
                    self.progress.caller_gone = true;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
