//! The front of a service's agent: its terminal goes to the log, a daemon that comes and goes is told and obeyed.

mod conversation;
mod inside;
mod verdicts;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::estate::Read;
use super::kept;
use super::line::Line;
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
use crate::wire::ToInit;
use crate::wire::service::launcher::Refusal;
use crate::wire::service::order::File;
use crate::wire::service::shim::Phase;
use crate::wire::service::usage::Metered;
use crate::wire::service::{Ended, FromShim, Places, places};

/// The daemon is told of new output at most this often.
const PACE: Duration = Duration::from_millis(1);

/// As many things at once are run beside the agent.
const MOST_EXTRAS: usize = 64;

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
