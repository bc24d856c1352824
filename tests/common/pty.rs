//! A person at a terminal: runs a program on a pseudo terminal of its own, types, and reads what appears.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use stockade::agents::emulator::Emulator;
use stockade::api::agent::Size;

/// No wait in a test is longer; a wait that succeeds ends at once. A real agent's first start copies hundreds of megabytes.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a key is pressed that may be thrown away, and one that is only late where the machine is busy.
const AGAIN: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_secs(15);
/// By these programs take a terminal for somebody else's than a person's: Gemini CLI asks nothing where `CI` is set.
const NOBODYS: [&str; 6] =
    ["CI", "CONTINUOUS_INTEGRATION", "GITHUB_ACTIONS", "BUILD_NUMBER", "FORCE_COLOR", "NO_COLOR"];

/// A program on its terminal.
pub struct Session {
    /// None once it hung up.
    master: Option<File>,
    child: Child,
    /// All that appeared, and how far it was read.
    shown: Vec<u8>,
    read: usize,
    /// The screen as it is, and as it was where reading stopped.
    screen: Emulator,
    before: Emulator,
}

impl Session {
    /// Starts `argv` as leader of a new session whose controlling terminal is `columns` x `rows`.
    pub fn start(argv: &[&str], columns: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).expect("a pty");
        rustix::pty::unlockpt(&master).expect("unlocked");
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("its slave");
        let stream = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("dup"));
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).args(argv);
        command.stdin(stream(&slave)).stdout(stream(&slave)).stderr(stream(&slave));
        command.env("TERM", "xterm-256color").env("PS1", "$ ").env_remove("PROMPT_COMMAND");
        for name in NOBODYS {
            command.env_remove(name);
        }
        let child = command.spawn().expect("setsid(1) from util-linux starts");
        let size = Size { cols: columns, rows };
        let (screen, before) = (Emulator::new(size), Emulator::new(size));
        let master = Some(File::from(master));
        let mut session = Self { master, child, shown: Vec::new(), read: 0, screen, before };
        session.resize(columns, rows);
        session
    }

    /// An interactive bash with job control and without anybody's start-up files.
    pub fn bash(columns: u16, rows: u16) -> Self {
        let mut session = Self::start(&["bash", "--norc", "--noprofile", "--noediting", "-i"], columns, rows);
        session.expect("$ ");
        session
    }

    /// Types these bytes.
    pub fn send(&mut self, keys: &str) {
        self.master().write_all(keys.as_bytes()).expect("typed");
    }

    /// Types a command line and returns what it shows.
    pub fn run(&mut self, line: &str) -> String {
        // The echo of the line holds neither marker: printf(1) puts them together. `$?` stays the last line's.
        self.send(&format!("was=$?; printf '<%s>' begin; (exit $was); {line}; printf '<%s>' end\n"));
        self.expect("<begin>");
        let shown = self.expect("<end>");
        self.expect("$ ");
        shown
    }

    /// Waits until `text` appears after what was read so far; what came before it is returned.
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let fresh = &self.shown[self.read..];
            if let Some(at) = fresh.windows(text.len()).position(|window| window == text.as_bytes()) {
                let before = String::from_utf8_lossy(&fresh[..at]).into_owned();
                self.has_read(at + text.len());
                return before;
            }
            let open = self.receive(deadline.saturating_duration_since(Instant::now()));
            assert!(open, "{text:?} did not appear; since the last match there was:\n{:?}", self.fresh());
        }
    }

    /// Waits until a person would read `text`: in what was written since the last match, whatever colours and moves of the
    /// cursor lie between its letters, or on the screen, where a program leaves standing the letters that were right already.
    pub fn sees(&mut self, text: &str) {
        let wanted: String = text.split_whitespace().collect();
        let deadline = Instant::now() + PATIENCE;
        while !self.reads(&wanted) {
            let open = self.receive(deadline.saturating_duration_since(Instant::now()));
            assert!(open, "{text:?} did not appear; {}", self.instead());
        }
    }

    /// Whether these letters have appeared; if so, what was read so far ends with them.
    fn reads(&mut self, wanted: &str) -> bool {
        let fresh = &self.shown[self.read..];
        let holds = |end: usize| letters(&String::from_utf8_lossy(&fresh[..end])).contains(wanted);
        if holds(fresh.len()) {
            let ends: Vec<usize> = (0..=fresh.len()).collect();
            let end = ends.partition_point(|end| !holds(*end));
            self.has_read(end);
            return true;
        }
        let appeared = on(&mut self.screen).contains(wanted) && !on(&mut self.before).contains(wanted);
        if appeared {
            self.has_read(self.shown.len() - self.read);
        }
        appeared
    }

    /// Reading goes on `count` bytes further.
    fn has_read(&mut self, count: usize) {
        self.before.feed(&self.shown[self.read..self.read + count]);
        self.read += count;
    }

    /// What there was in the place of what did not appear.
    fn instead(&mut self) -> String {
        let screen = self.screen.view().text();
        format!("since the last match there was:\n{}\non the screen:\n{screen}", letters(&self.fresh()))
    }

    /// Does something, again every two seconds, until `text` appears, as it stands or as a person would read it: for
    /// programs that throw away what comes to them while they start.
    pub fn insists(&mut self, text: &str, act: impl FnMut(&mut Self, u16)) {
        self.insists_every(AGAIN, text, act);
    }

    /// The same for what ends a program: done twice in a row it would meet whoever has the terminal next.
    pub fn ends_by(&mut self, text: &str, act: impl FnMut(&mut Self, u16)) {
        self.insists_every(LATE, text, act);
    }

    fn insists_every(&mut self, pause: Duration, text: &str, mut act: impl FnMut(&mut Self, u16)) {
        let wanted: String = text.split_whitespace().collect();
        let deadline = Instant::now() + PATIENCE;
        for attempt in 0.. {
            assert!(Instant::now() < deadline, "{text:?} did not appear; {}", self.instead());
            act(self, attempt);
            let next = Instant::now() + pause;
            while self.receive(next.saturating_duration_since(Instant::now())) {
                if self.fresh().contains(text) || self.reads(&wanted) {
                    return;
                }
            }
        }
    }

    /// All that has appeared from the start.
    pub fn everything(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// What has appeared since the last match.
    pub fn fresh(&self) -> String {
        String::from_utf8_lossy(&self.shown[self.read..]).into_owned()
    }

    /// Changes the window's size; its foreground gets SIGWINCH.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.screen.resize(Size { cols: columns, rows });
        self.before.resize(Size { cols: columns, rows });
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.master.as_ref().expect("not hung up"), size).expect("resized");
    }

    /// Whether keys reach whoever reads the terminal one by one, and none of them as a signal.
    pub fn is_raw(&self) -> bool {
        use rustix::termios::{LocalModes, tcgetattr};
        let attributes = tcgetattr(self.master.as_ref().expect("not hung up")).expect("attributes");
        !attributes.local_modes.intersects(LocalModes::ICANON | LocalModes::ISIG)
    }

    /// The process group that has the terminal now.
    pub fn foreground(&self) -> i32 {
        let group = rustix::termios::tcgetpgrp(self.master.as_ref().expect("not hung up"));
        group.expect("a session has this terminal").as_raw_nonzero().get()
    }

    /// The line is cut.
    pub fn hang_up(&mut self) {
        self.master = None;
    }

    fn master(&mut self) -> &mut File {
        self.master.as_mut().expect("not hung up")
    }

    /// Reads what there is, waiting at most this long; false at the end, or if nothing came.
    fn receive(&mut self, patience: Duration) -> bool {
        let timeout = Timespec::try_from(patience).expect("short");
        let mut polls = [PollFd::new(self.master.as_ref().expect("not hung up"), PollFlags::IN)];
        if poll(&mut polls, Some(&timeout)).expect("poll") == 0 {
            return false;
        }
        let mut part = [0; 65536];
        let count = self.master().read(&mut part).unwrap_or(0);
        self.shown.extend_from_slice(&part[..count]);
        self.screen.feed(&part[..count]);
        count > 0
    }
}

/// The letters on a screen.
fn on(screen: &mut Emulator) -> String {
    screen.view().text().split_whitespace().collect()
}

/// What is neither a blank nor part of an escape sequence (ECMA-48).
fn letters(shown: &str) -> String {
    let mut letters = String::new();
    let mut characters = shown.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => match characters.next() {
                Some('[') => drop(characters.find(|c| ('@'..='~').contains(c))),
                // A string, up to BEL or ESC \.
                Some(']' | 'P' | '_' | '^') => {
                    let end = characters.find(|c| matches!(c, '\x07' | '\x1b'));
                    if end == Some('\x1b') {
                        characters.next();
                    }
                }
                _ => {}
            },
            other if other.is_whitespace() || other.is_control() => {}
            other => letters.push(other),
        }
    }
    letters
}

impl Drop for Session {
    fn drop(&mut self) {
        // Hanging up ends whatever still runs on the terminal; only our own child is waited for.
        self.master = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
