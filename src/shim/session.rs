//! From the moment the agent runs to the moment it has ended: one loop over everything that can happen meanwhile.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::ShimError;
use super::audit::Audit;
use super::denials::Denials;
use super::egress::Gateway;
use super::modes::Modes;
use super::relay::{Finish, Relay};
use super::terminal::HostTerminal;
use crate::cgroup::Cgroup;
use crate::sys::process::End;
use crate::wire::{self, FromInit, ToInit};

/// How long an agent has after SIGTERM, SIGHUP or the loss of its caller before its cgroup is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Passed on to the agent's process group.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// The caller's signals, read as data. Must exist before the sandbox does, so that none is lost in between.
pub struct Signals(SignalFd);

impl Signals {
    /// Takes them over from their default actions.
    pub fn take() -> io::Result<Self> {
        let mut set: SigSet = FORWARDED.into_iter().collect();
        set.add(Signal::SIGWINCH);
        set.add(Signal::SIGCONT);
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }
}

/// The running agent, as its shim sees it.
pub struct Session<'a> {
    /// The way to init.
    pub socket: &'a OwnedFd,
    /// Everything that belongs to the agent.
    pub cgroup: &'a Cgroup,
    /// The caller's signals.
    pub signals: &'a Signals,
    /// Refused calls.
    pub denials: Denials,
    /// What Landlock refused.
    pub audit: &'a mut Audit,
    /// The agent's terminal, if it has one, and the caller's, if there is one.
    pub terminal: Option<(Relay, Option<HostTerminal>)>,
    /// Its way to the network, if it has one.
    pub gateway: Option<Gateway>,
    /// Readable when a v1 memory group is out of memory.
    pub out_of_memory: Option<OwnedFd>,
    /// When the whole group is killed.
    pub deadline: Option<Instant>,
    /// Until when a caller who asked for the end may still take output.
    pub patience: Option<Instant>,
    /// Whether a v1 memory group has been out of memory. The kernel counts only those that it killed itself, and may
    /// find that all were killed already, by us.
    pub was_out_of_memory: bool,
}

/// What woke the loop.
struct Woken {
    init: bool,
    signal: bool,
    denial: PollFlags,
    audit: bool,
    gateway: bool,
    out_of_memory: bool,
}

