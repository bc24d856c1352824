//! The shims that are ready before they are wanted, so many as root has decided.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use super::start::{self, Spare};
use crate::wire::service::claim::Engagement;

/// Between one spare and the next, when nothing starts.
const NEXT: Duration = Duration::from_millis(3);

/// After a start, and after a spare when agents start: their own processes go first.
const LATER: Duration = Duration::from_millis(10);

/// The same where they come faster than that, and more than this many are missing already: in a storm all of the machine is wanted for
/// those that start…
const MISSING: usize = 10;
const PAUSE: Duration = Duration::from_millis(300);

/// … but where starts never pause, it is no longer than this.
const LONGEST: Duration = Duration::from_secs(1);

/// After one that could not be made, or that has died: it may be for a reason that stays.
const RETRY: Duration = Duration::from_secs(10);

/// How long a spare may take to go.
const FAREWELL: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// The spares of one launcher.
pub struct Spares {
    program: OwnedFd,
    ready: Vec<Spare>,
    wanted: usize,
    due: Option<Instant>,
    /// The first start since the last spare.
    first: Option<Instant>,
    /// The last start.
    last: Option<Instant>,
}

impl Spares {
    /// None yet; the first is due at once.
    pub fn new(wanted: usize) -> io::Result<Self> {
        let (program, ready, due) = (start::program()?, Vec::new(), Some(Instant::now()));
        Ok(Self { program, ready, wanted, due, first: None, last: None })
    }

    /// An agent starts: what it takes is made up for once starts pause.
    pub fn leave_room(&mut self) {
        let now = Instant::now();
        let is_storm = self.last.is_some_and(|last| now.duration_since(last) < LATER);
        let pause = if is_storm && self.ready.len() + MISSING < self.wanted { PAUSE } else { LATER };
        self.last = Some(now);
        self.due = Some((now + pause).min(*self.first.get_or_insert(now) + LONGEST));
    }

    /// The shim that begins with this; its pid. The latest goes first: of one that has waited for long little is in the caches.
    /// Those that have died meanwhile are passed over.
    pub fn engage(&mut self, engagement: &Engagement) -> io::Result<u32> {
        self.leave_room();
        while let Some(spare) = self.ready.pop() {
            if spare.has_ended() {
                continue;
            }
            if let Ok(pid) = spare.engage(engagement) {
                return Ok(pid);
            }
        }
        Spare::execute(&self.program)?.engage(engagement)
    }

    /// How many are to wait.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// How long until there is something to do.
    pub fn wait(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Executes the next one, if it is time: for when nobody asks for anything. Where that fails, the next start says why.
    /// Whether it was time.
    pub fn prepare(&mut self) -> bool {
        let now = Instant::now();
        if self.due.take_if(|due| *due <= now).is_none() {
            return false;
        }
        self.first = None;
        if self.ready.len() < self.wanted {
            let made = Spare::execute(&self.program).map(|spare| self.ready.push(spare));
            let is_calm = self.last.is_none_or(|last| now.duration_since(last) > PAUSE);
            let next = if is_calm { NEXT } else { LATER };
            self.due = Some(now + if made.is_ok() { next } else { RETRY });
        }
        true
    }

    /// More is to be made than spares.
    pub fn go_on(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + NEXT);
    }

    /// A child has ended. A spare that does is not replaced at once: a shim that cannot run is not executed in a loop.
    pub fn ended(&mut self, pid: u32) {
        let before = self.ready.len();
        self.ready.retain(|spare| spare.pid != pid);
        if self.ready.len() < before {
            self.due = Some(Instant::now() + RETRY);
        }
    }

    /// Sends all of them away, and waits until they have gone. One that does not go, because somebody has stopped it, is killed.
    pub fn dismiss(&mut self) {
        let pids: Vec<u32> = self.ready.drain(..).map(|Spare { pid, .. }| pid).collect();
        for pid in pids.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            if !ends_within(pid, FAREWELL) {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Of a child that nobody else reaps.
fn ends_within(pid: Pid, patience: Timespec) -> bool {
    let Ok(ended) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    matches!(poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&patience)), Ok(1))
}
