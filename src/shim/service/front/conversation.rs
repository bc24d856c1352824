//! The line to a daemon: who calls, what it says, what it is told.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{PACE, ServiceFront};
use crate::shim::ShimError;
use crate::shim::service::line::{self, Came, Line};
use crate::shim::service::usage;
use crate::shim::session::Reins;
use crate::wire::service::launcher::{Reason, Refusal};
use crate::wire::service::order::Size;
use crate::wire::service::shim::Phase;
use crate::wire::service::{Frame, FromShim, INPUT_WINDOW, ToShim, Versions};
use crate::wire::{Extra, ToInit};

/// How long a daemon that has not said `Hello` yet may take to hear of the end.
const COURTESY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The longest time that a stop can leave.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Frames that are read before others get their turn.
const BATCH: usize = 64;

impl ServiceFront {
    /// Nobody was attended to while the sandbox was built, or taken down.
    pub(super) fn greet_whoever_waits(&mut self) {
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

    pub(super) fn say(&mut self, message: &FromShim) {
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
    pub(super) fn accept(&mut self) {
        while let Some(socket) = line::accept(self.listener.as_fd(), self.identity.daemon_uid) {
            // What the older one typed last and nobody took yet still goes to the terminal; the newer counts from there.
            let (_, typed) = self.terminal.typed();
            self.line = Some(Line::new(socket, typed));
        }
    }

    pub(super) fn hear(&mut self, reins: &mut Reins<'_>) -> Result<(), ShimError> {
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
                let usage = usage::now(reins);
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
    pub(super) fn tell_taken(&mut self, before: u64) {
        let (taken, _) = self.terminal.typed();
        let owed = self.line.as_ref().is_some_and(|line| taken > before.max(line.first));
        if owed && !self.line.as_mut().is_some_and(|line| line.tell_taken(taken)) {
            self.line = None;
        }
    }

    /// Tells the daemon how far the log reaches: now, or when its time comes.
    pub(super) fn tell_output(&mut self, at_once: bool) {
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
