//! One agent's cgroup: its limits, written and read back, and the one handle by which all of it is stopped.
//!
//! ```text
//!  create ──▶ attach ──▶ enforced … usage ──▶ kill ──▶ wait_empty ──▶ remove
//!    │ in two parts: begin (v2, to be born in), complete (v1, to be entered)
//!    │ mkdir  stockade/<id>, or stockade-<id> on v1, in each hierarchy that the limits need
//!    │ write  memory.max, cpu.max …  on v2, memory.limit_in_bytes, cpu.cfs_quota_us … on v1
//!    └ read   every one of them: what the kernel did not take is an error
//! ```
//! The group is claimed with flock(2) for as long as its [`Cgroup`] lives: a second agent of the same name is
//! refused, and what a crash left behind is taken over. Nothing here follows a link or crosses a mount.

mod control;
mod device;
mod error;
mod group;
mod hybrid;
mod kill;
mod layout;
mod mountinfo;
mod mounts;
mod unified;
mod usage;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde::Serialize;

use crate::id::AgentId;
use crate::policy::Limits;
use control::{Amounts, Control};
pub use control::{EnforcedLimit, Limit};
pub use device::Device;
pub use error::CgroupError;
use group::Group;
pub use layout::Layout;
use layout::{Controller, Tree};
use mountinfo::Version;
pub use mounts::Mounts;
pub use usage::Usage;

/// How long killed processes may take to end. Only one that hangs in a driver takes longer than milliseconds.
const DRAIN: Duration = Duration::from_secs(10);

/// How the kernel names its own files; a group named like one would be in their way, or they in its.
const KERNEL_PREFIXES: [&str; 17] = [
    "blkio", "cgroup", "cpu", "cpuacct", "cpuset", "devices", "dmem", "freezer", "hugetlb", "io", "irq",
    "memory", "misc", "net_cls", "net_prio", "pids", "rdma",
];

/// One agent's groups, one in each hierarchy used.
#[derive(Debug)]
pub struct Cgroup {
    /// The v2 group first, if there is one.
    groups: Vec<Group>,
    /// What was written, and to which of the groups.
    controls: Vec<(usize, Control)>,
}

/// The limits in force, read from the kernel; a part of the attestation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforced {
    /// Each with its file and value.
    pub limits: Vec<EnforcedLimit>,
    /// Whether the whole group is killed in one step.
    pub atomic_kill: bool,
}

