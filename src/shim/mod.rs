//! The parent's side of one sandbox: from a plan to a cgroup that is proved empty.
//!
//! ```text
//!  Held ──build──▶ Confined ──attest──▶ Running ──attend──▶ Ended ──tear down──▶ (nothing left)
//!    │                │                    │                                      ▲
//!    └────────────────┴────── any error ───┴──────────────────────────────────────┘
//! ```

pub mod attestation;
pub mod audit;
pub mod backlog;
pub mod denials;
mod devices;
pub mod disks;
pub mod egress;
pub mod ends;
pub mod error;
mod idmap;
pub mod ids;
mod inherited;
pub mod keeper;
pub mod modes;
pub mod placeholders;
mod privileges;
pub mod relay;
mod session;
pub mod sources;
pub mod streams;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::cgroup::{Cgroup, Device, Layout, Usage};
use crate::host::Host;
use crate::id::AgentId;
use crate::jail::{self, Birthright, Materials, Stream};
use crate::netns;
use crate::plan::{Capability, Mount, Plan};
use crate::policy::Policy;
use crate::sys::process::{End, Side, clone3, pin_elsewhere, unpin, wait};
use crate::wire::{self, FromInit, ToInit};
use attestation::Attestation;
use audit::{Audit, Coverage};
use denials::{Denial, Denials};
use egress::{Gateway, Traffic, Ways};
pub use error::ShimError;
use idmap::Idmaps;
use ids::UidRange;
use keeper::Keeper;
use placeholders::Placeholders;
use relay::Relay;
use session::{Session, Signals};
use streams::StreamKind;
use terminal::HostTerminal;

/// What every sandbox has to itself, besides its network, which the keeper makes, and its view of the cgroups.
const NAMESPACES: u64 =
    (libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS)
        as u64;

/// How one agent fared.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Whether its memory limit ended it.
    pub out_of_memory: bool,
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
    /// What was decided.
    pub plan: &'a Plan,
    /// What it was decided from: explains refused calls.
    pub policy: &'a Policy,
    /// This kernel.
    pub host: &'a Host,
    /// Its cgroups.
    pub layout: &'a Layout,
    /// Whether the attestation lists every mount and resource limit.
    pub detailed: bool,
    /// Where `limits.io` holds.
    pub disks: &'a [Device],
}

/// Runs one agent in the foreground, on the caller's own streams. When it returns, nothing of the sandbox is left.
pub fn run(ground: &Ground<'_>, keeper: &Keeper) -> Result<Outcome, ShimError> {
    let streams = Streams::survey(ground.plan)?;
    inherited::make_room_for_core_limit()?;
    let signals = Signals::take()?;
    let range = UidRange::acquire().map_err(ShimError::Ids)?;
    let result = keeper
        .watch(&range)
        .map_err(ShimError::Keeper)
        .and_then(|()| run_watched(ground, streams, &signals, &range, keeper));
    placeholders::settle_abandoned();
    range.release();
    result
}

/// The same, while the keeper knows what to do if this process is killed.
fn run_watched(
    ground: &Ground<'_>,
    streams: Streams,
    signals: &Signals,
    range: &UidRange,
    keeper: &Keeper,
) -> Result<Outcome, ShimError> {
    let id = ids::agent(range.index());
    let cgroup = Cgroup::begin(ground.layout, &id, &ground.plan.limits, ground.disks)?;
    let placeholders = Placeholders::default();
    let mut launch = Launch { ground, id: &id, range, keeper, cgroup, placeholders, signals };
    let result = launch.run_with_gateway(streams);
    let Launch { cgroup, placeholders, .. } = launch;
    let cleared = clear(cgroup);
    placeholders.remove();
    result.and_then(|outcome| cleared.map(|()| outcome))
}

/// Removes the group. The kernel removes no group that somebody is in, so this is the proof that nobody is left; who
/// was, is killed.
fn clear(cgroup: Cgroup) -> Result<(), ShimError> {
    Ok(cgroup.remove()?)
}

/// The caller's standard streams, and where each leads.
struct Streams {
    lead: [Stream; 3],
    host: Option<HostTerminal>,
}

impl Streams {
    fn survey(plan: &Plan) -> Result<Self, ShimError> {
        let mut lead = [Stream::Inherited; 3];
        for (number, (lead, name)) in (0..).zip(lead.iter_mut().zip(["stdin", "stdout", "stderr"])) {
            match streams::check_stream(crate::sys::fd::standard(number))? {
                StreamKind::Terminal if !plan.terminal => return Err(ShimError::NoTerminal { stream: name }),
                StreamKind::Terminal => *lead = Stream::Terminal,
                StreamKind::Direct | StreamKind::Closed => {}
            }
        }
        let host = if lead.contains(&Stream::Terminal) { HostTerminal::find()? } else { None };
        Ok(Self { lead, host })
    }
}

struct Launch<'a> {
    ground: &'a Ground<'a>,
    id: &'a AgentId,
    range: &'a UidRange,
    keeper: &'a Keeper,
    cgroup: Cgroup,
    placeholders: Placeholders,
    signals: &'a Signals,
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

