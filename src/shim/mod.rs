//! The parent's side of one sandbox: from a plan to a cgroup that is proved empty.
//!
//! ```text
//!  Held ──build──▶ Confined ──attest──▶ Running ──attend──▶ Ended ──tear down──▶ (nothing left)
//!    │                │                    │                                      ▲
//!    └────────────────┴────── any error ───┴──────────────────────────────────────┘
//! ```

pub mod ahead;
pub mod attestation;
pub mod audit;
pub mod backlog;
pub mod caller;
pub mod commission;
pub mod denials;
mod devices;
pub mod disks;
pub mod egress;
pub mod ends;
pub mod error;
mod etc;
pub mod front;
mod idmap;
pub mod ids;
mod inherited;
pub mod keeper;
pub mod modes;
pub mod placeholders;
mod privileges;
pub mod relay;
pub mod service;
pub mod session;
pub mod sources;
pub mod streams;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;
pub mod words;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::cgroup::{Cgroup, Device, Layout, Usage};
use crate::host::Host;
use crate::id::AgentId;
use crate::jail::{self, Birthright, Materials};
use crate::netns;
use crate::plan::{Capability, Mount, Plan};
use crate::policy::Policy;
use crate::sys::process::{End, Side, clone3, pin_elsewhere, unpin, wait};
use crate::wire::{self, FromInit, ToInit};
use ahead::Ahead;
use attestation::Attestation;
use audit::{Audit, Coverage};
use denials::{Denial, Denials};
use egress::{Gateway, Traffic, Ways};
pub use error::ShimError;
use front::Front;
use idmap::Idmaps;
use ids::UidRange;
use keeper::Keeper;
use placeholders::Placeholders;
use session::{Reins, Session};

/// What every sandbox has to itself, besides its network, which the keeper makes, and its view of the cgroups.
const NAMESPACES: u64 =
    (libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS)
        as u64;

/// How long the last of its tasks may take to be gone once init was reaped.
const MOMENT: Duration = Duration::from_secs(2);

/// How one agent fared.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Whether its memory limit ended it.
    pub out_of_memory: bool,
    /// Whether its cgroup was killed because it did not end in time.
    pub killed: bool,
    /// What it used.
    pub usage: Usage,
    /// What it was refused.
    pub denials: Vec<Denial>,
    /// What went over the network; none: it had no way there.
    pub traffic: Option<Traffic>,
    /// How much of what Landlock refused is among it.
    pub landlock_audit: Coverage,
    /// What was enforced.
    pub attestation: Attestation,
}

/// What a plan is carried out with.
pub struct Ground<'a> {
    /// Its own name, if it has one; else it is called after its range of uids.
    pub agent: Option<&'a AgentId>,
    /// What was decided.
    pub plan: &'a Plan,
    /// What it was decided from: explains refused calls.
    pub policy: &'a Policy,
    /// This kernel.
    pub host: &'a Host,
    /// Its cgroups.
    pub layout: &'a Layout,
    /// The policy's hash, if the attestation is to say it, and to list every mount and resource limit.
    pub detailed: Option<&'a str>,
    /// Where `limits.io` holds.
    pub disks: &'a [Device],
    /// What was made in advance.
    pub ahead: &'a Ahead,
}

/// Runs one agent to its end. When this returns, nothing of the sandbox is left.
pub fn run(ground: &Ground<'_>, keeper: &Keeper, front: &mut impl Front) -> Result<Outcome, ShimError> {
    front.prepare(ground.plan)?;
    inherited::make_room_for_core_limit()?;
    keeper.part();
    let range = UidRange::acquire().map_err(ShimError::Ids)?;
    let result = keeper
        .watch(&range)
        .and_then(|()| front.claimed(range.index(), keeper))
        .map_err(ShimError::Keeper)
        .and_then(|()| run_watched(ground, front, &range, keeper));
    placeholders::settle_abandoned();
    range.release();
    result
}

