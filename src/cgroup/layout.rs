//! Which hierarchies this host offers, and which controller is to be found in which of them.
//!
//! ```text
//!  pure v2     /sys/fs/cgroup          memory cpu pids io, cgroup.kill
//!  hybrid      /sys/fs/cgroup/memory   memory        one v1 hierarchy per controller …
//!              /sys/fs/cgroup/unified  cgroup.kill   … and a v2 tree beside them
//!  legacy      the v1 hierarchies only
//! ```
//! A controller is in one hierarchy at a time: where v2 has it, v1 has not.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::CgroupError;
use super::group;
use super::mountinfo::{Mounted, Version};
use super::mounts::Mounts;
use crate::ordered;
use crate::policy::{Limits, Shortfall};

/// `CGROUP2_SUPER_MAGIC` and `CGROUP_SUPER_MAGIC` (linux/magic.h).
const MAGIC: [(Version, u32); 2] = [(Version::Unified, 0x6367_7270), (Version::Legacy, 0x0027_e0eb)];

/// A part of the kernel that accounts for, and limits, one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Pids,
    Io,
    Freezer,
}

impl Controller {
    pub(super) const ALL: [Self; 5] = [Self::Memory, Self::Cpu, Self::Pids, Self::Io, Self::Freezer];

    /// As in `cgroup.controllers`; v2 freezes without a controller.
    pub(super) fn unified_name(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory"),
            Self::Cpu => Some("cpu"),
            Self::Pids => Some("pids"),
            Self::Io => Some("io"),
            Self::Freezer => None,
        }
    }

    /// As in the options of a v1 mount.
    pub(super) fn legacy_name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Io => "blkio",
            Self::Freezer => "freezer",
        }
    }

    /// A file that shows in a v1 root that this kernel can limit the resource, where there is one.
    fn legacy_proof(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory.limit_in_bytes"),
            // Absent without CONFIG_CFS_BANDWIDTH.
            Self::Cpu => Some("cpu.cfs_quota_us"),
            Self::Io => Some("blkio.throttle.read_bps_device"),
            Self::Pids | Self::Freezer => None,
        }
    }
}

/// One hierarchy that groups can be made in.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) version: Version,
    pub(super) path: PathBuf,
    pub(super) root: OwnedFd,
    /// What it can limit.
    pub(super) controllers: BTreeSet<Controller>,
}

/// The hierarchies of this host, opened.
#[derive(Debug)]
pub struct Layout {
    trees: Vec<Arc<Tree>>,
    swap: Swap,
    /// Whether a group can be killed by one write (Linux 5.14).
    atomic_kill: bool,
    /// Whether bytes to and from disks are counted where nothing limits them.
    counts_io: bool,
}

/// Whether an agent's memory could move to swap, and whether that can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swap {
    Limited,
    /// There is none on this host.
    Absent,
    Unlimited,
}

impl Layout {
    /// Reads the mounts and opens each hierarchy that is useful. Changes nothing; takes tens of microseconds.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or a mount is not what the kernel says it is.
    pub fn detect() -> Result<Self, CgroupError> {
        Self::among(&Mounts::read()?)
    }

    /// The same among mounts that are known already. Everything else is looked at now.
    ///
    /// # Errors
    /// When a mount is not what the kernel says it is.
    pub fn among(mounts: &Mounts) -> Result<Self, CgroupError> {
        let mut trees: Vec<Arc<Tree>> = Vec::new();
        for mounted in mounts.iter().filter(|mounted| mounted.writable) {
            let useful = match mounted.version {
                Version::Unified => trees.iter().all(|tree| tree.version != Version::Unified),
                Version::Legacy => missing(&trees).iter().any(|c| mounted.has(c.legacy_name())),
            };
            if let Some(tree) = if useful { open(mounted)? } else { None } {
                trees.push(Arc::new(tree));
            }
        }
        // The v2 group first: a leftover is killed through it in one write.
        let (mut trees, legacy): (Vec<_>, Vec<_>) =
            trees.into_iter().partition(|tree| tree.version == Version::Unified);
        trees.extend(legacy);
        Ok(Self { swap: swap(&trees), atomic_kill: atomic_kill(&trees), trees, counts_io: false })
    }

