//! What this kernel can: asked at every start, so it changes nothing and costs microseconds.
//!
//! ```text
//!  Host::probe() ──▶ Host (pure data) ──┬─ refusals()          nothing can start here, and why
//!                                       └─ shortfalls(wanted)  what a policy must tolerate by name
//!  examine()     ──▶ Finding per Feature          the slow and thorough look, for people: it tries each thing
//! ```
//! A `Host` can be invented, so that the tests can take one feature away after another.

pub mod attempt;
pub mod command;
pub mod examine;
pub mod feature;
pub mod identity;
mod limits;
pub mod planted;
pub mod report;
pub mod resolver;
mod surroundings;
pub mod survey;

use std::collections::BTreeSet;
use std::fs;

use caps::{CapSet, Capability};
use serde::Serialize;

use crate::ordered;
use crate::policy::{Access, Policy, Shortfall};
use crate::sys::kernel::{self, SeccompAction};

/// The machine as Stockade finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// The Landlock ABI, 0 if there is none.
    pub landlock_abi: u32,
    /// Whether this Landlock tells the kernel's audit what it refuses; if not, why. Whether audit is on, and can be read,
    /// is for the listener to find out ([`audit_is_on`]).
    pub audit: Result<(), String>,
    /// What a system-call filter may decide.
    pub seccomp: Seccomp,
    /// Whether user namespaces exist and may be made (`user.max_user_namespaces` above 0).
    pub user_namespaces: bool,
    /// The effective uid.
    pub euid: u32,
    /// Which of [`NEEDED`] are not effective, by name (`CAP_SYS_ADMIN`).
    pub missing_capabilities: BTreeSet<String>,
    /// Which of [`NEEDED_FOR_NETWORK`] are not effective.
    pub missing_for_network: BTreeSet<String>,
    /// System calls that every start needs and that do not exist here, each with the Linux that brought it.
    pub missing_calls: Vec<(&'static str, &'static str)>,
    /// Whether there is swap that an agent's memory could move to.
    pub swap: bool,
}

/// What a system-call filter may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// Filters can be installed that refuse a call, and that end the process (Linux 4.14).
    pub filter: bool,
    /// Filters can report a call to a supervisor (Linux 5.0).
    pub notify: bool,
}

/// What Stockade itself must be able to do, before it gives everything up.
///
/// `SYS_ADMIN`: namespaces, mounts, idmapped mounts. `SETUID`, `SETGID`: write the id maps of a sandbox
/// (user_namespaces(7)). `DAC_OVERRIDE`, `FOWNER`, `CHOWN`: open a workspace, keep its files their owner's, and clean up in
/// it. `NET_ADMIN`: bring up the loopback of a network that belongs to the host's root. `KILL`: end an agent, which has a
/// uid of its own. `SETPCAP`: empty the bounding set. `MKNOD`: make the devices of a `/dev`. `SYS_PTRACE`: read back what
/// the sandbox is, which is another user's.
pub const NEEDED: [Capability; 11] = [
    Capability::CAP_MKNOD,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_FOWNER,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_CHOWN,
    Capability::CAP_KILL,
];

/// What it must be able to do besides for an agent that has a way to the network: see what nobody listens for, and listen
/// on the low ports of the sandbox's network, where names are asked for.
pub const NEEDED_FOR_NETWORK: [Capability; 2] = [Capability::CAP_NET_RAW, Capability::CAP_NET_BIND_SERVICE];

/// The protections that a policy asks this host for; all of them unless it does without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Landlock governs files and devices.
    pub files: bool,
    /// Landlock refuses TCP.
    pub tcp: bool,
    /// Landlock keeps signals and abstract sockets inside.
    pub scope: bool,
    /// Refused system calls are reported.
    pub notify: bool,
    /// Disk bandwidth is limited.
    pub io: bool,
    /// Files of the host are shown as the agent's own.
    pub owners: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { files: true, tcp: true, scope: true, notify: true, io: true, owners: true }
    }
}

impl From<&Policy> for Wanted {
    /// What `policy` asks of the host: Landlock forbids every mount once it governs files, so a policy with nested
    /// namespaces goes without; and one that allows the sandbox's own loopback refuses no TCP.
    fn from(policy: &Policy) -> Self {
        let filesystem = &policy.filesystem;
        Self {
            files: !policy.syscalls.nested_namespaces,
            tcp: !policy.network.loopback,
            io: policy.limits.io.is_some(),
            owners: filesystem.workspace != Access::None || !filesystem.read_write.is_empty(),
            ..Self::default()
        }
    }
}