/// The same, while the keeper knows what to do if this process is killed.
fn run_watched(
    ground: &Ground<'_>,
    front: &mut impl Front,
    range: &UidRange,
    keeper: &Keeper,
) -> Result<Outcome, ShimError> {
    let id = ids::agent(range.index());
    let cgroup = Cgroup::begin(ground.layout, &id, &ground.plan.limits, ground.disks)?;
    let placeholders = Placeholders::default();
    let mut launch = Launch { ground, id: &id, range, keeper, cgroup, placeholders, front };
    let result = launch.run_with_gateway();
    let Launch { cgroup, placeholders, .. } = launch;
    if result.is_err() && front.counts() {
        let _ = cgroup.kill();
        let _ = cgroup.wait_empty(MOMENT);
        front.gave_up(&cgroup.usage());
    }
    let cleared = clear(cgroup);
    placeholders.remove();
    result.and_then(|outcome| cleared.map(|()| outcome))
}

/// Removes the group. The kernel removes no group that somebody is in, so this is the proof that nobody is left; who
/// was, is killed.
fn clear(cgroup: Cgroup) -> Result<(), ShimError> {
    Ok(cgroup.remove()?)
}

struct Launch<'a, F> {
    ground: &'a Ground<'a>,
    id: &'a AgentId,
    range: &'a UidRange,
    keeper: &'a Keeper,
    cgroup: Cgroup,
    placeholders: Placeholders,
    front: &'a mut F,
}

/// The child, until it has ended.
struct Child {
    pid: u32,
    pidfd: OwnedFd,
    socket: OwnedFd,
    /// To one CPU, until there is time to undo it.
    pinned: bool,
}

/// What init hands over while it is being confined.
#[derive(Default)]
struct Handed {
    master: Option<OwnedFd>,
    listener: Option<OwnedFd>,
}

