//! What is really enforced, read back from the kernel while pid 1 of the sandbox stands confined and waits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};

use serde::Serialize;

use super::{Ground, inherited};
use crate::cgroup::{Cgroup, EnforcedLimit};
use crate::id::{AgentId, PolicyName};
use crate::ordered;
use crate::plan::Plan;
use crate::policy::Shortfall;

/// Each by its name, as the inode number that stands for it.
pub type Namespaces = BTreeMap<&'static str, u64>;

/// The namespaces that every sandbox has to itself (namespaces(7)).
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
/// The ones that it is born in, and the one that it makes itself, once it is in its cgroups.
const BORN_IN: &[&str] = NAMESPACES.split_at(1).1;
const ENTERED: &str = NAMESPACES[0];
const CAPABILITY_SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// The evidence. Everything but `plan`'s own words comes from the kernel.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attestation {
    /// The agent.
    pub agent: AgentId,
    /// Its policy.
    pub policy: PolicyName,
    /// SHA-256 over the effective policy.
    pub policy_hash: String,
    /// Where the request widened the policy.
    pub widened: Vec<String>,
    /// `uname -r`.
    pub kernel: String,
    /// Inode of each namespace, none of which is the host's.
    pub namespaces: BTreeMap<&'static str, u64>,
    /// /proc/PID/uid_map: inside, outside, how many.
    pub uid_map: [u32; 3],
    /// /proc/PID/gid_map.
    pub gid_map: [u32; 3],
    /// The agent's uid and gid on the host.
    pub host_uid: u32,
    /// All five sets, as in /proc/PID/status.
    pub capabilities: BTreeMap<&'static str, String>,
    /// NoNewPrivs of /proc/PID/status.
    pub no_new_privs: bool,
    /// The system-call filter.
    pub seccomp: Filter,
    /// The Landlock domain.
    pub landlock: Domain,
    /// The sandbox's root filesystem cannot be changed (statvfs(3) of /proc/PID/root).
    pub read_only_root: bool,
    /// Soft and hard limits, as in /proc/PID/limits.
    pub rlimits: BTreeMap<String, [String; 2]>,
    /// Every mount in the sandbox, as in /proc/PID/mountinfo.
    pub mounts: Vec<MountPoint>,
    /// What the cgroup's control files say.
    pub limits: Vec<EnforcedLimit>,
    /// What the host cannot enforce, tolerated by the policy.
    pub shortfalls: BTreeSet<Shortfall>,
}

/// The system-call filter.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Seccomp of /proc/PID/status: 2 is filter mode.
    pub mode: u32,
    /// Seccomp_filters of /proc/PID/status.
    pub filters: u32,
    /// SHA-256 over ours.
    pub hash: String,
    /// Whether refused calls are reported.
    pub notify: bool,
}

/// The Landlock domain; the kernel shows none of it, so this is what the self-check inside found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// The ABI whose rights are all governed; 0: none.
    pub abi: u32,
    /// Files are governed, and a forbidden file was refused.
    pub files: bool,
    /// TCP is refused altogether.
    pub tcp_refused: bool,
    /// Signals and abstract sockets stay inside.
    pub scoped: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPoint {
    /// Inside.
    pub target: String,
    /// `ext4`, `tmpfs`, …
    pub filesystem: String,
    /// Of the mount itself: `ro,nosuid,nodev`, `idmapped`.
    pub options: String,
}

/// More than what the kernel says of a process usually takes, in bytes.
const USUAL: usize = 8192;