impl Wanted {
    /// Whether it matters that a host lacks this.
    pub fn includes(self, shortfall: Shortfall) -> bool {
        match shortfall {
            Shortfall::Landlock => self.files || self.tcp || self.scope,
            Shortfall::LandlockTruncate | Shortfall::LandlockIoctlDev => self.files,
            Shortfall::LandlockTcp => self.tcp,
            Shortfall::LandlockScope => self.scope,
            Shortfall::SeccompNotify => self.notify,
            Shortfall::IoLimit => self.io,
            Shortfall::IdmappedMount => self.owners,
            Shortfall::MemoryLimit
            | Shortfall::SwapLimit
            | Shortfall::CpuLimit
            | Shortfall::ProcessLimit
            | Shortfall::CgroupKill => true,
        }
    }
}

/// Why nothing can start on this host, whatever a policy tolerates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// Not root.
    #[error("stockade runs as uid {euid}, but only root can build a sandbox: start it with sudo")]
    NotRoot {
        /// The effective uid.
        euid: u32,
    },
    /// Root in name only: a container, or a service with a bounded set.
    #[error("{capability} is missing: grant it to the container or service that stockade runs in")]
    Capability {
        /// Its name, `CAP_SYS_ADMIN`.
        capability: String,
    },
    /// An old kernel, or an outer sandbox that hides the call.
    #[error(
        "the system call {call} is missing: use Linux {since} or newer, or allow it in the container that stockade runs in"
    )]
    SystemCall {
        /// Its name, `openat2`.
        call: &'static str,
        /// The first Linux that has it.
        since: &'static str,
    },
    /// Every sandbox has a user namespace.
    #[error(
        "user namespaces are switched off: sysctl -w user.max_user_namespaces=10000 (kernel: CONFIG_USER_NS=y)"
    )]
    UserNamespaces,
    /// Every sandbox has a system-call filter.
    #[error(
        "the kernel has no seccomp filters that end a process: use Linux 4.14 or newer with CONFIG_SECCOMP_FILTER=y"
    )]
    SeccompFilter,
}

impl Host {
    /// Asks the running kernel. Whatever cannot be found out counts as missing.
    pub fn probe() -> Self {
        let landlock_abi = kernel::landlock_abi();
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            landlock_abi,
            audit: audit(landlock_abi),
            seccomp: Seccomp::probe(),
            user_namespaces: allows_user_namespaces(),
            euid: rustix::process::geteuid().as_raw(),
            missing_capabilities: missing_of(&NEEDED),
            missing_for_network: missing_of(&NEEDED_FOR_NETWORK),
            missing_calls: kernel::missing_calls(),
            swap: rustix::system::sysinfo().totalswap > 0,
        }
    }

    /// Why nothing can start here; empty on a fit host.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if self.euid != 0 {
            // Without root the capabilities are missing too; naming them would only bury the cause.
            refusals.push(Refusal::NotRoot { euid: self.euid });
        } else {
            let capabilities = self.missing_capabilities.iter().cloned();
            refusals.extend(capabilities.map(|capability| Refusal::Capability { capability }));
        }
        let calls = self.missing_calls.iter();
        refusals.extend(calls.map(|(call, since)| Refusal::SystemCall { call, since }));
        if !self.user_namespaces {
            refusals.push(Refusal::UserNamespaces);
        }
        if !self.seccomp.filter {
            refusals.push(Refusal::SeccompFilter);
        }
        refusals
    }

    /// Why nothing that has a way to the network can start here; empty on a fit host.
    pub fn network_refusals(&self) -> Vec<Refusal> {
        let missing = self.missing_for_network.iter().cloned();
        missing.map(|capability| Refusal::Capability { capability }).collect()
    }

    /// What its Landlock and seccomp lack of the wanted protections. An older kernel never lacks less than a newer
    /// one: without Landlock every one of its parts is named, so that tolerating `landlock` alone tolerates nothing
    /// else.
    pub fn shortfalls(&self, wanted: Wanted) -> BTreeSet<Shortfall> {
        let has = [
            (self.landlock_abi >= 1, Shortfall::Landlock),
            (self.landlock_abi >= 3, Shortfall::LandlockTruncate),
            (self.landlock_abi >= 4, Shortfall::LandlockTcp),
            (self.landlock_abi >= 5, Shortfall::LandlockIoctlDev),
            (self.landlock_abi >= 6, Shortfall::LandlockScope),
            (self.seccomp.notify, Shortfall::SeccompNotify),
        ];
        let lacking = has.into_iter().filter(|(there, _)| !there).map(|(_, lacking)| lacking);
        ordered::set(lacking.filter(|shortfall| wanted.includes(*shortfall)))
    }
}

impl Seccomp {
    fn probe() -> Self {
        let has = |action| kernel::has_seccomp_action(action).unwrap_or(false);
        Self {
            filter: has(SeccompAction::Errno) && has(SeccompAction::KillProcess),
            notify: has(SeccompAction::UserNotif),
        }
    }
}

fn audit(landlock_abi: u32) -> Result<(), String> {
    match landlock_abi {
        7.. => Ok(()),
        abi => Err(format!("this kernel's Landlock (ABI {abi}) reports no refusals")),
    }
}

