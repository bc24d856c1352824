//! The caller's terminal: raw while the agent has it, and given back as it was found.
//!
//! ```text
//!            enter_raw (in the foreground)
//!   Cooked ───────────────────────────────▶ Raw      keys travel as bytes; the agent's own terminal
//!     ▲  ◀─────────────────────────────────  │       turns Ctrl-C into SIGINT, Ctrl-Z into SIGTSTP
//!     │        restore, suspend, Drop        │
//!     └── in the background: never touched, never read; looked at again every `RECHECK`
//! ```
//!
//! The terminal's open file description is shared with the caller's shell, so it is never made non-blocking. We
//! open the same terminal again instead, for a description of our own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::Termios;
/// Rows, columns and pixels.
pub use rustix::termios::Winsize as WindowSize;

use crate::shim::modes::Modes;
use crate::sys;

/// How long a terminal that takes no bytes may hold up giving it back.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// A shell that brings a *running* background job to the foreground sends no signal (bash does so only to a stopped
/// one), so a job in the background has to look.
const RECHECK: Duration = Duration::from_millis(200);

/// The multiplexer `/dev/ptmx`: opening it again makes another terminal instead of finding this one.
const PTMX: (u32, u32) = (5, 2);

/// The caller's terminal, if one of its standard streams is one.
#[derive(Debug)]
pub struct HostTerminal {
    tty: OwnedFd,
    /// As they were when raw mode was entered; none while it is not.
    cooked: Option<Termios>,
    /// What the agent's output has switched on. The relay keeps it up to date.
    pub modes: Modes,
}

impl HostTerminal {
    /// The first terminal among stdin, stdout and stderr.
    pub fn find() -> io::Result<Option<Self>> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        streams.iter().find(|fd| rustix::termios::isatty(fd)).map(Self::from_tty).transpose()
    }

    /// This terminal, through a descriptor of our own.
    pub fn from_tty(tty: impl AsFd) -> io::Result<Self> {
        let tty = open_again(tty.as_fd()).or_else(|_| tty.as_fd().try_clone_to_owned())?;
        Ok(Self { tty, cooked: None, modes: Modes::default() })
    }

    /// A descriptor for the relay, which reads keys from it and writes output to it.
    pub fn channel(&self) -> io::Result<OwnedFd> {
        self.tty.try_clone()
    }

    /// Its size in cells and pixels; a side that it does not know counts as that of 80x24.
    pub fn size(&self) -> WindowSize {
        let unknown = WindowSize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        let size = rustix::termios::tcgetwinsize(&self.tty).unwrap_or(unknown);
        WindowSize {
            ws_row: if size.ws_row == 0 { 24 } else { size.ws_row },
            ws_col: if size.ws_col == 0 { 80 } else { size.ws_col },
            ..size
        }
    }

    /// Whether we may change and read it. A terminal that controls no session of ours has no foreground to be in.
    pub fn is_foreground(&self) -> bool {
        match rustix::termios::tcgetpgrp(&self.tty) {
            Ok(group) => group == rustix::process::getpgrp(),
            Err(errno) => errno == Errno::NOTTY,
        }
    }

    /// The attributes that the agent's terminal starts with: the caller's erase key, UTF-8 handling and so on.
    pub fn attributes(&self) -> io::Result<Termios> {
        match &self.cooked {
            Some(cooked) => Ok(cooked.clone()),
            None => Ok(rustix::termios::tcgetattr(&self.tty)?),
        }
    }

    /// Whether keys travel as bytes. Only then may the relay read: what is typed otherwise is meant for the shell.
    pub fn is_raw(&self) -> bool {
        self.cooked.is_some()
    }

    /// Makes every key travel as a byte, Ctrl-C and Ctrl-Z included, and brings back what an earlier `restore`
    /// switched off. In the background it changes nothing; either way it says whether the terminal is raw now.
    pub fn enter_raw(&mut self) -> io::Result<bool> {
        if !self.is_foreground() {
            return Ok(self.is_raw());
        }
        let cooked = self.attributes()?;
        let mut raw = cooked.clone();
        raw.make_raw();
        if sys::terminal::set_attributes(self.tty.as_fd(), &raw)? && self.cooked.replace(cooked).is_none() {
            self.write(&self.modes.redo());
        }
        Ok(self.is_raw())
    }

    /// When to try `enter_raw` again: while in the background, which nobody tells us when it ends.
    pub fn recheck_after(&self) -> Option<Duration> {
        (!self.is_raw()).then_some(RECHECK)
    }

    /// Gives the terminal back: attributes as they were found, and everything off that the agent left on.
    ///
    /// A terminal that hung up has nothing left to restore, and one whose foreground went to somebody else is theirs.
    pub fn restore(&mut self) -> io::Result<()> {
        let Some(cooked) = self.cooked.take() else { return Ok(()) };
        self.write(&self.modes.undo());
        match sys::terminal::set_attributes(self.tty.as_fd(), &cooked) {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Stops this job as the shell expects it after Ctrl-Z, and returns when it goes on.
    ///
    /// The key reached us as a byte, so the kernel has not stopped anybody. The whole process group gets SIGTSTP, as
    /// it would have: a pipeline is a stopped job only once all of it has stopped. SIGTSTP rather than SIGSTOP, since
    /// the kernel drops it where no shell is left to continue the group (signal(7), orphaned process groups) and
    /// we then simply go on. Afterwards the caller sends the size again and lets the agent continue.
    pub fn suspend(&mut self) -> io::Result<()> {
        self.restore()?;
        let mask = SigSet::from(Signal::SIGTSTP).thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?;
        // Returns after the stop and SIGCONT: a signal to oneself that is not blocked arrives before kill(2) returns.
        let stopped = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
        mask.thread_set_mask()?;
        stopped?;
        self.enter_raw().map(drop)
    }

    /// Writes all of it, unless the terminal is gone or takes nothing for a while.
    fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut ready = [PollFd::new(&self.tty, PollFlags::OUT)];
            match poll(&mut ready, Some(&PATIENCE)) {
                Err(Errno::INTR) => continue,
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            match rustix::io::write(&self.tty, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return,
            }
        }
    }
}

impl Drop for HostTerminal {
    fn drop(&mut self) {
        // Nobody is left to tell: whoever wanted to know has called `restore`.
        let _ = self.restore();
    }
}

/// The same terminal as a new open file description, so that O_NONBLOCK stays ours. Fails where the terminal belongs
/// to another user; its descriptor is shared then, and the relay writes less at once.
fn open_again(tty: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let device = rustix::fs::fstat(tty)?.st_rdev;
    if (rustix::fs::major(device), rustix::fs::minor(device)) == PTMX {
        return Err(Errno::NOTTY.into());
    }
    let path = format!("/proc/self/fd/{}", tty.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let again = rustix::fs::open(path, flags, Mode::empty())?;
    // Without /proc mounted as proc(5), the path could lead anywhere.
    if rustix::fs::fstat(&again)?.st_rdev != device || !rustix::termios::isatty(&again) {
        return Err(Errno::NOTTY.into());
    }
    Ok(again)
}