    /// Which of these limits this host cannot enforce. The answer was found by [`Layout::detect`].
    ///
    /// I/O on v1 always is one: its throttle counts reads and direct writes against the group, but the
    /// kernel's own threads write the page cache back, in the root group (kernel doc, cgroup-v1/blkio-controller).
    pub fn shortfalls(&self, limits: &Limits) -> BTreeSet<Shortfall> {
        let mut found = BTreeSet::new();
        let mut lacks = |missing: bool, shortfall| {
            if missing {
                found.insert(shortfall);
            }
        };
        let memory = self.with(Controller::Memory).is_some();
        lacks(!memory, Shortfall::MemoryLimit);
        lacks(memory && self.swap == Swap::Unlimited, Shortfall::SwapLimit);
        lacks(self.with(Controller::Cpu).is_none(), Shortfall::CpuLimit);
        lacks(self.with(Controller::Pids).is_none(), Shortfall::ProcessLimit);
        let io = self.with(Controller::Io).is_some_and(|tree| tree.version == Version::Unified);
        lacks(limits.io.is_some() && !io, Shortfall::IoLimit);
        lacks(!self.atomic_kill, Shortfall::CgroupKill);
        found
    }

    /// Whether a missing file for the swap limit is no news: there is no swap, or the shortfalls have told.
    pub(super) fn may_lack_swap_limit(&self) -> bool {
        self.swap != Swap::Limited
    }

    /// Every hierarchy that an agent may have a group in, the v2 tree first.
    pub(super) fn trees(&self) -> &[Arc<Tree>] {
        &self.trees
    }

    /// The same, for one who is billed: bytes to and from disks are counted, whether something limits them or not. On v1
    /// that is a group more; v2 counts in the one that there is.
    pub fn counting_io(self) -> Self {
        Self { counts_io: true, ..self }
    }

    /// The hierarchies that these limits need: the v2 tree always, for it holds and kills.
    pub(super) fn trees_for(&self, limits: &Limits) -> impl Iterator<Item = &Arc<Tree>> {
        let io = limits.io.is_some() || self.counts_io;
        let freezer = !self.atomic_kill;
        self.trees.iter().filter(move |tree| {
            tree.version == Version::Unified
                || tree.controllers.iter().any(|controller| match controller {
                    Controller::Memory | Controller::Cpu | Controller::Pids => true,
                    Controller::Io => io,
                    Controller::Freezer => freezer,
                })
        })
    }

    fn with(&self, controller: Controller) -> Option<&Arc<Tree>> {
        self.trees.iter().find(|tree| tree.controllers.contains(&controller))
    }
}

/// The controllers that no tree has yet.
fn missing(trees: &[Arc<Tree>]) -> Vec<Controller> {
    Controller::ALL.into_iter().filter(|c| trees.iter().all(|tree| !tree.controllers.contains(c))).collect()
}

/// Opens a mount's root; `None` if another mount hides it, or nothing useful is in it.
fn open(mounted: &Mounted) -> Result<Option<Tree>, CgroupError> {
    let path = &mounted.path;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(root) => root,
        // Hidden behind another mount.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(group::cannot_open(path.clone(), errno)),
    };
    let at = |errno: rustix::io::Errno| CgroupError::Open { path: path.clone(), source: errno.into() };
    let device = rustix::fs::fstat(&root).map_err(at)?.st_dev;
    if (rustix::fs::major(device), rustix::fs::minor(device)) != mounted.device {
        return Ok(None);
    }
    let magic = rustix::fs::fstatfs(&root).map_err(at)?.f_type;
    if !MAGIC.iter().any(|(version, number)| *version == mounted.version && i64::from(*number) == magic) {
        return Err(CgroupError::Redirected { path: path.clone() });
    }
    let controllers = match mounted.version {
        Version::Unified => unified_controllers(&root, path)?,
        Version::Legacy => legacy_controllers(&root, mounted),
    };
    let useful = mounted.version == Version::Unified || !controllers.is_empty();
    Ok(useful.then(|| Tree { version: mounted.version, path: path.clone(), root, controllers }))
}

fn legacy_controllers(root: &OwnedFd, mounted: &Mounted) -> BTreeSet<Controller> {
    let offers = |controller: &Controller| {
        mounted.has(controller.legacy_name()) && controller.legacy_proof().is_none_or(|file| has(root, file))
    };
    ordered::set(Controller::ALL.into_iter().filter(offers))
}

/// The controllers that the groups below can be given (cgroups(7), "no internal processes").
fn unified_controllers(root: &OwnedFd, path: &Path) -> Result<BTreeSet<Controller>, CgroupError> {
    let read = |file: &str| {
        group::read(root, file).map_err(|source| CgroupError::Read { path: path.join(file), source })
    };
    let (available, enabled) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    // Only the machine's own root group is allowed both processes and children with controllers, and only
    // it has no cgroup.events; the root of a container's view is an ordinary group.
    let settled = named(&enabled);
    if settled.is_superset(&named(&available)) || !has(root, "cgroup.events") {
        return Ok(named(&available));
    }
    let crowded = !read("cgroup.procs")?.is_empty();
    Ok(if crowded { settled } else { named(&available) })
}

