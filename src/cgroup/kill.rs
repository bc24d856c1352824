//! The end of every process in a group: one write where the kernel can, a hunt where it cannot.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::Signal;

use super::CgroupError;
use super::group::Group;
use super::hybrid;
use super::layout::Controller;
use super::mountinfo::Version;
use crate::ordered;

/// How many processes are held by a descriptor at once; far below any limit on open files.
const HELD: usize = 64;

/// Kills everybody in a v2 group in one step, forks in flight included; `false`: this kernel cannot (before 5.14).
pub(super) fn at_once(group: &Group) -> Result<bool, CgroupError> {
    match group.write("cgroup.kill", "1") {
        Ok(()) => Ok(true),
        Err(CgroupError::Open { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
            // Without this file, or without this group: then there is nobody to kill either.
            Ok(!group.has("cgroup.procs"))
        }
        // Removed since it was opened.
        Err(CgroupError::Write { source, .. })
            if matches!(source.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) =>
        {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Kills the members of `group` until there are none; `false`: there still were some at the deadline.
///
/// Among `groups`, the agent's, is the brake that keeps a fork bomb from being faster than this.
pub(super) fn hunt(group: &Group, groups: &[Group], deadline: Instant) -> Result<bool, CgroupError> {
    loop {
        if group.members()?.is_empty() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        let brake = Brake::pull(groups)?;
        let last = strike(group);
        // Released in any case: a frozen v1 process does not even die.
        brake.release()?;
        hybrid::await_end(last?, deadline);
    }
}

/// What keeps the members from multiplying.
enum Brake<'g> {
    /// They do not run at all.
    Frozen(&'g Group),
    /// They run, and cannot fork any more.
    Childless,
    None,
}

impl<'g> Brake<'g> {
    fn pull(groups: &'g [Group]) -> Result<Self, CgroupError> {
        let with = |controller| groups.iter().find(|group| group.tree.controllers.contains(&controller));
        if let Some(group) = groups.iter().find(|group| group.tree.version == Version::Unified) {
            group.write("cgroup.freeze", "1")?;
            return Ok(Self::Frozen(group));
        }
        if let Some(group) = with(Controller::Freezer) {
            group.write("freezer.state", "FROZEN")?;
            return Ok(Self::Frozen(group));
        }
        if let Some(group) = with(Controller::Pids) {
            group.write("pids.max", "0")?;
            return Ok(Self::Childless);
        }
        Ok(Self::None)
    }

    fn release(self) -> Result<(), CgroupError> {
        match self {
            Self::Frozen(group) if group.tree.version == Version::Unified => {
                group.write("cgroup.freeze", "0")
            }
            Self::Frozen(group) => group.write("freezer.state", "THAWED"),
            // They are to die, not to go on.
            Self::Childless | Self::None => Ok(()),
        }
    }
}

/// Sends SIGKILL to every member once, and returns one that got it.
///
/// A pid read from the list may be somebody else's by the time of the signal. So the process is held first, and
/// the list read again: if the pid is still on it, then the one held is a member, or is already dead.
fn strike(group: &Group) -> Result<Option<OwnedFd>, CgroupError> {
    let mut last = None;
    for pids in group.members()?.chunks(HELD) {
        let held: Vec<(u32, OwnedFd)> =
            pids.iter().filter_map(|pid| Some((*pid, hybrid::open(*pid)?))).collect();
        let members = ordered::set(group.members()?);
        for (pid, process) in held.into_iter().filter(|(pid, _)| members.contains(pid)) {
            match rustix::process::pidfd_send_signal(&process, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => last = Some(process),
                Err(errno) => {
                    return Err(CgroupError::Kill { pid, path: group.path(), source: errno.into() });
                }
            }
        }
    }
    Ok(last)
}
