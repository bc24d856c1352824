//! The front of a service's agent: its terminal goes to the log, a daemon that comes and goes is told and obeyed.
//!
//! ```text
//!  agent ─▶ master ─▶ [64 KiB] ─▶ log on disk ─▶ (read by the daemon)      `Output{end}` says how far
//!  agent ◀─ master ◀─ [64 KiB] ◀─ line ◀─ daemon                            `Taken{total}` makes room
//! ```
//! While the disk takes nothing the master is not read, and the agent waits: nothing is lost without a word.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::tcsetwinsize;

use super::kept;
use super::line::{self, Came, Line};
use super::log::Log;
use crate::jail::{Stream, WindowSize};
use crate::plan::Plan;
use crate::shim::ShimError;
use crate::shim::attestation::Attestation;
use crate::shim::backlog::{Backlog, CAPACITY};
use crate::shim::front::Front;
use crate::shim::session::Reins;
use crate::wire::ToInit;
use crate::wire::service::launcher::{Reason, Refusal};
use crate::wire::service::order::Size;
use crate::wire::service::shim::Phase;
use crate::wire::service::{Ended, Frame, FromShim, INPUT_WINDOW, Places, ToShim, Versions, places};

/// The daemon is told of new output at most this often.
const PACE: Duration = Duration::from_millis(1);

/// How long to wait before a full disk is tried again.
const DISK_PAUSE: Duration = Duration::from_millis(100);

/// Frames that are read before others get their turn.
const BATCH: usize = 64;

/// Who it is, and where it belongs.
pub struct Identity {
    /// The agent's name.
    pub id: String,
    /// The node's tree.
    pub places: Places,
    /// Whom it obeys.
    pub daemon_uid: u32,
    /// Which boot this is.
    pub boot: String,
}

/// The front.
pub struct ServiceFront {
    identity: Identity,
    listener: OwnedFd,
    line: Option<Line>,
    master: Option<OwnedFd>,
    log: Log,
    size: WindowSize,
    /// Typed, and not yet taken by the terminal.
    keys: Backlog,
    /// Put out, and not yet on disk.
    shown: Backlog,
    /// Typed bytes that the terminal has taken.
    taken: u64,
    phase: Phase,
    /// Whether it was asked to stop.
    pub stopped: bool,
    /// Whether the command was executed.
    pub was_started: bool,
    /// The end of the log that the daemon was told of, and when.
    told: (u64, Instant),
    /// When the disk is tried again, if it took nothing.
    disk: Option<Instant>,
    /// No process holds the terminal any more.
    agent_gone: bool,
}

/// Which poll entries are its own.
pub struct Interest {
    listener: usize,
    line: Option<usize>,
    master: Option<usize>,
}

/// What poll said about them.
pub struct Events {
    listener: bool,
    line: PollFlags,
    master: PollFlags,
}

impl ServiceFront {
    /// Before anything is built.
    pub fn new(identity: Identity, line: OwnedFd, listener: OwnedFd, log: Log, size: WindowSize) -> Self {
        let told = (log.end(), Instant::now());
        Self {
            identity,
            listener,
            line: Some(Line::new(line, 0)),
            master: None,
            log,
            size,
            keys: Backlog::default(),
            shown: Backlog::default(),
            taken: 0,
            phase: Phase::Starting,
            stopped: false,
            was_started: false,
            told,
            disk: None,
            agent_gone: false,
        }
    }

    /// The offset of the next byte of output.
    pub fn end(&self) -> u64 {
        self.log.end()
    }

    /// It was not started: says so, to whoever has said `Hello`.
    pub fn tell_not_started(&mut self, refusal: &Refusal) {
        self.greet_whoever_waits();
        self.say(&FromShim::NotStarted(refusal.clone()));
    }

    /// It has ended. Nothing comes after it.
    pub fn tell_ended(&mut self, ended: &Ended) {
        self.greet_whoever_waits();
        self.tell_output(true);
        self.say(&FromShim::Ended(ended.clone()));
        // What the daemon does not take now, it reads in exit.json.
        if let Some(line) = &mut self.line {
            line.flush();
        }
    }

