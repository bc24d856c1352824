//! The front of `stockade run`: the caller's terminal, streams and signals.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};

use super::ShimError;
use super::front::Front;
use super::modes::Modes;
use super::relay::{self, Finish, Relay};
use super::session::Reins;
use super::streams::{self, StreamKind};
use super::terminal::{HostTerminal, WindowSize};
use crate::jail::Stream;
use crate::plan::Plan;
use crate::wire::ToInit;

/// How long an agent has after SIGTERM, SIGHUP or the loss of its caller before its cgroup is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Passed on to the agent's process group.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// The caller's signals, read as data.
struct Signals(SignalFd);

impl Signals {
    /// Takes them over from their default actions.
    fn take() -> io::Result<Self> {
        let mut set: SigSet = FORWARDED.into_iter().collect();
        set.add(Signal::SIGWINCH);
        set.add(Signal::SIGCONT);
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }
}

/// The caller.
#[derive(Default)]
pub struct CallerFront {
    /// Where each of the caller's streams leads, if it has been looked at.
    lead: Option<[Stream; 3]>,
    /// The caller's terminal, if one of its streams is one.
    host: Option<HostTerminal>,
    /// There before the sandbox is, so that none is lost in between.
    signals: Option<Signals>,
    /// Between the caller's terminal and the agent's, if it has one.
    relay: Option<Relay>,
}

/// Which poll entries are the caller's.
pub struct Interest {
    signal: usize,
    relay: Option<relay::Interest>,
}

/// What woke the loop.
pub struct Events {
    signal: bool,
    relay: Option<relay::Events>,
}

impl CallerFront {
    fn signals(&self) -> &SignalFd {
        &self.signals.as_ref().expect("taken before anything was built").0
    }

    fn enter_raw(&mut self) -> io::Result<()> {
        if let (Some(relay), Some(host)) = (&mut self.relay, &mut self.host) {
            let raw = host.enter_raw()?;
            relay.listen(raw);
        }
        Ok(())
    }

    fn resize(&self) -> io::Result<()> {
        match (&self.relay, &self.host) {
            (Some(relay), Some(host)) => relay.resize(host.size()),
            _ => Ok(()),
        }
    }

    /// The caller's terminal is gone: the agent's hangs up, too.
    fn hang_up(&self, reins: &mut Reins<'_>) -> io::Result<()> {
        if reins.deadline.is_none() {
            give_grace(reins);
            reins.tell(ToInit::Signal(libc::SIGHUP))?;
            reins.tell(ToInit::Resume)?;
        }
        Ok(())
    }

    fn forward(&mut self, reins: &mut Reins<'_>) -> io::Result<()> {
        while let Some(signal) = self.signals().read_signal().map_err(io::Error::from)? {
            match signal.ssi_signo.cast_signed() {
                libc::SIGWINCH => self.resize()?,
                libc::SIGCONT => {
                    self.enter_raw()?;
                    self.resize()?;
                    reins.tell(ToInit::Resume)?;
                }
                number => {
                    if matches!(number, libc::SIGTERM | libc::SIGHUP) {
                        give_grace(reins);
                    }
                    reins.tell(ToInit::Signal(number))?;
                }
            }
        }
        Ok(())
    }
}

/// From the first time that somebody asks; asking again does not prolong it.
fn give_grace(reins: &mut Reins<'_>) {
    let end = *reins.patience.get_or_insert_with(|| Instant::now() + GRACE);
    reins.deadline.get_or_insert(end);
}

impl Front for CallerFront {
    type Interest = Interest;
    type Events = Events;

    fn prepare(&mut self, plan: &Plan) -> Result<(), ShimError> {
        let mut lead = [Stream::Inherited; 3];
        for (number, (lead, name)) in (0..).zip(lead.iter_mut().zip(["stdin", "stdout", "stderr"])) {
            match streams::check_stream(crate::sys::fd::standard(number))? {
                StreamKind::Terminal if !plan.terminal => return Err(ShimError::NoTerminal { stream: name }),
                StreamKind::Terminal => *lead = Stream::Terminal,
                StreamKind::Direct | StreamKind::Closed => {}
            }
        }
        let host = if lead.contains(&Stream::Terminal) { HostTerminal::find()? } else { None };
        *self = Self { lead: Some(lead), host, signals: Some(Signals::take()?), relay: None };
        Ok(())
    }

    fn streams(&self) -> [Stream; 3] {
        self.lead.expect("looked at before anything was built")
    }

    fn size(&self) -> Option<WindowSize> {
        self.host.as_ref().map(HostTerminal::size)
    }

    /// The relay reads keys only if stdin is the terminal, and writes only if a stream of the agent's leads there.
    fn open(&mut self, master: OwnedFd) -> io::Result<()> {
        let channel = || self.host.as_ref().map(HostTerminal::channel).transpose();
        let relay = Relay::new(channel()?, channel()?, master)?;
        if let Some(host) = &self.host {
            relay.adopt(&host.attributes()?)?;
        }
        self.relay = Some(relay);
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        self.enter_raw()
    }

    fn register<'a>(&'a self, polls: &mut Vec<PollFd<'a>>) -> Self::Interest {
        polls.push(PollFd::new(self.signals(), PollFlags::IN));
        let signal = polls.len() - 1;
        Interest { signal, relay: self.relay.as_ref().map(|relay| relay.register(polls)) }
    }

    fn events(&self, interest: &Self::Interest, polled: &[PollFd<'_>]) -> Events {
        let signal = !polled[interest.signal].revents().is_empty();
        Events { signal, relay: interest.relay.map(|interest| interest.events(polled)) }
    }

    fn recheck_after(&self) -> Option<Duration> {
        self.relay.as_ref().and(self.host.as_ref())?.recheck_after()
    }

    fn attend(&mut self, events: Events, reins: &mut Reins<'_>) -> Result<(), ShimError> {
        if let (Some(events), Some(relay)) = (events.relay, &mut self.relay) {
            let mut unseen = Modes::default();
            let modes = self.host.as_mut().map_or(&mut unseen, |host| &mut host.modes);
            if relay.ready(events, modes)?.caller_gone {
                self.hang_up(reins)?;
            }
            if self.host.as_ref().is_some_and(|host| !host.is_raw()) {
                self.enter_raw()?;
            }
        }
        if events.signal {
            self.forward(reins)?;
        }
        Ok(())
    }

    /// The agent was stopped with Ctrl-Z: so is this job, until its shell continues it.
    fn suspended(&mut self, reins: &Reins<'_>) -> io::Result<()> {
        if let (Some(_), Some(host)) = (&self.relay, &mut self.host) {
            host.suspend()?;
            self.enter_raw()?;
            self.resize()?;
            reins.tell(ToInit::Resume)?;
        }
        Ok(())
    }

    /// Brings the rest of the output to the caller and gives the terminal back.
    fn finish(&mut self, patience: Option<Instant>) -> io::Result<()> {
        let Self { relay: Some(relay), host, signals: Some(Signals(signals)), .. } = self else {
            return Ok(());
        };
        let mut unseen = Modes::default();
        loop {
            let modes = host.as_mut().map_or(&mut unseen, |host| &mut host.modes);
            match relay.finish(Some(signals.as_fd()), patience, modes)? {
                Finish::Complete | Finish::CallerGone => break,
                Finish::Interrupted => {
                    let Ok(Some(signal)) = signals.read_signal() else { continue };
                    if !matches!(signal.ssi_signo.cast_signed(), libc::SIGWINCH | libc::SIGCONT) {
                        break;
                    }
                }
            }
        }
        host.as_mut().map_or(Ok(()), HostTerminal::restore)
    }
}
