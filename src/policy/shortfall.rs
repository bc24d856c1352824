//! Protections that a host may lack, by the name under which a policy may tolerate it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A protection that this host cannot give. The start is refused unless the policy tolerates it by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortfall {
    /// No Landlock at all (Linux 5.13).
    Landlock,
    /// Landlock cannot govern truncation (ABI 3, Linux 6.2).
    LandlockTruncate,
    /// Landlock cannot govern TCP (ABI 4, Linux 6.7).
    LandlockTcp,
    /// Landlock cannot govern device ioctls (ABI 5, Linux 6.10).
    LandlockIoctlDev,
    /// Landlock cannot govern abstract sockets and signals (ABI 6, Linux 6.12).
    LandlockScope,
    /// No memory limit.
    MemoryLimit,
    /// Memory is limited, swap is not.
    SwapLimit,
    /// No CPU limit.
    CpuLimit,
    /// No limit on the number of processes.
    ProcessLimit,
    /// No I/O limit.
    IoLimit,
    /// No cgroup v2 tree: no atomic kill of the whole group (Linux 5.14).
    CgroupKill,
    /// Refused system calls cannot be reported (seccomp user notification, Linux 5.0).
    SeccompNotify,
    /// The workspace's filesystem cannot be idmapped (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
    IdmappedMount,
}

impl Shortfall {
    /// Every shortfall, in the order in which they are reported.
    pub const ALL: [Self; 13] = [
        Self::Landlock,
        Self::LandlockTruncate,
        Self::LandlockTcp,
        Self::LandlockIoctlDev,
        Self::LandlockScope,
        Self::MemoryLimit,
        Self::SwapLimit,
        Self::CpuLimit,
        Self::ProcessLimit,
        Self::IoLimit,
        Self::CgroupKill,
        Self::SeccompNotify,
        Self::IdmappedMount,
    ];

    /// The name that policies and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::LandlockTruncate => "landlock-truncate",
            Self::LandlockTcp => "landlock-tcp",
            Self::LandlockIoctlDev => "landlock-ioctl-dev",
            Self::LandlockScope => "landlock-scope",
            Self::MemoryLimit => "memory-limit",
            Self::SwapLimit => "swap-limit",
            Self::CpuLimit => "cpu-limit",
            Self::ProcessLimit => "process-limit",
            Self::IoLimit => "io-limit",
            Self::CgroupKill => "cgroup-kill",
            Self::SeccompNotify => "seccomp-notify",
            Self::IdmappedMount => "idmapped-mount",
        }
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