    /// Nobody was attended to while the sandbox was built, or taken down.
    fn greet_whoever_waits(&mut self) {
        self.accept();
        for _ in 0..BATCH {
            match self.line.as_ref().map(Line::receive) {
                Some(Came::Frame(Frame::Message(ToShim::Hello { versions }), _)) => self.greet(versions),
                Some(Came::Frame(..)) => {}
                Some(Came::End) => return self.line = None,
                Some(Came::Nothing) | None => return,
            }
        }
    }

    fn say(&mut self, message: &FromShim) {
        let is_known = self.line.as_ref().is_some_and(|line| line.version.is_some());
        if is_known && !self.line.as_mut().is_some_and(|line| line.say(message)) {
            self.line = None;
        }
    }

    fn greet(&mut self, versions: Versions) {
        let Some(line) = &mut self.line else { return };
        let Some(version) = Versions::OWN.common(versions) else {
            let own = Versions::OWN;
            let detail = format!(
                "this shim speaks versions {} to {}, the daemon {} to {}: the agent goes on without it",
                own.oldest, own.newest, versions.oldest, versions.newest
            );
            let _ = line.say(&FromShim::Refused(Refusal { reason: Reason::Version, detail, field: None }));
            self.line = None;
            return;
        };
        line.version = Some(version);
        self.told = (self.log.end(), Instant::now());
        self.say(&FromShim::Welcome {
            version,
            id: self.identity.id.clone(),
            pid: std::process::id(),
            boot: self.identity.boot.clone(),
            phase: self.phase,
            end: self.log.end(),
            taken: self.taken,
            size: Size { cols: self.size.ws_col, rows: self.size.ws_row },
        });
    }

    /// A newer daemon replaces the older.
    fn accept(&mut self) {
        while let Some(socket) = line::accept(self.listener.as_fd(), self.identity.daemon_uid) {
            // What the older one typed last and nobody took yet still goes to the terminal; the newer counts from there.
            let typed = self.taken + self.keys.waiting().len() as u64;
            self.line = Some(Line::new(socket, typed));
        }
    }

    fn hear(&mut self, reins: &mut Reins<'_>) -> Result<(), ShimError> {
        for _ in 0..BATCH {
            let Some(line) = &mut self.line else { return Ok(()) };
            match line.receive() {
                Came::Nothing => return Ok(()),
                Came::End => self.line = None,
                Came::Frame(Frame::Message(ToShim::Hello { versions }), _) => self.greet(versions),
                Came::Frame(..) if line.version.is_none() => self.line = None,
                Came::Frame(Frame::Input(bytes), _) => self.type_in(&bytes),
                Came::Frame(Frame::Message(message), fds) => self.obey(message, fds, reins)?,
            }
        }
        Ok(())
    }

    fn type_in(&mut self, bytes: &[u8]) {
        let Some(line) = &mut self.line else { return };
        line.typed += bytes.len() as u64;
        if line.typed - self.taken > INPUT_WINDOW || !self.keys.push(bytes) {
            self.line = None;
        }
    }