impl Cgroup {
    /// Makes the agent's groups, writes each limit that this host can enforce, and reads each back. Which it
    /// cannot is told by [`Layout::shortfalls`]. `devices` are the disks for `limits.io`.
    ///
    /// What an agent of this name left behind when it crashed is killed and removed first.
    ///
    /// # Errors
    /// When a limit does not hold, or the name is in use. Nothing is left behind then.
    pub fn create(
        layout: &Layout,
        id: &AgentId,
        limits: &Limits,
        devices: &[Device],
    ) -> Result<Self, CgroupError> {
        let mut cgroup = Self::begin(layout, id, limits, devices)?;
        match cgroup.complete(layout, id, limits, devices) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                // The first error is the one to be told; a group that cannot be removed is taken over next time.
                let _ = cgroup.remove();
                Err(error)
            }
        }
    }

    /// The first part of [`Cgroup::create`]: the v2 group with its limits, where there is a v2 tree. A process is started
    /// inside it.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn begin(
        layout: &Layout,
        id: &AgentId,
        limits: &Limits,
        devices: &[Device],
    ) -> Result<Self, CgroupError> {
        let prefix = id.as_str().split('.').next().unwrap_or_default();
        if id.as_str().contains('.') && KERNEL_PREFIXES.contains(&prefix) {
            return Err(CgroupError::Reserved { id: id.clone() });
        }
        if layout.trees_for(limits).next().is_none() {
            return Err(CgroupError::NoHierarchy);
        }
        let mut cgroup = Self { groups: Vec::new(), controls: Vec::new() };
        match cgroup.build(Version::Unified, layout, id, limits, devices) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                let _ = cgroup.remove();
                Err(error)
            }
        }
    }

    /// The second part: the v1 groups with theirs, which a process that exists by now enters ([`Cgroup::entrances`]).
    ///
    /// # Errors
    /// As [`Cgroup::create`]; what was made is the caller's to remove.
    pub fn complete(
        &mut self,
        layout: &Layout,
        id: &AgentId,
        limits: &Limits,
        devices: &[Device],
    ) -> Result<(), CgroupError> {
        self.build(Version::Legacy, layout, id, limits, devices)
    }

    fn build(
        &mut self,
        version: Version,
        layout: &Layout,
        id: &AgentId,
        limits: &Limits,
        devices: &[Device],
    ) -> Result<(), CgroupError> {
        let amounts = Amounts::of(limits)?;
        let first = self.groups.len();
        for tree in layout.trees_for(limits).filter(|tree| tree.version == version) {
            self.groups.push(make(tree, id)?);
        }
        for (index, group) in self.groups.iter().enumerate().skip(first) {
            let mut controls = match group.tree.version {
                Version::Unified => unified::controls(amounts, limits.io, devices),
                Version::Legacy => hybrid::controls(amounts, limits.io, devices),
            };
            controls.retain(|control| group.tree.controllers.contains(&control.controller));
            if group.tree.version == Version::Unified && !controls.is_empty() {
                let mut wanted: Vec<Controller> = controls.iter().map(|control| control.controller).collect();
                // So that its I/O is counted, limited or not.
                wanted.extend(group.tree.controllers.contains(&Controller::Io).then_some(Controller::Io));
                unified::enable(&group.tree, &wanted)?;
                if !controls.iter().all(|control| control.optional || group.has(control.file)) {
                    unified::settle(&group.tree, &wanted)?;
                }
            }
            for control in controls {
                let may_lack = control.limit != Limit::Swap || layout.may_lack_swap_limit();
                if control.optional && may_lack && !group.has(control.file) {
                    continue;
                }
                control.impose(group)?;
                self.controls.push((index, control));
            }
        }
        Ok(())
    }

    /// The v2 group, for `CLONE_INTO_CGROUP` (clone(2)). An agent is started in it where there is one: it is
    /// through this group that it is killed.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.unified().map(Group::directory)
    }

    /// Moves a process into the v1 groups. Does nothing on pure v2, where it was started inside.
    ///
    /// # Errors
    /// When the process is gone, or has a real-time scheduling class.
    pub fn attach(&self, pid: u32) -> Result<(), CgroupError> {
        self.legacy().try_for_each(|group| hybrid::attach(group, pid))
    }

    /// The doors to the v1 groups: a single-threaded process that writes `0` to each is inside. Empty on pure v2.
    ///
    /// For a process that moves *itself* by `tasks`, the kernel needs no lock against forks and exits of the whole
    /// machine; to move another one by `cgroup.procs` it waits for an RCU grace period, 6 to 20 ms where this was
    /// measured, against 0.04 ms. The descriptor carries the right of who opened it.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn entrances(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        self.legacy().map(|group| group.file("tasks", OFlags::WRONLY)).collect()
    }

    /// The first of the groups that a process is not in, going by its `/proc/PID/cgroup` (cgroups(7)): in a group that it
    /// has not entered no limit holds for it.
    pub fn missed(&self, membership: &str) -> Option<PathBuf> {
        let is_in = |group: &Group| {
            let entry = |line: &str| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                group.is_named(controllers).then(|| group.is_at(path))
            };
            membership.lines().find_map(entry) == Some(true)
        };
        self.groups.iter().find(|group| !is_in(group)).map(Group::path)
    }

    /// The limits as the kernel has them now.
    ///
    /// # Errors
    /// When a control file cannot be read.
    pub fn enforced(&self) -> Result<Enforced, CgroupError> {
        let limits = self.controls.iter().map(|(index, control)| control.observe(&self.groups[*index]));
        Ok(Enforced {
            limits: limits.collect::<Result<_, _>>()?,
            atomic_kill: self.unified().is_some_and(|group| group.has("cgroup.kill")),
        })
    }

    /// What the agent used so far.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for group in &self.groups {
            match group.tree.version {
                Version::Unified => unified::usage(group, &mut usage),
                Version::Legacy => hybrid::usage(group, &mut usage),
            }
        }
        usage
    }

    /// Bytes of memory now, and at the most: two reads, for whoever looks often.
    pub fn memory(&self) -> (Option<u64>, Option<u64>) {
        let counting = self.groups.iter().find(|group| group.tree.controllers.contains(&Controller::Memory));
        let Some(group) = counting else { return (None, None) };
        let files = match group.tree.version {
            Version::Unified => ["memory.current", "memory.peak"],
            Version::Legacy => ["memory.usage_in_bytes", "memory.max_usage_in_bytes"],
        };
        files.map(|file| group.read(file).ok()?.trim().parse().ok()).into()
    }

    /// How many processes and threads there are now.
    pub fn processes(&self) -> Option<u64> {
        let counting = self.groups.iter().find(|group| group.tree.controllers.contains(&Controller::Pids));
        counting?.read("pids.current").ok()?.trim().parse().ok()
    }

    /// A descriptor that becomes readable when the agent runs out of memory, for whoever then must [`kill`] the
    /// whole of it. `None` on v2, where the kernel does (`memory.oom.group`). Also readable once the group is removed.
    ///
    /// [`kill`]: Cgroup::kill
    ///
    /// # Errors
    /// When the kernel does not tell of it.
    pub fn oom_watch(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let memory = self.legacy().find(|group| group.tree.controllers.contains(&Controller::Memory));
        memory.map(hybrid::oom_watch).transpose()
    }

    /// Sends SIGKILL to every process of the agent, in one step where the kernel can. They may still be dying
    /// when this returns: [`Cgroup::wait_empty`] is the proof.
    ///
    /// # Errors
    /// When the kernel refuses, or processes could not be killed within ten seconds where it takes a hunt.
    pub fn kill(&self) -> Result<(), CgroupError> {
        let unified = self.unified();
        if let Some(group) = unified {
            if !kill::at_once(group)? {
                self.hunt(group)?;
            }
            // The v1 groups have the same members, so they are dying, too.
            if unified::is_populated(group)? {
                return Ok(());
            }
        }
        // Alone, or with a member that the v2 group does not have: a start that was cut short.
        self.legacy().try_for_each(|group| self.hunt(group))
    }

    fn hunt(&self, group: &Group) -> Result<(), CgroupError> {
        let empty = kill::hunt(group, &self.groups, Instant::now() + DRAIN)?;
        if empty { Ok(()) } else { Err(CgroupError::NotEmpty { path: group.path() }) }
    }

    /// Waits until the kernel says that no process is left in any of the groups; `false`: it did not say so in time.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn wait_empty(&self, timeout: Duration) -> Result<bool, CgroupError> {
        let deadline = Instant::now() + timeout;
        for group in &self.groups {
            let empty = match group.tree.version {
                Version::Unified => unified::wait_empty(group, deadline)?,
                Version::Legacy => hybrid::wait_empty(group, deadline)?,
            };
            if !empty {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the groups; whoever is still in them is killed. Takes at most about ten seconds.
    ///
    /// # Errors
    /// When a process survives SIGKILL, hanging in the kernel.
    pub fn remove(self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + DRAIN;
        for group in &self.groups {
            while !group.remove()? {
                self.kill()?;
                let left = deadline.saturating_duration_since(Instant::now());
                if !self.wait_empty(left)? || left.is_zero() {
                    return Err(CgroupError::NotEmpty { path: group.path() });
                }
            }
            group::leave_house(&group.tree)?;
        }
        Ok(())
    }

    fn unified(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.tree.version == Version::Unified)
    }

    fn legacy(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.tree.version == Version::Legacy)
    }
}

