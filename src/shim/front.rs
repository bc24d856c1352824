//! Whom an agent speaks with: the caller's own terminal and streams (`stockade run`), or a daemon that comes and goes.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use rustix::fs::{MemfdFlags, memfd_create};

use super::ShimError;
use super::attestation::Attestation;
use super::audit::Audit;
use super::denials::Denials;
use super::egress::{Gateway, Traffic};
use super::keeper::Keeper;
use super::session::Reins;
use super::terminal::WindowSize;
use crate::cgroup::Usage;
use crate::jail::Stream;
use crate::plan::Plan;
use crate::sys::process::End;
use crate::wire::service::order::File;

/// Whoever has decided something, and is asked what is new.
pub struct Decisions<'a> {
    /// The filter.
    pub calls: &'a mut Denials,
    /// Landlock, as the kernel's audit tells it.
    pub landlock: &'a mut Audit,
    /// The gateway.
    pub gateway: Option<&'a mut Gateway>,
}

/// The side of a sandbox that somebody sits at. Everything else of a session is the same, whoever that is.
pub trait Front {
    /// Which poll entries are its own.
    type Interest;
    /// What poll said about them.
    type Events;

    /// Before anything is built, for this plan; again, if another plan is made.
    fn prepare(&mut self, plan: &Plan) -> Result<(), ShimError>;

    /// The range of uids, and with it the names of the cgroups, are taken; by whom, and who keeps it.
    fn claimed(&mut self, _range: u32, _keeper: &Keeper) -> io::Result<()> {
        Ok(())
    }

    /// Where bytes over the network are counted.
    fn tally(&self) -> io::Result<OwnedFd> {
        Ok(memfd_create("stockade-tally", MemfdFlags::CLOEXEC)?)
    }

    /// Nothing of it is left, and this is all that it used: its cgroup is about to go.
    fn counted(&mut self, _used: &Usage, _traffic: Option<&Traffic>) {}

    /// It could not be attended to any longer, and was killed: this is what it used.
    fn gave_up(&mut self, _used: &Usage) {}

    /// Where the agent's standard streams lead.
    fn streams(&self) -> [Stream; 3];

    /// The size of the terminal to make, if one is to be made.
    fn size(&self) -> Option<WindowSize>;

    /// Whether init is to say when the command was executed.
    fn awaits_start(&self) -> bool {
        false
    }

    /// Whether the host says already whether the kernel's audit is on.
    fn knows_audit(&self) -> bool {
        false
    }

    /// Whether somebody is billed by what the agent used: then it is counted to the last process.
    fn counts(&self) -> bool {
        false
    }

    /// What is to lie in the agent's directory before it starts.
    fn files(&self) -> &[File] {
        &[]
    }

    /// The terminal was made: its master.
    fn open(&mut self, master: OwnedFd) -> io::Result<()>;

    /// What was built is what was planned; the agent has just been told to go.
    fn attested(&mut self, _attestation: &Attestation) -> io::Result<()> {
        Ok(())
    }

    /// From now on it is attended to.
    fn begin(&mut self) -> io::Result<()>;

    /// The command was executed.
    fn started(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Something else that was run within the walls has ended: its number, and waitpid(2)'s status.
    fn extra_ended(&mut self, _number: i32, _end: End) {}

    /// Adds what is worth waiting for at this moment.
    fn register<'a>(&'a self, polls: &mut Vec<PollFd<'a>>) -> Self::Interest;

    /// Copies the answers out.
    fn events(&self, interest: &Self::Interest, polled: &[PollFd<'_>]) -> Self::Events;

    /// When it wants to be asked again at the latest.
    fn recheck_after(&self) -> Option<Duration>;

    /// Moves what can be moved without blocking, and passes on what is wanted of the agent.
    fn attend(&mut self, events: Self::Events, reins: &mut Reins<'_>) -> Result<(), ShimError>;

    /// What walls have decided that they had not decided before.
    fn decided(&mut self, _decisions: &mut Decisions<'_>) {}

    /// The agent was stopped by a signal.
    fn suspended(&mut self, reins: &Reins<'_>) -> io::Result<()>;

    /// The agent has ended: brings the rest of its output home, at most until `patience`.
    fn finish(&mut self, patience: Option<Instant>) -> io::Result<()>;

    /// The last process of the agent is gone, and with it whoever could still write.
    fn last(&mut self) -> io::Result<()> {
        Ok(())
    }
}
