//! The shims that are ready before they are wanted: one, or as many as were lately wanted without a pause.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use super::start::{self, Spare};
use crate::wire::service::claim::Engagement;

/// After a start, and after a spare: new agents' own processes go first.
const LATER: Duration = Duration::from_millis(10);

/// So long it is remembered how many were wanted without a pause.
const MEMORY: Duration = Duration::from_secs(600);

/// Never more spares than this.
const MOST: usize = 100;

/// How long a spare that is not wanted any more may take to go.
const FAREWELL: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// The spares of one launcher.
pub struct Spares {
    program: OwnedFd,
    ready: VecDeque<Spare>,
    demand: Demand,
    due: Option<Instant>,
}

impl Spares {
    /// None yet; the first is due at once.
    pub fn new() -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            program: start::program()?,
            ready: VecDeque::new(),
            demand: Demand::new(now),
            due: Some(now),
        })
    }

    /// The shim that begins with this; its pid. Those that have died meanwhile are passed over.
    pub fn engage(&mut self, engagement: &Engagement) -> io::Result<u32> {
        let now = Instant::now();
        self.demand.started(now);
        self.due = Some(now + LATER);
        while let Some(spare) = self.ready.pop_front() {
            if spare.has_ended() {
                continue;
            }
            if let Ok(pid) = spare.engage(engagement) {
                return Ok(pid);
            }
        }
        Spare::execute(&self.program)?.engage(engagement)
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.ready.len()
    }

    /// How long until there is something to do.
    pub fn wait(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Executes the next one, or sends one away, if it is time: for when nobody asks for anything. Where that fails, the next
    /// start says why.
    pub fn prepare(&mut self) {
        let now = Instant::now();
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.demand.paused();
        let wanted = self.demand.wanted(now);
        self.due = (wanted > 1).then(|| self.demand.forgotten());
        if self.ready.len() > wanted {
            // Its socket is closed, and says so; it is reaped like any child.
            drop(self.ready.pop_back());
            self.due = Some(now + LATER);
        } else if self.ready.len() < wanted
            && let Ok(spare) = Spare::execute(&self.program)
        {
            self.ready.push_back(spare);
            self.due = Some(now + LATER);
        }
    }

    /// A child has ended. A spare that does is not replaced before the next start: it could be for a reason that stays.
    pub fn ended(&mut self, pid: u32) {
        let before = self.ready.len();
        self.ready.retain(|spare| spare.pid != pid);
        if self.ready.len() < before {
            self.due = None;
        }
    }

    /// Sends all of them away, and waits until they have gone. One that does not go, because somebody has stopped it, is killed.
    pub fn dismiss(&mut self) {
        let pids: Vec<u32> = self.ready.drain(..).map(|Spare { pid, socket: _ }| pid).collect();
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

/// How many shims were lately wanted without a pause in between.
struct Demand {
    running: usize,
    most: usize,
    /// When so many were last wanted.
    at: Instant,
}

impl Demand {
    fn new(now: Instant) -> Self {
        Self { running: 0, most: 1, at: now }
    }

    fn started(&mut self, now: Instant) {
        self.running = MOST.min(self.running + 1);
        if self.running >= self.wanted(now) {
            (self.most, self.at) = (self.running, now);
        }
    }

    fn paused(&mut self) {
        self.running = 0;
    }

    fn wanted(&self, now: Instant) -> usize {
        if now < self.forgotten() { self.most } else { 1 }
    }

    fn forgotten(&self) -> Instant {
        self.at + MEMORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_wanted_as_came_without_a_pause_and_for_ten_minutes() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut demand = Demand::new(begin);
        let storm = |demand: &mut Demand, starts: usize, seconds: u64| {
            (0..starts).for_each(|_| demand.started(at(seconds)));
            demand.paused();
        };
        (0..5).for_each(|n| storm(&mut demand, 1, n));
        assert_eq!(demand.wanted(at(5)), 1, "one after the other");
        storm(&mut demand, 7, 20);
        storm(&mut demand, 1, 30);
        assert_eq!((demand.wanted(at(30)), demand.wanted(at(619))), (7, 7));
        assert_eq!(demand.wanted(at(620)), 1, "forgotten");
        storm(&mut demand, 1, 621);
        assert_eq!(demand.wanted(at(621)), 1);
        storm(&mut demand, 1000, 700);
        assert_eq!(demand.wanted(at(700)), MOST);
    }
}
