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
    /// switched off. In the background it changes nothing, and a terminal that hung up is the relay's to notice;
    /// either way it says whether the terminal is raw now.
    pub fn enter_raw(&mut self) -> io::Result<bool> {
        if self.is_foreground() {
            self.make_raw().or_else(unless_hung_up)?;
        }
        Ok(self.is_raw())
    }

    fn make_raw(&mut self) -> io::Result<()> {
        let cooked = self.attributes()?;
        let mut raw = cooked.clone();
        raw.make_raw();
        if sys::terminal::set_attributes(self.tty.as_fd(), &raw)? && self.cooked.replace(cooked).is_none() {
            self.write(&self.modes.redo());
        }
        Ok(())
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
        sys::terminal::set_attributes(self.tty.as_fd(), &cooked).map(drop).or_else(unless_hung_up)
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

/// Passes an error on, except the one that every call on a terminal gives after a hangup.
fn unless_hung_up(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(Errno::IO.raw_os_error()) { Ok(()) } else { Err(error) }
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::termios::{InputModes, LocalModes, OutputModes};

    use super::*;
    use crate::shim::testing::pty;

    fn attributes_of(tty: &OwnedFd) -> String {
        format!("{:?}", rustix::termios::tcgetattr(tty).expect("attributes"))
    }

    /// What the other side shows until it has nothing more.
    fn shown(master: &OwnedFd) -> String {
        rustix::io::ioctl_fionbio(master, true).expect("non-blocking");
        let (mut all, mut part) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = rustix::io::read(master, &mut part) {
            all.extend_from_slice(&part[..count]);
        }
        String::from_utf8(all).expect("text")
    }

    #[test]
    fn raw_mode_lets_every_key_through_and_is_undone_to_the_last_flag() {
        let (_master, slave) = pty();
        let before = attributes_of(&slave);
        let mut terminal = HostTerminal::from_tty(&slave).expect("terminal");
        assert!(terminal.enter_raw().expect("raw"));
        assert!(terminal.enter_raw().expect("raw again, as after SIGCONT"));
        let raw = rustix::termios::tcgetattr(&slave).expect("attributes");
        assert!(!raw.local_modes.intersects(LocalModes::ISIG | LocalModes::ICANON | LocalModes::ECHO));
        assert!(!raw.input_modes.intersects(InputModes::IXON | InputModes::ICRNL));
        assert!(!raw.output_modes.contains(OutputModes::OPOST));
        terminal.restore().expect("restore");
        assert!(!terminal.is_raw());
        assert_eq!(attributes_of(&slave), before);
    }

    #[test]
    fn a_panic_gives_the_terminal_back_and_switches_off_what_was_on() {
        let (master, slave) = pty();
        let before = attributes_of(&slave);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut terminal = HostTerminal::from_tty(&slave).expect("terminal");
            terminal.enter_raw().expect("raw");
            terminal.modes.observe(b"\x1b[?1049h\x1b[?1003;1006h\x1b[?25l");
            panic!("as intended");
        }));
        assert!(ended.is_err());
        assert_eq!(attributes_of(&slave), before);
        assert_eq!(shown(&master), "\x1b[?1003l\x1b[?1006l\x1b[?1049l\x1b[?25h");
    }

    #[test]
    fn what_a_stop_switched_off_comes_back_with_raw_mode() {
        let (master, slave) = pty();
        let mut terminal = HostTerminal::from_tty(&slave).expect("terminal");
        terminal.enter_raw().expect("raw");
        terminal.modes.observe(b"\x1b[?1049h\x1b[?2004h");
        terminal.restore().expect("restore");
        assert_eq!(shown(&master), "\x1b[?2004l\x1b[?1049l");
        terminal.enter_raw().expect("raw");
        assert_eq!(shown(&master), "\x1b[?2004h\x1b[?1049h");
    }

    #[test]
    fn a_terminal_that_was_left_in_order_is_written_nothing() {
        let (master, slave) = pty();
        let mut terminal = HostTerminal::from_tty(&slave).expect("terminal");
        terminal.enter_raw().expect("raw");
        terminal.modes.observe(b"\x1b[?1049h\x1b[1mhello\x1b[m\x1b[?1049l");
        terminal.restore().expect("restore");
        assert_eq!(shown(&master), "");
    }

    #[test]
    fn a_terminal_without_a_size_counts_as_80x24() {
        let (_master, slave) = pty();
        let terminal = HostTerminal::from_tty(&slave).expect("terminal");
        assert_eq!((terminal.size().ws_col, terminal.size().ws_row), (80, 24));
        let size = WindowSize { ws_row: 50, ws_col: 0, ws_xpixel: 0, ws_ypixel: 800 };
        rustix::termios::tcsetwinsize(&slave, size).expect("resize");
        let size = terminal.size();
        assert_eq!((size.ws_col, size.ws_row, size.ws_ypixel), (80, 50, 800));
    }

    #[test]
    fn the_shells_description_stays_blocking_while_ours_is_not() {
        let (_master, slave) = pty();
        let terminal = HostTerminal::from_tty(&slave).expect("terminal");
        let channel = terminal.channel().expect("channel");
        let is_nonblocking =
            |fd: &OwnedFd| rustix::fs::fcntl_getfl(fd).expect("flags").contains(OFlags::NONBLOCK);
        assert!(!is_nonblocking(&slave) && is_nonblocking(&channel));
    }

    #[test]
    fn a_multiplexer_is_not_opened_again_into_another_terminal() {
        let (master, slave) = pty();
        let terminal = HostTerminal::from_tty(&master).expect("terminal");
        terminal.write(b"typed\n");
        let mut line = [0; 16];
        let count = rustix::io::read(&slave, &mut line).expect("read");
        assert_eq!(&line[..count], b"typed\n", "went elsewhere");
    }

    #[test]
    fn a_terminal_that_hung_up_or_takes_nothing_does_not_hold_up_the_end() {
        let (master, slave) = pty();
        let mut gone = HostTerminal::from_tty(&slave).expect("terminal");
        gone.enter_raw().expect("raw");
        gone.modes.observe(b"\x1b[?1049h");
        drop(master);
        gone.enter_raw().expect("nothing left to change");
        gone.restore().expect("nothing left to restore");

        let (_master, slave) = pty();
        let before = attributes_of(&slave);
        let mut stuck = HostTerminal::from_tty(&slave).expect("terminal");
        stuck.enter_raw().expect("raw");
        stuck.modes.observe(b"\x1b[?1049h");
        while rustix::io::write(stuck.tty.as_fd(), &[b'x'; 4096]).is_ok() {}
        stuck.restore().expect("restore");
        assert_eq!(attributes_of(&slave), before, "attributes are restored all the same");
    }
}
