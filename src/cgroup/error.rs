//! What can go wrong with an agent's cgroup, each with the file it happened to and the way out.

use std::io;
use std::path::PathBuf;

use crate::id::AgentId;

/// Why a cgroup could not be made, limited, emptied or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The list of mounts is unreadable.
    #[error("cannot read {path}: is /proc mounted?")]
    Mounts {
        /// The list.
        path: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// There is no hierarchy to make a group in, so nothing could be killed as a whole.
    #[error(
        "this host has no writable cgroup hierarchy: mount one (mount -t cgroup2 none /sys/fs/cgroup), \
         or make the mounts of the container writable"
    )]
    NoHierarchy,
    /// A limit of nothing: the kernel would read some of these as no limit at all.
    #[error("the limit {limit} is {given}, less than the least that can be enforced ({least})")]
    TooSmall {
        /// Its key in a policy.
        limit: &'static str,
        /// What was asked for.
        given: String,
        /// What must be asked for.
        least: String,
    },
    /// An id that would collide with the kernel's own files.
    #[error(
        "{id} cannot name a cgroup: the kernel keeps names that start like a controller; choose another id"
    )]
    Reserved {
        /// The id.
        id: AgentId,
    },
    /// Another process holds the group.
    #[error("{path} belongs to a running agent: stop it first, or choose another id")]
    InUse {
        /// The group.
        path: PathBuf,
    },
    /// A directory could not be made.
    #[error("cannot make the cgroup {path}")]
    Make {
        /// The group.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file or directory could not be opened.
    #[error("cannot open {path}")]
    Open {
        /// The file or group.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something was mounted over the hierarchy, or a link put in it (the class of CVE-2025-52881).
    #[error(
        "{path} is not on the cgroup filesystem that it should be on: something is mounted over it; unmount that"
    )]
    Redirected {
        /// The file or group.
        path: PathBuf,
    },
    /// A control file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused a value.
    #[error("the kernel refuses {value:?} in {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The cause.
        source: io::Error,
    },
    /// The kernel took a value and made something else of it.
    #[error("{path} was set to {wanted:?} and reads {found:?}: the limit does not hold")]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// What it should read.
        wanted: String,
        /// What it reads.
        found: String,
    },
    /// The "no internal processes" rule of cgroups(7).
    #[error(
        "cannot enable {controllers} for the groups below {path}: processes live in that group itself. \
         Move them into a group of their own (mkdir {path}/init; write each pid to {path}/init/cgroup.procs), \
         or give the container the host's cgroup namespace"
    )]
    InternalProcesses {
        /// The group whose children were to have the controllers.
        path: PathBuf,
        /// As written to `cgroup.subtree_control`.
        controllers: String,
        /// The cause, EBUSY.
        source: io::Error,
    },
    /// `RT_GROUP_SCHED`: a new v1 cpu group has no real-time share.
    #[error(
        "process {pid} cannot enter {path}: it has a real-time scheduling class, and a v1 cpu group has no \
         real-time share. Start Stockade without one (chrt --other 0)"
    )]
    RealTime {
        /// The process.
        pid: u32,
        /// The group's `cgroup.procs`.
        path: PathBuf,
        /// The cause, EINVAL.
        source: io::Error,
    },
    /// A process could not be sent SIGKILL.
    #[error("cannot kill process {pid} of {path}")]
    Kill {
        /// The process.
        pid: u32,
        /// Its group.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Killed, and still there.
    #[error(
        "processes in {path} outlive SIGKILL: they hang in the kernel (state D, see `ps -eo pid,stat,wchan`)"
    )]
    NotEmpty {
        /// The group.
        path: PathBuf,
    },
    /// The group could not be removed.
    #[error("cannot remove the cgroup {path}")]
    Remove {
        /// The group.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}
