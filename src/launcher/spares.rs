//! The shim that is ready before it is wanted.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use super::start::{self, Spare};
use crate::wire::service::claim::Engagement;

/// After a start: the new agent's own processes go first.
const LATER: Duration = Duration::from_millis(10);

/// How long a spare that is not wanted any more may take to go.
const FAREWELL: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// One at the most.
pub struct Spares {
    program: OwnedFd,
    ready: Option<Spare>,
    due: Option<Instant>,
}

impl Spares {
    /// None yet; the first is due at once.
    pub fn new() -> io::Result<Self> {
        Ok(Self { program: start::program()?, ready: None, due: Some(Instant::now()) })
    }

    /// The shim that begins with this; its pid. One that has died meanwhile is replaced.
    pub fn engage(&mut self, engagement: &Engagement) -> io::Result<u32> {
        self.due = Some(Instant::now() + LATER);
        let spare = self.ready.take().filter(|spare| !spare.has_ended());
        let spare = spare.and_then(|spare| spare.engage(engagement).ok());
        match spare {
            Some(pid) => Ok(pid),
            None => Spare::execute(&self.program)?.engage(engagement),
        }
    }

    /// How long until the next one is to be executed.
    pub fn wait(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Executes the next one, if it is time. Where that fails, the next start says why.
    pub fn prepare(&mut self) {
        if self.wait().is_some_and(|left| left.is_zero()) {
            self.due = None;
            if self.ready.is_none() {
                self.ready = Spare::execute(&self.program).ok();
            }
        }
    }

    /// A child has ended. A spare that does is not replaced before the next start: it could be for a reason that stays.
    pub fn ended(&mut self, pid: u32) {
        self.ready = self.ready.take().filter(|spare| spare.pid != pid);
    }

    /// Sends the spare away, and waits until it has gone. One that does not go, because somebody has stopped it, is killed.
    pub fn dismiss(&mut self) {
        let Some(Spare { pid, socket }) = self.ready.take() else { return };
        drop(socket);
        let Some(pid) = Pid::from_raw(pid.cast_signed()) else { return };
        if !ends_within(pid, FAREWELL) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
}

/// Of a child that nobody else reaps.
fn ends_within(pid: Pid, patience: Timespec) -> bool {
    let Ok(ended) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    matches!(poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&patience)), Ok(1))
}
