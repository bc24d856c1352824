//! The gateway of one agent: started before the agent is, heard while it runs, replaced if it ends, gone when it ends.
//!
//! ```text
//!  Ways ──doors──▶ Gateway ──Ready──▶ serves ──Finish──▶ Done
//!  (program,          │                 │ ▲
//!   cgroup, ports)    └── error: the    └─┘ ended: a new one with the same sockets
//!                         start is refused
//! ```

mod account;
mod config;
mod confinement;
mod doors;
mod error;
mod named;
mod program;
mod secrets;
mod warden;
mod ways;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use super::denials::Denial;
use crate::sys::process::End;
use crate::wire;
use crate::wire::egress::{Config, FromEgress, LONGEST, ToEgress};
use crate::wire::tally::{self, Classes};
pub use account::{Account, Connection, Kind, Traffic};
pub use error::GatewayError;
use secrets::Secrets;
use warden::{Said, Warden};
pub use ways::Ways;

/// How long a gateway may take to be ready. Only a machine that is overloaded comes near.
const START: Duration = Duration::from_secs(20);

/// How long it may take to account for what is open once the agent has ended.
const FAREWELL: Duration = Duration::from_secs(5);

/// As many as this within [`SPELL`], and no further one is started: something ends them as fast as they come.
const MOST_RESTARTS: usize = 8;
const SPELL: Duration = Duration::from_secs(60);

/// Messages that are read before others get their turn.
const BATCH: usize = 64;

/// Whether there is a gateway to be started at all.
pub fn check() -> Result<(), GatewayError> {
    program::open().map(drop)
}

/// The gateway, as its shim sees it.
pub struct Gateway {
    /// None once no further gateway will be started.
    warden: Option<Warden>,
    /// The way to the one that runs.
    control: Option<OwnedFd>,
    config: Config,
    secrets: Secrets,
    uid: u32,
    /// Of the one that runs.
    pid: Option<u32>,
    account: Account,
    tally: File,
    restarts: Vec<Instant>,
}

/// What woke a wait.
enum Woken {
    Control,
    Warden,
    Late,
}

/// What is of interest at the start and at the end.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Ready,
    Done,
    Failed(String),
}

impl Gateway {
    fn launched(
        warden: Warden,
        config: Config,
        secrets: Secrets,
        tally: OwnedFd,
        uid: u32,
    ) -> io::Result<Self> {
        let mut gateway = Self {
            warden: Some(warden),
            control: None,
            config,
            secrets,
            uid,
            pid: None,
            account: Account::default(),
            tally: tally.into(),
            restarts: Vec::new(),
        };
        gateway.launch()?;
        Ok(gateway)
    }

    /// Waits until it is confined and accepts; else there is no start.
    pub fn await_ready(&mut self) -> Result<(), GatewayError> {
        let deadline = Instant::now() + START;
        loop {
            let failed = |what| Err(GatewayError::Failed { what });
            match self.wait(deadline)? {
                Woken::Late => return Err(GatewayError::Silent { seconds: START.as_secs() }),
                Woken::Control => match self.read() {
                    Some(Heard::Ready) => return self.confirm().or_else(failed),
                    Some(Heard::Failed(what)) => return failed(what),
                    Some(Heard::Nothing | Heard::Done) => {}
                    // The warden says how it ended.
                    None => self.control = None,
                },
                Woken::Warden => match self.hear_warden() {
                    Said::Started(pid) => self.pid = Some(pid),
                    Said::Failed(what) => return failed(what),
                    Said::Ended(end) => return failed(self.last_words(end)),
                    Said::Gone => return failed("its parent ended".into()),
                },
            }
        }
    }

