//! The belt's own part of the cgroup tree: what a test makes there is in nobody's way, and goes with the belt.
//!
//! Cgroups know no throw-away root. So the outer half of a test makes one group in each hierarchy that limits something,
//! and the inner half binds it over the hierarchy's mount point. The other hierarchies stay in view as they are.

use std::fs;
use std::path::{Path, PathBuf};

/// Mount points of the hierarchies that limits are written to; the first one is pure v2's.
const HIERARCHIES: [&str; 7] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/memory",
    "/sys/fs/cgroup/cpu",
    "/sys/fs/cgroup/pids",
    "/sys/fs/cgroup/blkio",
    "/sys/fs/cgroup/freezer",
];

/// Groups on the machine; removed when dropped.
pub struct Groups {
    name: String,
}

impl Groups {
    /// Makes a group of this name in each hierarchy.
    ///
    /// # Panics
    /// If a hierarchy is there and takes no group.
    pub fn make(name: String) -> Self {
        for hierarchy in mounted() {
            // A group of a v2 tree has the controllers that its parent hands down; those that do not exist are refused.
            for controller in ["+memory", "+pids", "+cpu", "+io"] {
                let _ = fs::write(hierarchy.join("cgroup.subtree_control"), controller);
            }
            let group = hierarchy.join(&name);
            fs::create_dir(&group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
        }
        Self { name }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        mounted().iter().for_each(|hierarchy| remove(&hierarchy.join(&self.name)));
    }
}

/// The hierarchies of [`HIERARCHIES`] that are mounted, with the group `name` in each.
pub fn pairs(name: &str) -> Vec<(PathBuf, PathBuf)> {
    mounted().into_iter().map(|hierarchy| (hierarchy.join(name), hierarchy)).collect()
}

/// How the machine's hierarchies are mounted (proc_pid_mountinfo(5)). A hierarchy has its options once, not per mount: an attempt
/// that mounts one can change them from inside the belt.
pub fn options() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    table.lines().filter(|line| line.contains(" - cgroup")).map(str::to_owned).collect()
}

fn mounted() -> Vec<PathBuf> {
    // Every group, and nothing else in /sys/fs/cgroup, has a list of its processes.
    HIERARCHIES.iter().map(PathBuf::from).filter(|path| path.join("cgroup.procs").exists()).collect()
}

fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(group) {
        eprintln!("left behind: {}: {error}", group.display());
    }
}