/// Audit is the host's: it is asked, and never switched on.
pub fn audit_is_on() -> Result<(), String> {
    match crate::sys::audit::is_enabled() {
        Ok(true) => Ok(()),
        Ok(false) => Err("audit is switched off on this host".into()),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EPROTONOSUPPORT) => "this kernel has no audit".into(),
            Some(libc::EPERM | libc::ECONNREFUSED) => {
                "audit answers only the host's own root with CAP_AUDIT_CONTROL and CAP_AUDIT_READ".into()
            }
            _ => format!("audit does not answer: {error}"),
        }),
    }
}

fn allows_user_namespaces() -> bool {
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces");
    most.is_ok_and(|text| text.trim().parse::<u64>().is_ok_and(|most| most > 0))
}

fn missing_of(needed: &[Capability]) -> BTreeSet<String> {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    ordered::set(needed.iter().filter(|needed| !effective.contains(needed)).map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that can do everything.
    fn able() -> Host {
        Host {
            kernel: "6.18.0".into(),
            landlock_abi: 9,
            audit: Ok(()),
            seccomp: Seccomp { filter: true, notify: true },
            user_namespaces: true,
            euid: 0,
            missing_capabilities: BTreeSet::new(),
            missing_for_network: BTreeSet::new(),
            missing_calls: Vec::new(),
            swap: false,
        }
    }

    #[test]
    fn every_landlock_abi_falls_short_of_exactly_what_it_came_before() {
        use Shortfall::*;
        let all = [Landlock, LandlockTruncate, LandlockTcp, LandlockIoctlDev, LandlockScope];
        // How many of `all`, from the end, an ABI lacks: index is the ABI.
        for (abi, lacking) in [5, 4, 4, 3, 2, 1, 0, 0, 0, 0].into_iter().enumerate() {
            let host = Host { landlock_abi: abi as u32, ..able() };
            let expected: BTreeSet<_> = all[all.len() - lacking..].iter().copied().collect();
            assert_eq!(host.shortfalls(Wanted::default()), expected, "ABI {abi}");
        }
    }

    #[test]
    fn an_older_kernel_never_lacks_less() {
        for abi in 0..9 {
            let older = Host { landlock_abi: abi, ..able() }.shortfalls(Wanted::default());
            let newer = Host { landlock_abi: abi + 1, ..able() }.shortfalls(Wanted::default());
            assert!(older.is_superset(&newer), "ABI {abi} lacks {older:?}, ABI {} lacks {newer:?}", abi + 1);
        }
    }

    #[test]
    fn what_a_policy_does_without_is_no_shortfall() {
        let host = Host { landlock_abi: 2, ..able() };
        let without_files = Wanted { files: false, ..Wanted::default() };
        assert_eq!(host.shortfalls(without_files), [Shortfall::LandlockTcp, Shortfall::LandlockScope].into());
        let nothing = Wanted { files: false, tcp: false, scope: false, notify: false, ..Wanted::default() };
        let bare = Host { landlock_abi: 0, seccomp: Seccomp::default(), ..able() };
        assert_eq!(bare.shortfalls(nothing), [].into());
    }

    #[test]
    fn a_kernel_without_user_notification_falls_short_by_that_name() {
        let host = Host { seccomp: Seccomp { filter: true, notify: false }, ..able() };
        assert_eq!(host.shortfalls(Wanted::default()), [Shortfall::SeccompNotify].into());
        assert_eq!(host.refusals(), []);
    }

    #[test]
    fn a_host_that_lacks_what_no_policy_can_tolerate_is_refused_by_name() {
        assert_eq!(able().refusals(), []);
        let lacking = [
            (Host { euid: 1000, ..able() }, Refusal::NotRoot { euid: 1000 }),
            (Host { user_namespaces: false, ..able() }, Refusal::UserNamespaces),
            (Host { seccomp: Seccomp { filter: false, notify: true }, ..able() }, Refusal::SeccompFilter),
            (
                Host { missing_capabilities: ["CAP_SETUID".to_owned()].into(), ..able() },
                Refusal::Capability { capability: "CAP_SETUID".into() },
            ),
        ];
        for (host, refusal) in lacking {
            assert_eq!(host.refusals(), [refusal]);
        }
    }

    #[test]
    fn the_running_kernel_is_described_as_the_kernel_describes_itself() {
        let host = Host::probe();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs is mounted");
        assert_eq!(host.kernel, release.trim());
        let swaps = fs::read_to_string("/proc/swaps").expect("procfs is mounted");
        assert_eq!(host.swap, swaps.lines().count() > 1);
        let actions =
            fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").expect("seccomp is built in");
        assert_eq!(host.seccomp.notify, actions.split_whitespace().any(|action| action == "user_notif"));
        assert_eq!(host.seccomp.filter, actions.split_whitespace().any(|action| action == "kill_process"));
    }
}
