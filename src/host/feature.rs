//! What a host may or may not offer, why Stockade wants it, and what to do where it is absent.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::policy::Shortfall;

/// What happens without a feature that every sandbox is built on.
const NOTHING_STARTS: &str = "nothing starts";

macro_rules! features {
    ($($variant:ident, $name:literal, since $since:literal, for $purpose:literal, without $without:expr, remedy $remedy:literal;)*) => {
        /// One thing that `stockade doctor` looks at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Feature {
            $(#[doc = $purpose] $variant,)*
        }

        impl Feature {
            /// Every feature, in the order in which they are reported.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that reports and scripts use.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The first kernel that has it.
            pub fn since(self) -> &'static str {
                match self { $(Self::$variant => $since,)* }
            }

            /// What it is for.
            pub fn purpose(self) -> &'static str {
                match self { $(Self::$variant => $purpose,)* }
            }

            /// What happens without it.
            pub fn without(self) -> &'static str {
                match self { $(Self::$variant => $without,)* }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

features! {
    Root, "root", since "any",
        for "builds the sandbox; the agent never has it",
        without NOTHING_STARTS,
        remedy "run `sudo stockade …`, or start it from a root service";
    Capabilities, "capabilities", since "any",
        for "namespaces, id maps, mounts, ending an agent",
        without NOTHING_STARTS,
        remedy "grant the container or service CAP_SYS_ADMIN CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_DAC_OVERRIDE CAP_FOWNER CAP_CHOWN CAP_MKNOD CAP_NET_ADMIN CAP_SYS_PTRACE CAP_KILL; agents with a network also need CAP_NET_RAW CAP_NET_BIND_SERVICE";
    UserNamespace, "user-namespace", since "3.8",
        for "gives each agent host uids that own nothing",
        without NOTHING_STARTS,
        remedy "`sysctl -w user.max_user_namespaces=10000`; kernel CONFIG_USER_NS=y; in a container, a seccomp profile that allows clone3";
    MountNamespace, "mount-namespace", since "3.8",
        for "shows only the files that the policy names",
        without NOTHING_STARTS,
        remedy "`sysctl -w user.max_mnt_namespaces=10000`";
    PidNamespace, "pid-namespace", since "3.8",
        for "hides every process of the host",
        without NOTHING_STARTS,
        remedy "`sysctl -w user.max_pid_namespaces=10000`; kernel CONFIG_PID_NS=y";
    NetworkNamespace, "network-namespace", since "3.8",
        for "leaves no network but a private loopback",
        without NOTHING_STARTS,
        remedy "`sysctl -w user.max_net_namespaces=10000`; kernel CONFIG_NET_NS=y";
    IpcNamespace, "ipc-namespace", since "3.8",
        for "hides the host's shared memory and message queues",
        without NOTHING_STARTS,
        remedy "`sysctl -w user.max_ipc_namespaces=10000`; kernel CONFIG_IPC_NS=y";
    UtsNamespace, "uts-namespace", since "3.8",
        for "hides the host's name",
        without NOTHING_STARTS,
        remedy "`sysctl -w user.max_uts_namespaces=10000`; kernel CONFIG_UTS_NS=y";
    CgroupNamespace, "cgroup-namespace", since "4.6",
        for "hides where in the host's cgroups the agent is",
        without NOTHING_STARTS,
        remedy "`sysctl -w user.max_cgroup_namespaces=10000`; kernel CONFIG_CGROUPS=y";
    TimeNamespace, "time-namespace", since "5.6",
        for "can hide the host's uptime; no shipped policy needs it",
        without "agents see the host's uptime",
        remedy "Linux 5.6 with CONFIG_TIME_NS=y; `sysctl -w user.max_time_namespaces=10000`";
    MountApi, "mount-api", since "5.12",
        for "builds the agent's files from descriptors, never from paths that can be swapped",
        without NOTHING_STARTS,
        remedy "Linux 5.12; in a container, a seccomp profile that allows fsopen, open_tree, move_mount and mount_setattr";
    IdmappedMount, "idmapped-mount", since "5.12",
        for "keeps workspace files their owner's although the agent has other uids",
        without "a workspace on that filesystem is refused, unless the policy tolerates `idmapped-mount`",
        remedy "keep workspaces on ext4, xfs (5.12), btrfs (5.15), overlayfs (5.19) or tmpfs (6.3), not on NFS or 9p";
    Procfs, "procfs", since "3.8",
        for "a private /proc that knows only the agent's processes",
        without NOTHING_STARTS,
        remedy "in a container, leave /proc unmasked (`podman run --security-opt unmask=ALL`, `docker run --security-opt systempaths=unconfined`)";
    Devpts, "devpts", since "4.7",
        for "a terminal of the agent's own",
        without NOTHING_STARTS,
        remedy "Linux 4.7 with CONFIG_UNIX98_PTYS=y";
    Openat2, "openat2", since "5.6",
        for "opens workspace paths without following what an agent planted",
        without NOTHING_STARTS,
        remedy "Linux 5.6; in a container, a seccomp profile that allows openat2";
    Pidfd, "pidfd", since "5.4",
        for "names a process that cannot be mistaken for another",
        without NOTHING_STARTS,
        remedy "Linux 5.4; in a container, a seccomp profile that allows pidfd_open";
    CloseRange, "close-range", since "5.11",
        for "leaves the agent no descriptor but 0, 1 and 2",
        without NOTHING_STARTS,
        remedy "Linux 5.11; in a container, a seccomp profile that allows close_range";
    Landlock, "landlock", since "5.13 (complete: 6.12)",
        for "a second wall around files, TCP, devices, signals and abstract sockets",
        without "refused, unless the policy tolerates each `landlock…` that is lacking",
        remedy "Linux 6.12 with CONFIG_SECURITY_LANDLOCK=y and `landlock` in the `lsm=` boot parameter";
    LandlockErrata, "landlock-errata", since "6.15 (backported to 6.12)",
        for "shows which Landlock bugs this kernel has fixed",
        without "starts; Landlock is known to be inexact in the points listed",
        remedy "install your distribution's latest kernel update";
    LandlockAudit, "landlock-audit", since "6.15",
        for "tells the user which file or port Landlock refused",
        without "starts; what Landlock refuses is not reported by name (`stockade policy explain` still says why)",
        remedy "Linux 6.15, and audit switched on by the host: run auditd, or boot with `audit=1`";
    SeccompFilter, "seccomp-filter", since "4.14",
        for "refuses every system call that is not on the list",
        without NOTHING_STARTS,
        remedy "Linux 4.14 with CONFIG_SECCOMP_FILTER=y";
    SeccompNotify, "seccomp-notify", since "5.0",
        for "tells the user which call was refused",
        without "refused, unless the policy tolerates `seccomp-notify`",
        remedy "Linux 5.0 with CONFIG_SECCOMP_FILTER=y";
    MemoryLimit, "memory-limit", since "4.5",
        for "ends an agent that takes too much memory, and nothing else",
        without "refused, unless the policy tolerates `memory-limit`",
        remedy "enable the memory controller: boot without `cgroup_disable=memory`, and delegate it (systemd: `Delegate=yes`)";
    SwapLimit, "swap-limit", since "4.5",
        for "stops an agent from moving its memory to swap",
        without "refused where the host has swap, unless the policy tolerates `swap-limit`",
        remedy "`swapoff -a`, or boot with `swapaccount=1`";
    CpuLimit, "cpu-limit", since "4.15",
        for "keeps an agent to its share of the processors",
        without "refused, unless the policy tolerates `cpu-limit`",
        remedy "enable the cpu controller: CONFIG_CFS_BANDWIDTH=y, and delegate it (systemd: `Delegate=yes`)";
    ProcessLimit, "process-limit", since "4.5",
        for "stops fork bombs",
        without "refused, unless the policy tolerates `process-limit`",
        remedy "enable the pids controller: CONFIG_CGROUP_PIDS=y, and delegate it (systemd: `Delegate=yes`)";
    IoLimit, "io-limit", since "4.5",
        for "bounds disk bandwidth where a policy asks for it",
        without "a policy with `limits.io` is refused, unless it tolerates `io-limit`",
        remedy "boot with `systemd.unified_cgroup_hierarchy=1`; CONFIG_BLK_DEV_THROTTLING=y; delegate the io controller";
    CgroupKill, "cgroup-kill", since "5.14",
        for "ends all of an agent's processes at once",
        without "refused, unless the policy tolerates `cgroup-kill`",
        remedy "Linux 5.14, and a writable cgroup2 mount (`systemd.unified_cgroup_hierarchy=1`)";
    CloneIntoCgroup, "clone-into-cgroup", since "5.7",
        for "starts the agent inside its limits",
        without "starts; the agent is moved into its limits before it runs",
        remedy "Linux 5.7, and a writable cgroup2 mount";
    UidRange, "uid-range", since "any",
        for "host uids 1879048192 to 2147483647 must belong to nobody else",
        without "an agent may share a uid with the account that is named",
        remedy "move that account or range in /etc/passwd, /etc/group, /etc/subuid or /etc/subgid below 1879048192";
    RunDirectory, "run-directory", since "any",
        for "locks and sockets that end with the boot",
        without NOTHING_STARTS,
        remedy "mount a writable tmpfs on /run";
    ExecutableHomes, "executable-homes", since "any",
        for "agents that install their tools in a home can run them",
        without "starts; programs in such a home or workspace do not run",
        remedy "`mount -o remount,exec` the mount that is named, and drop `noexec` from /etc/fstab";
    Tiocsti, "tiocsti", since "6.2",
        for "nobody types into the caller's terminal; the filter refuses it in any case",
        without "starts; one of two walls is missing",
        remedy "`sysctl -w dev.tty.legacy_tiocsti=0` (Linux 6.2)";
    CorePattern, "core-pattern", since "any",
        for "a crash dump is handled by the host, as root; agents make none",
        without "starts; a crashing agent may run the host's dump program, whatever its core limit says",
        remedy "`sysctl -w kernel.core_pattern=core`";
    AppArmor, "apparmor-userns", since "any",
        for "restricts namespaces of ordinary users; Stockade makes its own as root",
        without "starts",
        remedy "nothing to do";
    Yama, "yama", since "3.4",
        for "bounds ptrace on the host; agents are kept in by their namespaces",
        without "starts",
        remedy "nothing to do";
    Lockdown, "lockdown", since "5.4",
        for "keeps even root from changing the kernel",
        without "starts",
        remedy "nothing to do";
}

impl Feature {
    /// Whether every sandbox is built on it, so that no policy can do without.
    pub fn is_required(self) -> bool {
        self.without() == NOTHING_STARTS
    }

    /// Whether it can only be tried by root, so that anybody else learns nothing about the host.
    pub fn takes_root_to_try(self) -> bool {
        use Feature::*;
        self <= Devpts && self != Root
            || (MemoryLimit..=CloneIntoCgroup).contains(&self)
            || self == RunDirectory
            || self == LandlockAudit
    }

    /// What it looks like to a policy where this host lacks it altogether.
    pub fn shortfall(self) -> Option<Shortfall> {
        match self {
            Self::IdmappedMount => Some(Shortfall::IdmappedMount),
            Self::MemoryLimit => Some(Shortfall::MemoryLimit),
            Self::SwapLimit => Some(Shortfall::SwapLimit),
            Self::CpuLimit => Some(Shortfall::CpuLimit),
            Self::ProcessLimit => Some(Shortfall::ProcessLimit),
            Self::IoLimit => Some(Shortfall::IoLimit),
            Self::CgroupKill => Some(Shortfall::CgroupKill),
            Self::SeccompNotify => Some(Shortfall::SeccompNotify),
            Self::Landlock => Some(Shortfall::Landlock),
            _ => None,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Feature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