    fn obey(&mut self, message: ToShim, fds: Vec<OwnedFd>, reins: &mut Reins<'_>) -> Result<(), ShimError> {
        match message {
            ToShim::Hello { versions } => self.greet(versions),
            ToShim::Resize(size) => self.resize(size)?,
            ToShim::Signal { number: number @ 1..=64 } => reins.tell(ToInit::Signal(number))?,
            ToShim::Signal { number } => self.refuse(format!("{number} is no signal: 1 to 64")),
            ToShim::Stop { grace_ms } => self.stop(Duration::from_millis(grace_ms), reins)?,
            ToShim::Usage => {
                let usage = super::usage::now(reins);
                self.say(&FromShim::Usage(usage));
            }
            ToShim::Exec { exec, .. } => {
                drop(fds);
                let refused = Some("this version runs nothing else within an agent's walls".to_owned());
                self.say(&FromShim::ExecEnded { exec, code: None, refused });
            }
            ToShim::Secret { name, value } => {
                let none = || Err("the agent has no way to the network".to_owned());
                let gateway = reins.gateway.as_mut();
                if let Err(why) = gateway.map_or_else(none, |gateway| gateway.replace_secret(&name, &value)) {
                    self.refuse(format!("credential {name:.80}: {why}"));
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, detail: String) {
        self.say(&FromShim::Refused(Refusal { reason: Reason::Malformed, detail, field: None }));
    }

    fn resize(&mut self, size: Size) -> io::Result<()> {
        if !(1..=1000).contains(&size.cols) || !(1..=1000).contains(&size.rows) {
            self.refuse("columns and rows are 1 to 1000".into());
            return Ok(());
        }
        self.size = WindowSize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        if let Some(master) = &self.master {
            tcsetwinsize(master, self.size)?;
        }
        // A full disk has no room for the mark; the bytes come first.
        let _ = self.log.resize((size.cols, size.rows));
        Ok(())
    }

    /// SIGTERM; and the whole group is killed when the time is over. Asking again can only bring that forward.
    fn stop(&mut self, grace: Duration, reins: &mut Reins<'_>) -> io::Result<()> {
        let Some(at) = Instant::now().checked_add(grace) else { return Ok(()) };
        self.stopped = true;
        self.phase = Phase::Stopping;
        reins.deadline = Some(reins.deadline.map_or(at, |earlier| earlier.min(at)));
        reins.tell(ToInit::Signal(libc::SIGTERM))?;
        // One that is stopped (SIGSTOP) would not hear it.
        reins.tell(ToInit::Signal(libc::SIGCONT))
    }

    fn write_keys(&mut self) -> io::Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        let before = self.taken;
        while !self.keys.is_empty() {
            match rustix::io::write(master, self.keys.waiting()) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(written) => {
                    self.keys.consume(written);
                    self.taken += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::IO) => {
                    // Nobody will read them any more.
                    self.taken += self.keys.waiting().len() as u64;
                    self.keys.clear();
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.taken != before && !self.line.as_mut().is_none_or(|line| line.tell_taken(self.taken)) {
            self.line = None;
        }
        Ok(())
    }

    /// Whether the terminal has no more for now.
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
                    break;
                }
            }
        }
        self.tell_output(false);
    }

    /// Tells the daemon how far the log reaches: now, or when its time comes.
    fn tell_output(&mut self, at_once: bool) {
        let (end, at) = self.told;
        if self.log.end() == end || !(at_once || at.elapsed() >= PACE) {
            return;
        }
        self.told = (self.log.end(), Instant::now());
        let is_known = self.line.as_ref().is_some_and(|line| line.version.is_some());
        if is_known && !self.line.as_mut().is_some_and(|line| line.tell_output(self.log.end())) {
            self.line = None;
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        loop {
            let exhausted = self.read_output()?;
            self.write_output();
            match self.disk {
                // What is left of the output is worth waiting for, but not for ever: the agent has ended.
                Some(_) if self.log.end() == self.told.0 => return Ok(()),
                _ if exhausted => return Ok(()),
                _ => {}
            }
        }
    }
}

impl Front for ServiceFront {
    type Interest = Interest;
    type Events = Events;

    fn prepare(&mut self, _plan: &Plan) -> Result<(), ShimError> {
        Ok(())
    }

    fn claimed(&mut self, range: u32, keeper: u32) -> io::Result<()> {
        let process = |pid| kept::Process::of(pid).ok_or_else(|| io::Error::other("/proc does not show it"));
        let boot = self.identity.boot.clone();
        let shim = process(std::process::id())?;
        let whereabouts = kept::Whereabouts { boot, shim, keeper: process(keeper)?, range };
        let path = kept::whereabouts(&self.identity.places, &self.identity.id);
        kept::put(&path, &whereabouts, 0o600, false)
    }

