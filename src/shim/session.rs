//! From the moment the agent runs to the moment it has ended: one loop over everything that can happen meanwhile.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::ShimError;
use super::audit::Audit;
use super::denials::Denials;
use super::egress::Gateway;
use super::front::{Decisions, Front};
use crate::cgroup::Cgroup;
use crate::sys::process::End;
use crate::wire::{self, FromInit, ToInit};

/// The running agent, as its shim sees it.
pub struct Session<'a, F> {
    /// By which it is held.
    pub reins: Reins<'a>,
    /// Whom it speaks with.
    pub front: &'a mut F,
    /// What Landlock refused.
    pub audit: &'a mut Audit,
    /// Readable when a v1 memory group is out of memory.
    pub out_of_memory: Option<OwnedFd>,
    /// Whether a v1 memory group has been out of memory. The kernel counts only those that it killed itself, and may
    /// find that all were killed already, by us.
    pub was_out_of_memory: bool,
}

/// What a front can do to the agent, and see of it.
pub struct Reins<'a> {
    /// The way to init.
    pub socket: &'a OwnedFd,
    /// Everything that belongs to the agent.
    pub cgroup: &'a Cgroup,
    /// Refused calls.
    pub denials: Denials,
    /// Its way to the network, if it has one.
    pub gateway: Option<Gateway>,
    /// When the whole group is killed.
    pub deadline: Option<Instant>,
    /// Until when a caller who asked for the end may still take output.
    pub patience: Option<Instant>,
    /// Whether the time was over, and the group killed.
    pub killed: bool,
}

impl Reins<'_> {
    /// Tells init, if it is still there: its end arrives by itself.
    pub fn tell(&self, message: ToInit) -> io::Result<()> {
        match message.send(self.socket.as_fd()) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
            sent => sent,
        }
    }

    fn keep_time(&mut self) -> Result<(), ShimError> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.deadline = None;
            self.killed = true;
            self.cgroup.kill()?;
        }
        Ok(())
    }
}

/// What woke the loop.
struct Woken<E> {
    init: bool,
    denial: PollFlags,
    audit: bool,
    gateway: bool,
    out_of_memory: bool,
    front: E,
}

impl<F: Front> Session<'_, F> {
    /// Carries, answers and forwards until init has reported the agent's end, or is gone itself (`None`).
    pub fn attend(&mut self) -> Result<Option<End>, ShimError> {
        self.front.begin()?;
        loop {
            let woken = self.wait()?;
            self.front.attend(woken.front, &mut self.reins)?;
            if !woken.denial.is_empty() {
                match woken.denial.contains(PollFlags::IN) {
                    true => self.reins.denials.answer()?,
                    false => self.reins.denials.close(),
                }
            }
            if woken.audit {
                self.audit.hear();
            }
            if woken.gateway
                && let Some(gateway) = &mut self.reins.gateway
            {
                gateway.attend();
            }
            let Reins { denials, gateway, .. } = &mut self.reins;
            self.front.decided(&mut Decisions {
                calls: denials,
                landlock: self.audit,
                gateway: gateway.as_mut(),
            });
            if woken.out_of_memory {
                // v1 kills one task; an agent that has lost one of its processes must not go on half dead.
                self.out_of_memory = None;
                self.was_out_of_memory = true;
                self.reins.cgroup.kill()?;
            }
            if woken.init {
                match self.hear()? {
                    Heard::Nothing => {}
                    Heard::Ended(end) => return Ok(Some(end)),
                    Heard::Gone => return Ok(None),
                }
            }
            self.reins.keep_time()?;
        }
    }

    fn wait(&mut self) -> Result<Woken<F::Events>, ShimError> {
        let timeout = self.timeout();
        let mut polls = vec![PollFd::new(self.reins.socket, PollFlags::IN)];
        let denial = self.reins.denials.listener().map(|listener| {
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
        if let Some(gateway) = &self.reins.gateway {
            gateway.register(&mut polls);
        }
        let gateway = before_gateway..polls.len();
        let interest = self.front.register(&mut polls);
        match poll(&mut polls, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let fired = |at: usize| !polls[at].revents().is_empty();
        Ok(Woken {
            init: fired(0),
            denial: denial.map_or(PollFlags::empty(), |at| polls[at].revents()),
            audit: audit.is_some_and(fired),
            gateway: gateway.into_iter().any(fired),
            out_of_memory: memory.is_some_and(fired),
            front: self.front.events(&interest, &polls),
        })
    }

    fn timeout(&self) -> Option<Timespec> {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        let deadline: Option<Duration> = self.reins.deadline.map(left);
        let soonest = [deadline, self.front.recheck_after()].into_iter().flatten().min()?;
        Timespec::try_from(soonest).ok()
    }

    fn hear(&mut self) -> Result<Heard, ShimError> {
        let Some((bytes, _)) = wire::receive(self.reins.socket, 0)? else { return Ok(Heard::Gone) };
        match FromInit::decode(&bytes) {
            Some(FromInit::Ended(status)) => Ok(Heard::Ended(End::from_status(status))),
            Some(FromInit::Stopped(_)) => {
                self.front.suspended(&self.reins)?;
                Ok(Heard::Nothing)
            }
            Some(FromInit::Started) => {
                self.front.started()?;
                Ok(Heard::Nothing)
            }
            Some(FromInit::ExecEnded(number, status)) => {
                self.front.extra_ended(number, End::from_status(status));
                Ok(Heard::Nothing)
            }
            Some(FromInit::Failed { step, errno, detail }) => Err(ShimError::jail(step, errno, detail)),
            other => Err(ShimError::Protocol { what: format!("{other:?} while the agent runs") }),
        }
    }
}

enum Heard {
    Nothing,
    Ended(End),
    Gone,
}