impl Launch<'_> {
    /// With a cgroup for the gateway, if the plan has one; it is gone when this returns.
    fn run_with_gateway(&mut self, streams: Streams) -> Result<Outcome, ShimError> {
        let Some(ways) = Ways::open(self.ground.plan, self.id, self.range)? else {
            return self.run(streams, None);
        };
        let id = ids::gateway(self.range.index());
        let cgroup = ways.cgroup(self.ground.layout, &id, self.ground.plan)?;
        let result = self.run(streams, Some((ways, &cgroup)));
        let cleared = clear(cgroup);
        result.and_then(|outcome| cleared.map(|()| outcome))
    }

    fn run(&mut self, streams: Streams, mut ways: Option<(Ways, &Cgroup)>) -> Result<Outcome, ShimError> {
        let child = self.spawn(&streams, ways.as_mut().map(|(ways, _)| ways))?;
        // Before the child is equipped, and so before its Landlock refuses anything.
        let mut audit = Audit::listen(&self.ground.plan.landlock);
        // It gets ready while the rest of the sandbox is built.
        let gateway = ways.map(|(ways, cgroup)| ways.start(cgroup)).transpose().map_err(ShimError::from);
        let equipped = gateway.and_then(|gateway| self.equip(&child).map(|()| gateway));
        let outcome = match equipped {
            Ok(gateway) => self.accompany(&child, streams, &mut audit, gateway),
            Err(error) => Err(self.rather_its_own_word(&child, error)),
        };
        if outcome.is_err() {
            // Whatever it was doing, it does not go on unattended.
            let _ = self.cgroup.kill();
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
        }
        // What no report shows need not wait for the very end, which init is on its way to.
        let early = outcome.as_ref().is_ok_and(|outcome| outcome.end.is_some() && !self.ground.detailed);
        let usage = early.then(|| self.cgroup.usage());
        let reaped = wait(child.pidfd.as_fd());
        let mut outcome = outcome?;
        let of_init = reaped?;
        outcome.usage = usage.unwrap_or_else(|| self.cgroup.usage());
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
            usage: outcome.usage,
            traffic: outcome.traffic,
            landlock_audit: audit.coverage(),
            denials: outcome.denials.into_iter().chain(audit.denials()).collect(),
            attestation: outcome.attestation,
        })
    }

    /// Makes the process. It is at work on what it needs nothing for, while this one goes on.
    fn spawn(&self, streams: &Streams, ways: Option<&mut Ways>) -> Result<Child, ShimError> {
        let (ours, theirs) = wire::pair()?;
        let plan = self.ground.plan;
        let terminal = streams.host.as_ref().map(HostTerminal::size);
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
                    jail::enter(plan, Birthright { socket: theirs, dialer, streams: streams.lead, terminal })
                }
                Side::Parent { pid, pidfd } => {
                    Ok(Child { pid, pidfd, socket: ours, pinned: pin_elsewhere(pid) })
                }
            }
        });
        cloned.map_err(ShimError::Clone)?
    }

    /// Gives it its ids, what the host has to give, and its limits.
    fn equip(&mut self, child: &Child) -> Result<(), ShimError> {
        let Ground { plan, layout, disks, .. } = *self.ground;
        self.map_ids(child.pid).map_err(ShimError::Map)?;
        ToInit::Mapped.send(child.socket.as_fd())?;
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
        let trees = sources::open(&plan.mounts, &mut idmaps)?;
        let dev = devices::make().map_err(ShimError::Devices)?;
        let covers = plan.mounts.iter().any(Mount::needs_cover).then(devices::make_covers);
        Ok(Materials { dev, covers: covers.transpose().map_err(ShimError::Devices)?, trees })
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
        &self,
        child: &Child,
        streams: Streams,
        audit: &mut Audit,
        mut gateway: Option<Gateway>,
    ) -> Result<Accompanied, ShimError> {
        // While the child builds its walls.
        let own = attestation::namespaces(std::process::id())?;
        audit.confirm();
        if child.pinned {
            unpin(child.pid)?;
        }
        let handed = self.until_confined(child)?;
        let Ground { policy, detailed, .. } = *self.ground;
        // Each was read back when it was written; a report shows what the kernel says now.
        let limits = if detailed { self.cgroup.enforced()?.limits } else { Vec::new() };
        let attestation = Attestation::read(
            child.pid,
            self.id,
            self.ground,
            &own,
            self.range.first(),
            &self.cgroup,
            limits,
        )?;
        let terminal = handed.master.map(|master| open_relay(master, streams)).transpose()?;
        if let Some(gateway) = &mut gateway {
            gateway.await_ready()?;
        }
        privileges::give_up()?;
        ToInit::Go.send(child.socket.as_fd())?;
        audit.follow(child.pid, self.range.uids());
        let mut session = Session {
            socket: &child.socket,
            cgroup: &self.cgroup,
            signals: self.signals,
            denials: Denials::new(handed.listener),
            audit,
            terminal,
            gateway,
            out_of_memory: self.cgroup.oom_watch()?,
            deadline: None,
            patience: None,
            was_out_of_memory: false,
        };
        let end = session.attend();
        let finished = session.finish();
        let end = end?;
        finished?;
        let mut denials = session.denials.explained(policy);
        let traffic = session.gateway.map(Gateway::finish).map(|(traffic, refused)| {
            denials.extend(refused);
            traffic
        });
        let was_out_of_memory = session.was_out_of_memory;
        Ok(Accompanied { end, denials, traffic, attestation, was_out_of_memory, usage: Usage::default() })
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
    denials: Vec<Denial>,
    attestation: Attestation,
    usage: Usage,
}

/// The relay reads keys only if stdin is the terminal, and writes only if a stream of the agent's leads there.
fn open_relay(master: OwnedFd, streams: Streams) -> io::Result<(Relay, Option<HostTerminal>)> {
    let host = streams.host;
    let channel = || host.as_ref().map(HostTerminal::channel).transpose();
    let relay = Relay::new(channel()?, channel()?, master)?;
    if let Some(host) = &host {
        relay.adopt(&host.attributes()?)?;
    }
    Ok((relay, host))
}