impl Session<'_> {
    /// Carries, answers and forwards until init has reported the agent's end, or is gone itself (`None`).
    pub fn attend(&mut self) -> Result<Option<End>, ShimError> {
        self.enter_raw()?;
        loop {
            let woken = self.wait()?;
            if !woken.denial.is_empty() {
                match woken.denial.contains(PollFlags::IN) {
                    true => self.denials.answer()?,
                    false => self.denials.close(),
                }
            }
            if woken.audit {
                self.audit.hear();
            }
            if woken.gateway
                && let Some(gateway) = &mut self.gateway
            {
                gateway.attend();
            }
            if woken.out_of_memory {
                // v1 kills one task; an agent that has lost one of its processes must not go on half dead.
                self.out_of_memory = None;
                self.was_out_of_memory = true;
                self.cgroup.kill()?;
            }
            if woken.signal {
                self.forward()?;
            }
            if woken.init {
                match self.hear()? {
                    Heard::Nothing => {}
                    Heard::Ended(end) => return Ok(Some(end)),
                    Heard::Gone => return Ok(None),
                }
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.deadline = None;
                self.cgroup.kill()?;
            }
        }
    }

    /// Brings the rest of the output to the caller and gives the terminal back.
    pub fn finish(&mut self) -> io::Result<()> {
        let Some((relay, host)) = &mut self.terminal else { return Ok(()) };
        let mut unseen = Modes::default();
        loop {
            let modes = host.as_mut().map_or(&mut unseen, |host| &mut host.modes);
            match relay.finish(Some(self.signals.0.as_fd()), self.patience, modes)? {
                Finish::Complete | Finish::CallerGone => break,
                Finish::Interrupted => {
                    let Ok(Some(signal)) = self.signals.0.read_signal() else { continue };
                    if !matches!(signal.ssi_signo.cast_signed(), libc::SIGWINCH | libc::SIGCONT) {
                        break;
                    }
                }
            }
        }
        host.as_mut().map_or(Ok(()), HostTerminal::restore)
    }

    fn enter_raw(&mut self) -> io::Result<()> {
        if let Some((relay, Some(host))) = &mut self.terminal {
            let raw = host.enter_raw()?;
            relay.listen(raw);
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<Woken, ShimError> {
        let timeout = self.timeout();
        let mut polls =
            vec![PollFd::new(self.socket, PollFlags::IN), PollFd::new(&self.signals.0, PollFlags::IN)];
        let denial = self.denials.listener().map(|listener| {
            polls.push(PollFd::new(listener, PollFlags::IN));
            polls.len() - 1
        });
        let audit = self.audit.listener().map(|listener| {
            polls.push(PollFd::new(listener, PollFlags::IN));
            polls.len() - 1
        });
        let memory = self.out_of_memory.as_ref().map(|memory| {
            polls.push(PollFd::new(memory, PollFlags::IN));
            polls.len() - 1
        });
        let before_gateway = polls.len();
        if let Some(gateway) = &self.gateway {
            gateway.register(&mut polls);
        }
        let gateway = before_gateway..polls.len();
        let interest = self.terminal.as_ref().map(|(relay, _)| relay.register(&mut polls));
        match poll(&mut polls, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let fired = |at: usize| !polls[at].revents().is_empty();
        let woken = Woken {
            init: fired(0),
            signal: fired(1),
            denial: denial.map_or(PollFlags::empty(), |at| polls[at].revents()),
            audit: audit.is_some_and(fired),
            gateway: gateway.into_iter().any(fired),
            out_of_memory: memory.is_some_and(fired),
        };
        let events = interest.map(|interest| interest.events(&polls));
        drop(polls);
        if let (Some(events), Some((relay, host))) = (events, &mut self.terminal) {
            let mut unseen = Modes::default();
            let modes = host.as_mut().map_or(&mut unseen, |host| &mut host.modes);
            if relay.ready(events, modes)?.caller_gone {
                self.hang_up()?;
            }
        }
        if self.terminal.as_ref().is_some_and(|(_, host)| host.as_ref().is_some_and(|host| !host.is_raw())) {
            self.enter_raw()?;
        }
        Ok(woken)
    }

    fn timeout(&self) -> Option<Timespec> {
        let deadline = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let recheck = self.terminal.as_ref().and_then(|(_, host)| host.as_ref()?.recheck_after());
        let soonest = [deadline, recheck].into_iter().flatten().min()?;
        Timespec::try_from(soonest).ok()
    }

    /// The caller's terminal is gone: the agent's hangs up, too.
    fn hang_up(&mut self) -> io::Result<()> {
        if self.deadline.is_none() {
            self.give_grace();
            self.tell(ToInit::Signal(libc::SIGHUP))?;
            self.tell(ToInit::Resume)?;
        }
        Ok(())
    }

    /// From the first time that somebody asks; asking again does not prolong it.
    fn give_grace(&mut self) {
        let end = *self.patience.get_or_insert_with(|| Instant::now() + GRACE);
        self.deadline.get_or_insert(end);
    }

    fn forward(&mut self) -> Result<(), ShimError> {
        while let Some(signal) = self.signals.0.read_signal().map_err(io::Error::from)? {
            match signal.ssi_signo.cast_signed() {
                libc::SIGWINCH => self.resize()?,
                libc::SIGCONT => {
                    self.enter_raw()?;
                    self.resize()?;
                    self.tell(ToInit::Resume)?;
                }
                number => {
                    if matches!(number, libc::SIGTERM | libc::SIGHUP) {
                        self.give_grace();
                    }
                    self.tell(ToInit::Signal(number))?;
                }
            }
        }
        Ok(())
    }

    fn resize(&self) -> io::Result<()> {
        match &self.terminal {
            Some((relay, Some(host))) => relay.resize(host.size()),
            _ => Ok(()),
        }
    }

    fn hear(&mut self) -> Result<Heard, ShimError> {
        let Some((bytes, _)) = wire::receive(self.socket, 0)? else { return Ok(Heard::Gone) };
        match FromInit::decode(&bytes) {
            Some(FromInit::Ended(status)) => Ok(Heard::Ended(End::from_status(status))),
            Some(FromInit::Stopped(_)) => {
                self.suspend()?;
                Ok(Heard::Nothing)
            }
            Some(FromInit::Failed { step, errno, detail }) => Err(ShimError::jail(step, errno, detail)),
            other => Err(ShimError::Protocol { what: format!("{other:?} while the agent runs") }),
        }
    }

    /// The agent was stopped with Ctrl-Z: so is this job, until its shell continues it.
    fn suspend(&mut self) -> io::Result<()> {
        if let Some((_, Some(host))) = &mut self.terminal {
            host.suspend()?;
            self.enter_raw()?;
            self.resize()?;
            self.tell(ToInit::Resume)?;
        }
        Ok(())
    }

    /// Tells init, if it is still there: its end arrives by itself.
    fn tell(&self, message: ToInit) -> io::Result<()> {
        match message.send(self.socket.as_fd()) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
            sent => sent,
        }
    }
}

enum Heard {
    Nothing,
    Ended(End),
    Gone,
}
