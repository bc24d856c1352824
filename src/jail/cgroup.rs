//! The agent's cgroups, from inside: entering them before anything of the agent's happens, and making them the root of its
//! view.

use std::io;
use std::os::fd::OwnedFd;

use super::step::{Fault, On};

/// Enters every v1 group that has a door here; on v2 the process was started inside.
pub fn enter(entrances: &[OwnedFd]) -> Result<(), Fault> {
    for entrance in entrances {
        rustix::io::write(entrance, b"0").on("a cgroup; a real-time process cannot enter a v1 cpu group")?;
    }
    Ok(())
}

/// A cgroup namespace whose root is the cgroup that this process is in by now (cgroup_namespaces(7)).
pub fn hide_what_is_above() -> io::Result<()> {
    crate::sys::process::unshare_cgroup_namespace()
}