impl<F: Front> Launch<'_, F> {
    /// With a cgroup for the gateway, if the plan has one; it is gone when this returns.
    fn run_with_gateway(&mut self) -> Result<Outcome, ShimError> {
        let Some(ways) = Ways::open(self.ground.plan, self.id, self.range)? else {
            return self.run(None);
        };
        let id = ids::gateway(self.range.index());
        let cgroup = ways.cgroup(self.ground.layout, &id, self.ground.plan)?;
        let result = self.run(Some((ways, &cgroup)));
        let cleared = clear(cgroup);
        result.and_then(|outcome| cleared.map(|()| outcome))
    }

    fn run(&mut self, mut ways: Option<(Ways, &Cgroup)>) -> Result<Outcome, ShimError> {
        let child = self.spawn(ways.as_mut().map(|(ways, _)| ways))?;
        let named = self.name_ids(&child);
        // Before the child is equipped, and so before its Landlock refuses anything.
        let mut audit = Audit::listen(&self.ground.plan.landlock);
        // It gets ready while the rest of the sandbox is built.
        let start = |(ways, cgroup): (Ways, &Cgroup)| ways.start(cgroup, self.front.tally()?);
        let gateway = ways.map(start).transpose().map_err(ShimError::from);
        let equipped = named.and(gateway).and_then(|gateway| self.equip(&child).map(|()| gateway));
        let outcome = match equipped {
            Ok(gateway) => self.accompany(&child, &mut audit, gateway),
            Err(error) => Err(self.rather_its_own_word(&child, error)),
        };
        if outcome.is_err() {
            // Whatever it was doing, it does not go on unattended.
            let _ = self.cgroup.kill();
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
        }
        // What no report shows need not wait for the very end, which init is on its way to.
        let counts = self.ground.detailed.is_some() || self.front.counts();
        let early = outcome.as_ref().is_ok_and(|outcome| outcome.end.is_some() && !counts);
        let usage = early.then(|| self.cgroup.usage());
        let reaped = wait(child.pidfd.as_fd());
        // Whoever could still write to the terminal ended with init.
        let last = self.front.last();
        let mut outcome = outcome?;
        let of_init = reaped?;
        last?;
        if counts {
            // A task that is reaped may still be on its way out, at the group's expense.
            let _ = self.cgroup.wait_empty(MOMENT);
        }
        outcome.usage = usage.unwrap_or_else(|| self.cgroup.usage());
        self.front.counted(&outcome.usage, outcome.traffic.as_ref());
        // An init that could not report the agent's end was killed with it: by the memory limit, or from outside.
        let end = outcome.end.unwrap_or(of_init);
        match end {
            End::Exited(0) => audit.hear(),
            // The last refusal is often the very one that ended it.
            End::Exited(_) | End::Signaled(_) => audit.finish(),
        }
        let ran_out = outcome.was_out_of_memory || outcome.usage.ran_out_of_memory();
        Ok(Outcome {
            end,
            out_of_memory: end != End::Exited(0) && ran_out,
            killed: outcome.killed,
            usage: outcome.usage,
            traffic: outcome.traffic,
            landlock_audit: audit.coverage(),
            denials: outcome.denials.into_iter().chain(audit.denials()).collect(),
            attestation: outcome.attestation,
        })
    }

    /// Makes the process. It is at work on what it needs nothing for, while this one goes on.
    fn spawn(&self, ways: Option<&mut Ways>) -> Result<Child, ShimError> {
        let (ours, theirs) = wire::pair()?;
        let plan = self.ground.plan;
        let (streams, terminal) = (self.front.streams(), self.front.size());
        let (announce, files) = (self.front.awaits_start(), self.front.files());
        let dialer = match ways {
            Some(ways) => {
                self.keeper.in_network(|| ways.open_doors())??;
                ways.dialer()?
            }
            None => None,
        };
        let cloned = self.keeper.in_network(|| {
            if plan.capabilities.contains(&Capability::NetBindService) {
                netns::open_low_ports().map_err(ShimError::LowPorts)?;
            }
            if plan.landlock.deny_bind {
                netns::close_fast_open().map_err(ShimError::FastOpen)?;
            }
            match clone3(NAMESPACES, self.cgroup.directory()).map_err(ShimError::Clone)? {
                // For good: it never comes back from here. It keeps no copy of our end, whose end it must see.
                Side::Child => {
                    drop(ours);
                    let socket = theirs;
                    jail::enter(plan, Birthright { socket, dialer, streams, terminal, announce, files })
                }
                Side::Parent { pid, pidfd } => {
                    Ok(Child { pid, pidfd, socket: ours, pinned: pin_elsewhere(pid) })
                }
            }
        });
        cloned.map_err(ShimError::Clone)?
    }

    /// Gives it its ids, which it waits for before anything else.
    fn name_ids(&self, child: &Child) -> Result<(), ShimError> {
        self.map_ids(child.pid).map_err(ShimError::Map)?;
        Ok(ToInit::Mapped.send(child.socket.as_fd())?)
    }

    /// Gives it what the host has to give, and its limits.
    fn equip(&mut self, child: &Child) -> Result<(), ShimError> {
        let Ground { plan, layout, disks, .. } = *self.ground;
        self.placeholders = Placeholders::hold(&plan.mounts, |path| self.keeper.announce(path))?;
        self.open_materials()?.send(child.socket.as_fd())?;
        self.cgroup.complete(layout, self.id, &plan.limits, disks)?;
        let entrances = self.cgroup.entrances()?;
        let entrances: Vec<_> = entrances.iter().map(AsFd::as_fd).collect();
        Ok(wire::send_descriptors(child.socket.as_fd(), &entrances)?)
    }

    fn open_materials(&self) -> Result<Materials, ShimError> {
        let plan = self.ground.plan;
        let mut idmaps = Idmaps::new(self.range.first() + plan.user.uid);
        let mut trees = sources::open(&plan.mounts, &mut idmaps)?;
        let dev = self.ground.ahead.dev.take().map_or_else(devices::make, Ok).map_err(ShimError::Devices)?;
        let covers = plan.mounts.iter().any(Mount::needs_cover).then(devices::make_covers);
        let etc = etc::make(&plan.mounts, &mut trees, self.range.first())?;
        Ok(Materials { dev, etc, covers: covers.transpose().map_err(ShimError::Devices)?, trees })
    }

    /// A child that failed says more than our broken pipe.
    fn rather_its_own_word(&self, child: &Child, error: ShimError) -> ShimError {
        let broken = matches!(&error, ShimError::System(error) | ShimError::Map(error)
            if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET | libc::ESRCH | libc::ENOENT)));
        if !broken {
            return error;
        }
        let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
        match self.until_confined(child).err() {
            Some(said @ (ShimError::Jail { .. } | ShimError::Vanished { out_of_memory: true })) => said,
            _ => error,
        }
    }

    fn map_ids(&self, pid: u32) -> io::Result<()> {
        inherited::take_oom_protection(pid)?;
        std::fs::write(format!("/proc/{pid}/uid_map"), self.range.map())?;
        std::fs::write(format!("/proc/{pid}/gid_map"), self.range.map())
    }

    /// Checks what was built, starts the agent, and stays with it to its end.
    fn accompany(
        &mut self,
        child: &Child,
        audit: &mut Audit,
        mut gateway: Option<Gateway>,
    ) -> Result<Accompanied, ShimError> {
        // While the child builds its walls.
        let own = match self.ground.ahead.namespaces.take() {
            Some(own) => own,
            None => attestation::namespaces(std::process::id())?,
        };
        // Only a report says how much of it is known.
        if self.ground.detailed.is_some() && !self.front.knows_audit() {
            audit.confirm();
        }
        if child.pinned {
            unpin(child.pid)?;
        }
        let birth = attestation::Birth::read(child.pid);
        // A child that failed meanwhile says why.
        let handed = self.until_confined(child)?;
        let Ground { policy, detailed, .. } = *self.ground;
        // Each was read back when it was written; a report shows what the kernel says now.
        let limits = if detailed.is_some() { self.cgroup.enforced()?.limits } else { Vec::new() };
        let attestation = Attestation::read(
            child.pid,
            self.ground.agent.unwrap_or(self.id),
            self.ground,
            (&own, birth?),
            self.range.first(),
            &self.cgroup,
            limits,
        )?;
        if let Some(master) = handed.master {
            self.front.open(master)?;
        }
        if let Some(gateway) = &mut gateway {
            gateway.await_ready()?;
        }
        privileges::give_up()?;
        ToInit::Go.send(child.socket.as_fd())?;
        self.front.attested(&attestation)?;
        audit.follow(child.pid, self.range.uids());
        let reins = Reins {
            socket: &child.socket,
            cgroup: &self.cgroup,
            denials: Denials::new(handed.listener),
            gateway,
            deadline: None,
            patience: None,
            killed: false,
        };
        let mut session = Session {
            reins,
            front: &mut *self.front,
            audit,
            out_of_memory: self.cgroup.oom_watch()?,
            was_out_of_memory: false,
        };
        let end = session.attend();
        let finished = session.front.finish(session.reins.patience);
        let end = end?;
        finished?;
        let Session { reins: Reins { denials, gateway, killed, .. }, was_out_of_memory, .. } = session;
        let mut denials = denials.explained(policy);
        let traffic = gateway.map(Gateway::finish).map(|(traffic, refused)| {
            denials.extend(refused);
            traffic
        });
        let usage = Usage::default();
        Ok(Accompanied { end, denials, traffic, attestation, was_out_of_memory, killed, usage })
    }

    fn until_confined(&self, child: &Child) -> Result<Handed, ShimError> {
        let mut handed = Handed::default();
        loop {
            let Some((bytes, mut fds)) = wire::receive(&child.socket, 1)? else {
                return Err(ShimError::Vanished { out_of_memory: self.cgroup.usage().ran_out_of_memory() });
            };
            match FromInit::decode(&bytes) {
                Some(FromInit::Terminal) => handed.master = fds.pop(),
                Some(FromInit::Confined) => {
                    handed.listener = fds.pop();
                    return Ok(handed);
                }
                Some(FromInit::Failed { step, errno, detail }) => {
                    return Err(ShimError::jail(step, errno, detail));
                }
                other => return Err(ShimError::Protocol { what: format!("{other:?} while it is built") }),
            }
        }
    }
}

struct Accompanied {
    end: Option<End>,
    traffic: Option<Traffic>,
    was_out_of_memory: bool,
    killed: bool,
    denials: Vec<Denial>,
    attestation: Attestation,
    usage: Usage,
}