fn named(words: &str) -> BTreeSet<Controller> {
    let has = |name: &str| words.split_ascii_whitespace().any(|word| word == name);
    ordered::set(Controller::ALL.into_iter().filter(|c| c.unified_name().is_some_and(has)))
}

fn has(root: &OwnedFd, file: &str) -> bool {
    rustix::fs::accessat(root, file, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
}

fn swap(trees: &[Arc<Tree>]) -> Swap {
    let memory = trees.iter().find(|tree| tree.controllers.contains(&Controller::Memory));
    let limited = memory.is_some_and(|tree| match tree.version {
        Version::Legacy => has(&tree.root, "memory.memsw.limit_in_bytes"),
        // The root group never shows memory.swap.max; before Linux 6.1 this boot option took it away.
        Version::Unified => {
            let boot = fs::read_to_string("/proc/cmdline").unwrap_or_default();
            boot.split_ascii_whitespace().all(|word| word != "swapaccount=0")
        }
    });
    match limited {
        // A v1 root that has the file is proof; on v2 a kernel built without swap has none anywhere.
        true if memory.is_some_and(|tree| tree.version == Version::Legacy) => Swap::Limited,
        _ if host_has_no_swap() => Swap::Absent,
        true => Swap::Limited,
        false => Swap::Unlimited,
    }
}

/// Whether `/proc/swaps` lists nothing, or the kernel has no such file because it has no swap (proc(5)).
fn host_has_no_swap() -> bool {
    match fs::read_to_string("/proc/swaps") {
        Ok(text) => text.lines().skip(1).all(|line| line.trim().is_empty()),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// `cgroup.kill` came with Linux 5.14; the root group does not show it, so the version must tell.
fn atomic_kill(trees: &[Arc<Tree>]) -> bool {
    let release = rustix::system::uname();
    trees.iter().any(|tree| tree.version == Version::Unified)
        && release.release().to_str().is_ok_and(|release| at_least(release, (5, 14)))
}

fn at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(version: Version, controllers: &[Controller]) -> Arc<Tree> {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("/ exists");
        let controllers = controllers.iter().copied().collect();
        Arc::new(Tree { version, path: "/".into(), root, controllers })
    }

    fn shortfalls(trees: Vec<Arc<Tree>>, swap: Swap, atomic_kill: bool, io: bool) -> Vec<&'static str> {
        let bytes = crate::policy::Bytes::mib(1);
        let io = io.then_some(crate::policy::Io { read: bytes, write: bytes });
        let layout = Layout { trees, swap, atomic_kill, counts_io: false };
        layout.shortfalls(&Limits { io, ..Limits::default() }).into_iter().map(Shortfall::name).collect()
    }

    #[test]
    fn a_complete_v2_host_falls_short_of_nothing() {
        let all =
            tree(Version::Unified, &[Controller::Memory, Controller::Cpu, Controller::Pids, Controller::Io]);
        assert_eq!(shortfalls(vec![all], Swap::Limited, true, true), [""; 0]);
    }

    #[test]
    fn each_missing_controller_is_named() {
        let none = tree(Version::Unified, &[]);
        let wanted = ["memory-limit", "cpu-limit", "process-limit", "io-limit"];
        assert_eq!(shortfalls(vec![none], Swap::Unlimited, true, true), wanted);
        assert_eq!(
            shortfalls(vec![], Swap::Limited, false, false),
            ["memory-limit", "cpu-limit", "process-limit", "cgroup-kill"]
        );
    }

    #[test]
    fn unlimited_swap_and_v1_io_are_named() {
        let v1 = tree(Version::Legacy, &Controller::ALL);
        assert_eq!(
            shortfalls(vec![Arc::clone(&v1)], Swap::Unlimited, true, true),
            ["swap-limit", "io-limit"]
        );
        assert_eq!(shortfalls(vec![v1], Swap::Limited, true, false), [""; 0]);
    }

    #[test]
    fn the_age_of_a_kernel_is_read_from_its_release() {
        for new in ["5.14.0-427.el9", "6.1.0-18-amd64", "6.18.44-fc-v445", "10.0"] {
            assert!(at_least(new, (5, 14)), "{new}");
        }
        for old in ["5.13.19", "4.19.0", "", "x", "6"] {
            assert!(!at_least(old, (5, 14)), "{old}");
        }
    }

    #[test]
    fn a_controller_is_a_whole_word() {
        assert_eq!(named("cpuset io misc"), BTreeSet::from([Controller::Io]));
    }
}