/// Why what was built is not what was planned.
#[derive(Debug, thiserror::Error)]
pub enum AttestationError {
    /// The kernel's word could not be had.
    #[error("cannot read back {what} of the sandbox")]
    Unreadable {
        /// Which file of /proc.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The kernel says otherwise.
    #[error("{what} is {found} instead of {wanted}: the sandbox was not started")]
    Differs {
        /// What.
        what: String,
        /// The kernel's word.
        found: String,
        /// The plan's.
        wanted: String,
    },
}

/// What the child is born with. Its ids cannot be changed: they are given once (user_namespaces(7)).
pub struct Birth {
    namespaces: Namespaces,
    uid_map: [u32; 3],
    gid_map: [u32; 3],
}

impl Birth {
    /// Reads it back, while the process is still at work on the rest.
    pub fn read(pid: u32) -> Result<Self, AttestationError> {
        Ok(Self {
            namespaces: some_namespaces(pid, BORN_IN)?,
            uid_map: id_map(pid, "uid_map")?,
            gid_map: id_map(pid, "gid_map")?,
        })
    }
}

impl Attestation {
    /// Reads back what pid 1 of the sandbox is, and refuses it if a wall is missing: `own` are the namespaces of the host.
    /// Mounts, resource limits and the hashes of policy and filter are only for a report, and empty without one.
    pub fn read(
        pid: u32,
        agent: &AgentId,
        ground: &Ground<'_>,
        (own, mut birth): (&Namespaces, Birth),
        first_uid: u32,
        cgroup: &Cgroup,
        limits: Vec<EnforcedLimit>,
    ) -> Result<Self, AttestationError> {
        let Ground { plan, host, detailed, .. } = *ground;
        let status = Status::read(pid)?;
        birth.namespaces.insert(ENTERED, namespace(pid, ENTERED)?);
        let attestation = Self {
            agent: agent.clone(),
            policy: plan.policy.clone(),
            policy_hash: detailed.unwrap_or_default().to_owned(),
            widened: plan.widened.clone(),
            kernel: host.kernel.clone(),
            namespaces: birth.namespaces,
            uid_map: birth.uid_map,
            gid_map: birth.gid_map,
            host_uid: first_uid + plan.user.uid,
            capabilities: status.capabilities()?,
            no_new_privs: status.number("NoNewPrivs")? == 1,
            seccomp: Filter {
                mode: status.number("Seccomp")?,
                filters: status.number("Seccomp_filters").unwrap_or(1),
                hash: detailed.map(|_| plan.seccomp.hash()).unwrap_or_default(),
                notify: plan.seccomp.notify,
            },
            landlock: Domain {
                abi: plan.landlock.abi,
                files: plan.landlock.filesystem,
                tcp_refused: plan.landlock.deny_bind && plan.landlock.deny_connect && plan.landlock.abi >= 4,
                scoped: plan.landlock.abi >= 6,
            },
            read_only_root: read_only_root(pid)?,
            rlimits: if detailed.is_some() { rlimits(pid)? } else { BTreeMap::new() },
            mounts: if detailed.is_some() { mounts(pid)? } else { Vec::new() },
            limits,
            shortfalls: plan.shortfalls.clone(),
        };
        attestation.verify(&status, plan, own, first_uid)?;
        let (filters, inherited) = (attestation.seccomp.filters, inherited::filters());
        differs("the number of system-call filters".into(), filters > inherited, filters, inherited + 1)?;
        let membership = read(pid, "cgroup")?;
        let missed = cgroup.missed(&membership).map(|group| group.display().to_string());
        differs("its place".into(), missed.is_none(), "outside a group", missed.unwrap_or_default())?;
        Ok(attestation)
    }

    fn verify(
        &self,
        status: &Status,
        plan: &Plan,
        own: &Namespaces,
        first_uid: u32,
    ) -> Result<(), AttestationError> {
        for (name, inode) in &self.namespaces {
            differs(format!("namespace {name}"), own[name] != *inode, "the host's", "its own")?;
        }
        let map = [0, first_uid, super::ids::SIZE];
        differs("uid_map".into(), self.uid_map == map, format!("{:?}", self.uid_map), format!("{map:?}"))?;
        differs("gid_map".into(), self.gid_map == map, format!("{:?}", self.gid_map), format!("{map:?}"))?;
        // Init: uid 0 of the sandbox, which can only become the agent's; gid the agent's.
        let agent = first_uid + plan.user.uid;
        for (name, wanted) in [("Uid", [first_uid, first_uid, agent, first_uid]), ("Gid", [agent; 4])] {
            let found = status.field(name)?;
            let ids = found.split_whitespace().map(str::parse::<u32>);
            let as_wanted = ids.eq(wanted.map(Ok));
            differs(name.into(), as_wanted, found, format!("{wanted:?}"))?;
        }
        for (set, value) in &self.capabilities {
            differs((*set).into(), value.bytes().all(|c| c == b'0'), value, "empty")?;
        }
        differs("no_new_privs".into(), self.no_new_privs, "off", "on")?;
        differs("seccomp".into(), self.seccomp.mode == 2, self.seccomp.mode, "2 (filter)")?;
        differs("the root filesystem".into(), self.read_only_root, "writable", "read-only")
    }
}

fn differs(
    what: String,
    as_wanted: bool,
    found: impl ToString,
    wanted: impl ToString,
) -> Result<(), AttestationError> {
    if as_wanted {
        return Ok(());
    }
    Err(AttestationError::Differs { what, found: found.to_string(), wanted: wanted.to_string() })
}

struct Status(String);

impl Status {
    fn read(pid: u32) -> Result<Self, AttestationError> {
        read(pid, "status").map(Self)
    }