    /// The descriptors that become readable when there is something to do.
    pub fn register<'a>(&'a self, polls: &mut Vec<PollFd<'a>>) {
        let warden = self.warden.iter().map(Warden::socket);
        let all = warden.chain(&self.control).chain(self.secrets.changes());
        polls.extend(all.map(|fd| PollFd::new(fd, PollFlags::IN)));
    }

    /// Hears what there is to hear. Whatever has become of the gateway, the agent goes on.
    pub fn attend(&mut self) {
        self.drain();
        if self.warden.as_ref().is_some_and(|warden| is_readable(warden.socket())) {
            match self.hear_warden() {
                Said::Started(pid) => self.pid = Some(pid),
                Said::Ended(end) => {
                    // What it said last came before its end.
                    while self.control.is_some() {
                        self.drain();
                    }
                    self.replace(&describe(end));
                }
                Said::Failed(what) => self.replace(&what),
                Said::Gone => self.give_up("its parent ended"),
            }
        }
        if self.secrets.changes().is_some_and(is_readable) {
            self.secrets.refresh();
        }
        self.tell_secrets();
    }

    /// After the agent's end: has it account for what was open, and ends it. What is left of it then is in its cgroup.
    pub fn finish(mut self) -> (Traffic, Vec<Denial>) {
        let deadline = Instant::now() + FAREWELL;
        if !self.control.as_ref().is_some_and(|control| send(control, &ToEgress::Finish)) {
            self.control = None;
        }
        let mut missing = Some("the gateway did not tell in time what was open");
        // Until the warden has said that it is gone, so that it leaves nothing for others to reap.
        while self.warden.is_some() {
            match self.wait(deadline) {
                Ok(Woken::Control) => match self.read() {
                    Some(Heard::Done) => missing = None,
                    Some(_) => {}
                    None => self.control = None,
                },
                Ok(Woken::Warden) if matches!(self.hear_warden(), Said::Started(_)) => {}
                Ok(Woken::Warden | Woken::Late) | Err(_) => self.warden = None,
            }
        }
        if let Some(what) = missing {
            self.account.miss(what.into());
        }
        let classes = self.classes();
        let (traffic, refused) = self.account.close();
        (Traffic { classes, ..traffic }, refused)
    }

    /// Bytes by where they went, so far; what was carried counts, whatever became of the gateway that carried it.
    pub fn classes(&self) -> Option<Classes> {
        tally::read(&self.tally).ok()
    }

    /// What happened for the first time since this was asked.
    pub fn fresh(&mut self) -> impl Iterator<Item = crate::wire::service::shim::Verdict> {
        self.account.fresh()
    }

    /// Bytes from the agent, and to it, and how often it was refused something, so far.
    pub fn so_far(&self) -> (u64, u64, u64) {
        self.account.so_far()
    }

    /// Gives the gateway another value for a secret, until the policy's own file changes.
    ///
    /// # Errors
    /// When there is no such secret, or it cannot be a header's value. Never with the value.
    pub fn replace_secret(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.secrets.replace(name, value)?;
        self.tell_secrets();
        Ok(())
    }

    fn hear_warden(&self) -> Said {
        self.warden.as_ref().map_or(Said::Gone, Warden::hear)
    }

    /// The kernel's word for what a gateway says of itself: that it is confined.
    fn confirm(&mut self) -> Result<(), String> {
        if self.pid.is_none()
            && let Said::Started(pid) = self.hear_warden()
        {
            self.pid = Some(pid);
        }
        let pid = self.pid.ok_or("its parent did not say which process it is")?;
        confinement::check(pid, self.uid)
    }

    fn launch(&mut self) -> io::Result<()> {
        let Some(warden) = &self.warden else { return Ok(()) };
        let (ours, theirs) = wire::pair()?;
        warden.order(theirs.as_fd(), config::sealed(&self.config)?.as_fd())?;
        (self.control, self.pid) = (Some(ours), None);
        self.secrets.forget();
        self.tell_secrets();
        Ok(())
    }

    fn tell_secrets(&mut self) {
        if let Some(control) = &self.control {
            self.secrets.tell(|message| send(control, message));
        }
    }

    fn replace(&mut self, how: &str) {
        self.account.restarted(how);
        let now = Instant::now();
        self.restarts.retain(|at| now.duration_since(*at) < SPELL);
        self.restarts.push(now);
        self.control = None;
        if self.restarts.len() > MOST_RESTARTS {
            return self.give_up("gateways ended as fast as they were started");
        }
        if let Err(error) = self.launch() {
            self.give_up(&error.to_string());
        }
    }

    /// No gateway any more: the sockets close with the warden, and the kernel refuses what comes.
    fn give_up(&mut self, why: &str) {
        self.account.miss(format!("no gateway was left: {why}"));
        self.control = None;
        self.warden = None;
    }

    /// Reads a bounded number of messages without waiting.
    fn drain(&mut self) {
        for _ in 0..BATCH {
            match self.control.as_ref().is_some_and(is_readable).then(|| self.read()) {
                Some(Some(Heard::Ready)) => {
                    if let Err(what) = self.confirm() {
                        return self.give_up(&what);
                    }
                }
                Some(Some(_)) => {}
                Some(None) => return self.control = None,
                None => return,
            }
        }
    }

    /// One message; `None` at the end. Must be readable.
    fn read(&mut self) -> Option<Heard> {
        let control = self.control.as_ref()?;
        let mut bytes = vec![0; LONGEST + 1];
        let length = match rustix::net::recv(control, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return None,
            Ok((length, _)) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Some(Heard::Nothing),
            Err(_) => return None,
        };
        let Ok(message) = FromEgress::decode(&bytes[..length]) else {
            self.account.miss("the gateway said something that is no message".into());
            return Some(Heard::Nothing);
        };
        Some(match message {
            FromEgress::Ready => Heard::Ready,
            FromEgress::Done => Heard::Done,
            FromEgress::Failed { what } => {
                self.account.miss(what.clone());
                Heard::Failed(what)
            }
            FromEgress::Named { name, address } => {
                named::remember(&mut self.config.named, address, &name);
                Heard::Nothing
            }
            FromEgress::Connection(record) => {
                self.account.add(record);
                Heard::Nothing
            }
        })
    }

    /// Why it ended if it said so, else how.
    fn last_words(&mut self, end: End) -> String {
        while self.control.as_ref().is_some_and(is_readable) {
            match self.read() {
                Some(Heard::Failed(what)) => return what,
                Some(_) => {}
                None => break,
            }
        }
        describe(end)
    }

    fn wait(&self, deadline: Instant) -> io::Result<Woken> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut polls = Vec::new();
            polls.extend(self.control.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
            let control = polls.len();
            polls.extend(self.warden.iter().map(|warden| PollFd::new(warden.socket(), PollFlags::IN)));
            match poll(&mut polls, Some(&timeout)) {
                Ok(0) => return Ok(Woken::Late),
                Ok(_) if control > 0 && !polls[0].revents().is_empty() => return Ok(Woken::Control),
                Ok(_) => return Ok(Woken::Warden),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_readable(fd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Without waiting: a gateway that reads nothing is told nothing. Whether it took it.
fn send(control: &OwnedFd, message: &ToEgress) -> bool {
    let Ok(bytes) = message.encode() else { return false };
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(control, &bytes, flags).is_ok_and(|sent| sent == bytes.len())
}

fn describe(end: End) -> String {
    match end {
        End::Exited(code) => format!("exit code {code}"),
        End::Signaled(signal) => format!("signal {signal}"),
    }
}