/// Kills and removes whatever groups an agent has, for one who knows only its name and that its owner is gone:
/// the owner's claim is not asked for. Nothing to do is success. `used` hears what all of it came to, once nobody is left
/// who could use more and before the counters go.
///
/// # Errors
/// As [`Cgroup::remove`].
pub fn kill_and_remove(layout: &Layout, id: &AgentId, used: impl FnOnce(&Usage)) -> Result<(), CgroupError> {
    let groups = layout.trees().iter().filter_map(|tree| Group::open(tree, id).transpose());
    let cgroup = Cgroup { groups: groups.collect::<Result<_, _>>()?, controls: Vec::new() };
    cgroup.kill()?;
    if !cgroup.groups.is_empty() && cgroup.wait_empty(DRAIN)? {
        used(&cgroup.usage());
    }
    cgroup.remove()?;
    // The owner may have ended between its group and the house.
    layout.trees().iter().try_for_each(|tree| group::leave_house(tree))
}

/// Makes and claims the group in one hierarchy, once a crashed agent's is out of the way.
fn make(tree: &Arc<Tree>, id: &AgentId) -> Result<Group, CgroupError> {
    if let Some(group) = Group::make(tree, id)? {
        group.claim()?;
        return Ok(group);
    }
    if let Some(leftover) = Group::open(tree, id)? {
        // Held until it is removed, so that of two who want it only one goes on.
        leftover.claim_leftover()?;
        Cgroup { groups: vec![leftover], controls: Vec::new() }.remove()?;
    }
    let group = Group::make(tree, id)?.ok_or_else(|| in_use(tree, id))?;
    group.claim()?;
    Ok(group)
}

fn in_use(tree: &Tree, id: &AgentId) -> CgroupError {
    CgroupError::InUse { path: tree.path.join(group::relative(tree, id)) }
}