    fn field(&self, name: &str) -> Result<&str, AttestationError> {
        let lines = &mut self.0.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::trim).ok_or_else(|| missing(name))
    }

    fn number(&self, name: &str) -> Result<u32, AttestationError> {
        self.field(name)?.parse().map_err(|_| missing(name))
    }

    fn capabilities(&self) -> Result<BTreeMap<&'static str, String>, AttestationError> {
        ordered::try_map(CAPABILITY_SETS.iter().map(|set| Ok((*set, self.field(set)?.to_owned()))))
    }
}

fn read(pid: u32, file: &str) -> Result<String, AttestationError> {
    let path = format!("/proc/{pid}/{file}");
    // Room for all of it: the kernel says no length, and would be asked for a few bytes at a time.
    let mut bytes = Vec::with_capacity(USUAL);
    fs::File::open(&path)
        .and_then(|file| file.take(u64::MAX).read_to_end(&mut bytes))
        .map_err(|source| AttestationError::Unreadable { what: path, source })?;
    // A directory's name, in mountinfo, may be no UTF-8.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn missing(what: &str) -> AttestationError {
    AttestationError::Unreadable { what: what.into(), source: io::ErrorKind::InvalidData.into() }
}

/// Which namespaces a process is in.
pub fn namespaces(pid: u32) -> Result<Namespaces, AttestationError> {
    some_namespaces(pid, &NAMESPACES)
}

fn some_namespaces(pid: u32, names: &[&'static str]) -> Result<Namespaces, AttestationError> {
    ordered::try_map(names.iter().map(|name| Ok((*name, namespace(pid, name)?))))
}

fn namespace(pid: u32, name: &str) -> Result<u64, AttestationError> {
    let path = format!("/proc/{pid}/ns/{name}");
    let link =
        fs::read_link(&path).map_err(|source| AttestationError::Unreadable { what: path.clone(), source })?;
    let text = link.to_string_lossy();
    let number = text.split(['[', ']']).nth(1).and_then(|n| n.parse().ok());
    number.ok_or_else(|| missing(&path))
}

fn id_map(pid: u32, file: &str) -> Result<[u32; 3], AttestationError> {
    let text = read(pid, file)?;
    let numbers: Vec<u32> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    numbers.try_into().map_err(|_| missing(file))
}

fn read_only_root(pid: u32) -> Result<bool, AttestationError> {
    let path = format!("/proc/{pid}/root");
    let root = rustix::fs::statvfs(&path)
        .map_err(|errno| AttestationError::Unreadable { what: path, source: errno.into() })?;
    Ok(root.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn rlimits(pid: u32) -> Result<BTreeMap<String, [String; 2]>, AttestationError> {
    // "Max open files            4096                 4096                 files"
    let text = read(pid, "limits")?;
    let row = |line: &str| {
        let (name, rest) = line.split_at_checked(26)?;
        let mut values = rest.split_whitespace().map(str::to_owned);
        Some((name.trim().to_owned(), [values.next()?, values.next()?]))
    };
    Ok(ordered::map(text.lines().skip(1).filter_map(row)))
}

fn mounts(pid: u32) -> Result<Vec<MountPoint>, AttestationError> {
    let text = read(pid, "mountinfo")?;
    let row = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        Some(MountPoint {
            target: fields.next()?.to_owned(),
            options: fields.next()?.to_owned(),
            filesystem: filesystem.split(' ').next()?.to_owned(),
        })
    };
    Ok(text.lines().filter_map(row).collect())
}
