//! The front of a service's agent: its terminal goes to the log, a daemon that comes and goes is told and obeyed.

mod inside;
mod verdicts;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::estate::Read;
use super::kept;
use super::line::{self, Came, Line};
use super::meter::Meter;
use super::terminal::Terminal;
use crate::cgroup::Usage;
use crate::jail::{Stream, WindowSize};
use crate::plan::Plan;
use crate::shim::ShimError;
use crate::shim::attestation::Attestation;
use crate::shim::egress::Traffic;
use crate::shim::front::{Decisions, Front};
use crate::shim::keeper::Keeper;
use crate::shim::session::Reins;
use crate::sys::process::End;
use crate::wire::service::launcher::{Reason, Refusal};
use crate::wire::service::order::{File, Size};
use crate::wire::service::shim::Phase;
use crate::wire::service::usage::Metered;
use crate::wire::service::{Ended, Frame, FromShim, INPUT_WINDOW, Places, ToShim, Versions, places};
use crate::wire::{Extra, ToInit};

/// The daemon is told of new output at most this often.
const PACE: Duration = Duration::from_millis(1);

/// How long a daemon that has not said `Hello` yet may take to hear of the end.
const COURTESY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// As many things at once are run beside the agent.
const MOST_EXTRAS: usize = 64;

/// The longest time that a stop can leave.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// Whether the kernel's audit is on, if the launcher has asked.
    pub audit: Option<Result<(), String>>,
}

/// The front.
pub struct ServiceFront {
    identity: Identity,
    listener: OwnedFd,
    line: Option<Line>,
    terminal: Terminal,
    /// For the agent's directory.
    files: Vec<File>,
    phase: Phase,
    /// Whether it was asked to stop.
    pub stopped: bool,
    /// When the command was executed, in milliseconds since 1970.
    pub since: Option<u64>,
    /// What else runs within the walls: the number that init knows, and the daemon's.
    extras: BTreeMap<i32, u64>,
    next_extra: i32,
    /// The end of the log that the daemon was told of, and when.
    told: (u64, Instant),
    meter: Meter,
    verdicts: verdicts::Verdicts,
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
    pub fn new(
        identity: Identity,
        line: OwnedFd,
        listener: OwnedFd,
        terminal: Terminal,
        meter: Meter,
    ) -> Self {
        let told = (terminal.end(), Instant::now());
        Self {
            identity,
            listener,
            line: Some(Line::new(line, 0)),
            terminal,
            files: Vec::new(),
            phase: Phase::Starting,
            stopped: false,
            since: None,
            extras: BTreeMap::new(),
            next_extra: 0,
            told,
            meter,
            verdicts: Default::default(),
        }
    }

    /// What is known of its usage, if it runs or did.
    pub fn metered_so_far(&self) -> Option<Box<Metered>> {
        self.since.map(|_| self.metered())
    }

    /// All that it used.
    pub fn metered(&self) -> Box<Metered> {
        Box::new(self.meter.last_word())
    }

    /// Whether the kernel's audit is on, if the launcher has asked.
    pub fn audit(&self) -> Option<&Result<(), String>> {
        self.identity.audit.as_ref()
    }

    /// What is to lie in the agent's directory.
    pub fn put_files(&mut self, files: Vec<File>) {
        self.files = files;
    }

    /// Its terminal.
    pub fn terminal(&self) -> &Terminal {
        &self.terminal
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
        self.await_hello();
        for _ in 0..BATCH {
            match self.line.as_ref().map(Line::receive) {
                Some(Came::Frame(Frame::Message(ToShim::Hello { versions }), _)) => self.greet(versions),
                Some(Came::Frame(..)) => {}
                Some(Came::End) => return self.line = None,
                Some(Came::Nothing) | None => return,
            }
        }
    }

    /// A start can fail faster than a daemon says `Hello`.
    fn await_hello(&self) {
        let Some(line) = self.line.as_ref().filter(|line| line.version.is_none()) else { return };
        let mut polls = [PollFd::from_borrowed_fd(line.fd(), PollFlags::IN)];
        // Late, or interrupted: it reads exit.json then.
        let _ = poll(&mut polls, Some(&COURTESY));
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
        let typed = line.first;
        let (end, size) = (self.terminal.end(), self.terminal.size());
        self.told = (end, Instant::now());
        self.say(&FromShim::Welcome {
            version,
            id: self.identity.id.clone(),
            pid: std::process::id(),
            boot: self.identity.boot.clone(),
            phase: self.phase,
            end,
            // What an earlier daemon typed last, and nobody has read yet, is not this one's to wait for.
            taken: typed,
            size: Size { cols: size.ws_col, rows: size.ws_row },
        });
        if let Some(since) = self.since {
            self.say(&FromShim::Running { since });
        }
    }