    fn streams(&self) -> [Stream; 3] {
        [Stream::Terminal; 3]
    }

    fn size(&self) -> Option<WindowSize> {
        Some(self.size)
    }

    fn awaits_start(&self) -> bool {
        true
    }

    fn open(&mut self, master: OwnedFd) -> io::Result<()> {
        // Nobody else reads or writes through the master, so its description may be non-blocking.
        rustix::io::ioctl_fionbio(&master, true)?;
        self.master = Some(master);
        Ok(())
    }

    fn attested(&mut self, attestation: &Attestation) -> io::Result<()> {
        let directory = self.identity.places.agent(&self.identity.id);
        kept::put(&directory.join(places::ATTESTATION), attestation, 0o640, false)
    }

    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn started(&mut self) -> io::Result<()> {
        self.was_started = true;
        if self.phase == Phase::Starting {
            self.phase = Phase::Running;
        }
        // Whoever waits for the start has said `Hello` by now, and hears `Welcome` first.
        if self.line.as_ref().is_some_and(|line| line.version.is_none()) {
            self.phase = Phase::Starting;
            self.greet_first();
            self.phase = Phase::Running;
        }
        self.say(&FromShim::Running { since: kept::now() });
        Ok(())
    }

    fn register<'a>(&'a self, polls: &mut Vec<PollFd<'a>>) -> Interest {
        let mut add = |fd, events| {
            polls.push(PollFd::from_borrowed_fd(fd, events));
            polls.len() - 1
        };
        let listener = add(self.listener.as_fd(), PollFlags::IN);
        let line = self.line.as_ref().map(|line| add(line.fd(), line.interest()));
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, self.shown.has_room() && self.disk.is_none());
        wanted.set(PollFlags::OUT, !self.keys.is_empty());
        let master = self.master.as_ref().filter(|_| !self.agent_gone && !wanted.is_empty());
        Interest { listener, line, master: master.map(|master| add(master.as_fd(), wanted)) }
    }

    fn events(&self, interest: &Interest, polled: &[PollFd<'_>]) -> Events {
        let of = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| polled[at].revents());
        let listener = !polled[interest.listener].revents().is_empty();
        Events { listener, line: of(interest.line), master: of(interest.master) }
    }

    fn recheck_after(&self) -> Option<Duration> {
        let output = (self.log.end() != self.told.0).then(|| self.told.1 + PACE);
        let soonest = [output, self.disk].into_iter().flatten().min()?;
        Some(soonest.saturating_duration_since(Instant::now()))
    }

    fn attend(&mut self, events: Events, reins: &mut Reins<'_>) -> Result<(), ShimError> {
        if events.line.contains(PollFlags::OUT) && !self.line.as_mut().is_none_or(Line::flush) {
            self.line = None;
        }
        if events.line.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.hear(reins)?;
        }
        if events.listener {
            self.accept();
        }
        self.write_keys()?;
        if events.master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read_output()?;
        }
        if !self.shown.is_empty() && self.disk.is_none_or(|at| Instant::now() >= at) {
            self.write_output();
        }
        self.tell_output(false);
        Ok(())
    }

    /// Ctrl-Z, or a program that stops itself: no shell is there to continue it.
    fn suspended(&mut self, reins: &Reins<'_>) -> io::Result<()> {
        reins.tell(ToInit::Resume)
    }

    fn finish(&mut self, _patience: Option<Instant>) -> io::Result<()> {
        self.drain()
    }

    fn last(&mut self) -> io::Result<()> {
        self.agent_gone = false;
        self.drain()
    }
}

impl ServiceFront {
    /// Reads no further than `Hello`: what follows it is for the running agent.
    fn greet_first(&mut self) {
        match self.line.as_ref().map(Line::receive) {
            Some(Came::Frame(Frame::Message(ToShim::Hello { versions }), _)) => self.greet(versions),
            Some(Came::Frame(..) | Came::End) => self.line = None,
            Some(Came::Nothing) | None => {}
        }
    }
}