    /// A newer daemon replaces the older.
    fn accept(&mut self) {
        while let Some(socket) = line::accept(self.listener.as_fd(), self.identity.daemon_uid) {
            // What the older one typed last and nobody took yet still goes to the terminal; the newer counts from there.
            let (_, typed) = self.terminal.typed();
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
        let (taken, _) = self.terminal.typed();
        if line.typed - taken.max(line.first) > INPUT_WINDOW || !self.terminal.type_in(bytes) {
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
                self.meter.write(reins);
                let usage = super::usage::now(reins);
                self.say(&FromShim::Usage(usage));
            }
            ToShim::Exec { exec, command, environment } => {
                let extra = Extra { command, environment };
                if let Err(why) = self.run_extra(exec, &extra, &fds, reins) {
                    self.say(&FromShim::ExecEnded { exec, code: None, refused: Some(why) });
                }
            }
            ToShim::EndExec { exec } => {
                if let Some((number, _)) = self.extras.iter().find(|(_, known)| **known == exec) {
                    reins.tell(ToInit::EndExec(*number))?;
                }
            }
            ToShim::Dial { port } => {
                if let Err(why) = self.dial(port, &fds, reins) {
                    self.refuse(why);
                }
            }
            ToShim::Secret { name, value } => {
                let none = || Err("the agent has no way to the network".to_owned());
                let gateway = reins.gateway.as_mut();
                if let Err(why) = gateway.map_or_else(none, |gateway| gateway.replace_secret(&name, &value)) {
                    let detail = format!("credential {name:.80}: {why}");
                    self.say(&FromShim::Refused(Refusal { reason: Reason::Exceeds, detail, field: None }));
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
        self.terminal.resize(size)
    }

    /// SIGTERM; and the whole group is killed when the time is over. Asking again can only bring that forward.
    fn stop(&mut self, grace: Duration, reins: &mut Reins<'_>) -> io::Result<()> {
        let at = Instant::now() + grace.min(LONGEST_GRACE);
        self.stopped = true;
        self.phase = Phase::Stopping;
        reins.deadline = Some(reins.deadline.map_or(at, |earlier| earlier.min(at)));
        reins.tell(ToInit::Signal(libc::SIGTERM))?;
        // One that is stopped (SIGSTOP) would not hear it.
        reins.tell(ToInit::Signal(libc::SIGCONT))
    }

    /// Tells the daemon that what it typed was taken.
    fn tell_taken(&mut self, before: u64) {
        let (taken, _) = self.terminal.typed();
        let owed = self.line.as_ref().is_some_and(|line| taken > before.max(line.first));
        if owed && !self.line.as_mut().is_some_and(|line| line.tell_taken(taken)) {
            self.line = None;
        }
    }

    /// Tells the daemon how far the log reaches: now, or when its time comes.
    fn tell_output(&mut self, at_once: bool) {
        let (end, (told, at)) = (self.terminal.end(), self.told);
        if end == told || !(at_once || at.elapsed() >= PACE) {
            return;
        }
        self.told = (end, Instant::now());
        let is_known = self.line.as_ref().is_some_and(|line| line.version.is_some());
        if is_known && !self.line.as_mut().is_some_and(|line| line.tell_output(end)) {
            self.line = None;
        }
    }
}

impl Front for ServiceFront {
    type Interest = Interest;
    type Events = Events;

    fn prepare(&mut self, plan: &Plan) -> Result<(), ShimError> {
        if plan.network.is_some() {
            self.meter.count_bytes(kept::tally(&self.identity.places, &self.identity.id))?;
        }
        Ok(())
    }

    fn claimed(&mut self, range: u32, keeper: &Keeper) -> io::Result<()> {
        let process = |pid| kept::Process::of(pid).ok_or_else(|| io::Error::other("/proc does not show it"));
        let boot = self.identity.boot.clone();
        let shim = process(std::process::id())?;
        let estate = self.meter.estate();
        let keeping = process(keeper.pid())?;
        let entrusted = Some(estate.clone());
        let whereabouts = kept::Whereabouts { boot, shim, keeper: keeping, range, estate: entrusted };
        let path = kept::whereabouts(&self.identity.places, &self.identity.id);
        kept::put(&path, &whereabouts, 0o600, false)?;
        self.meter.announce()?;
        keeper.entrust(&estate)
    }

    fn tally(&self) -> io::Result<OwnedFd> {
        Ok(std::fs::File::options().read(true).write(true).open(self.meter.estate().tally)?.into())
    }

    fn counted(&mut self, used: &Usage, traffic: Option<&Traffic>) {
        let classes = traffic.map(|traffic| traffic.classes.as_ref());
        let complete = classes.is_none_or(|classes| classes.is_some());
        self.meter.close(used, classes.flatten(), complete);
    }

    fn gave_up(&mut self, used: &Usage) {
        // The gateway went first. What cannot be written is not said.
        let _ = self.meter.estate().settle(used, Read::AtItsEnd);
    }

    fn counts(&self) -> bool {
        true
    }

    fn knows_audit(&self) -> bool {
        self.identity.audit.is_some()
    }

    fn streams(&self) -> [Stream; 3] {
        [Stream::Terminal; 3]
    }

    fn size(&self) -> Option<WindowSize> {
        Some(self.terminal.size())
    }

    fn awaits_start(&self) -> bool {
        true
    }

    fn files(&self) -> &[File] {
        &self.files
    }

    fn open(&mut self, master: OwnedFd) -> io::Result<()> {
        self.terminal.open(master)
    }

    fn attested(&mut self, attestation: &Attestation) -> io::Result<()> {
        let directory = self.identity.places.agent(&self.identity.id);
        kept::put(&directory.join(places::ATTESTATION), attestation, 0o640, false)
    }

    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn started(&mut self) -> io::Result<()> {
        let since = kept::now();
        self.since = Some(since);
        // They are written, and may have been long.
        self.files = Vec::new();
        if self.phase == Phase::Starting {
            self.phase = Phase::Running;
        }
        self.say(&FromShim::Running { since });
        Ok(())
    }

    fn extra_ended(&mut self, number: i32, end: End) {
        if let Some(exec) = self.extras.remove(&number) {
            self.say(&FromShim::ExecEnded { exec, code: Some(end.code()), refused: None });
        }
    }

    fn register<'a>(&'a self, polls: &mut Vec<PollFd<'a>>) -> Interest {
        let mut add = |fd, events| {
            polls.push(PollFd::from_borrowed_fd(fd, events));
            polls.len() - 1
        };
        let listener = add(self.listener.as_fd(), PollFlags::IN);
        let line = self.line.as_ref().map(|line| add(line.fd(), line.interest()));
        let master = self.terminal.interest().map(|(master, wanted)| add(master, wanted));
        Interest { listener, line, master }
    }

    fn events(&self, interest: &Interest, polled: &[PollFd<'_>]) -> Events {
        let of = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| polled[at].revents());
        let listener = !polled[interest.listener].revents().is_empty();
        Events { listener, line: of(interest.line), master: of(interest.master) }
    }

    fn recheck_after(&self) -> Option<Duration> {
        let (told, at) = self.told;
        let output = (self.terminal.end() != told).then(|| at + PACE);
        let verdicts = self.owes_verdicts().then(Instant::now);
        let meter = Some(self.meter.due());
        let soonest = [output, self.terminal.recheck(), meter, verdicts].into_iter().flatten().min()?;
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
        let (before, _) = self.terminal.typed();
        self.terminal.attend(events.master)?;
        self.tell_taken(before);
        self.tell_output(false);
        self.meter.attend(reins);
        Ok(())
    }

    fn decided(&mut self, decisions: &mut Decisions<'_>) {
        self.tell_verdicts(decisions);
    }

    /// Ctrl-Z, or a program that stops itself: no shell is there to continue it.
    fn suspended(&mut self, reins: &Reins<'_>) -> io::Result<()> {
        reins.tell(ToInit::Resume)
    }

    fn finish(&mut self, _patience: Option<Instant>) -> io::Result<()> {
        self.terminal.drain()
    }

    fn last(&mut self) -> io::Result<()> {
        self.terminal.drain()
    }
}
