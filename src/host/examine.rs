//! The thorough look at a host: each thing is really tried, in throw-away children, and nothing stays behind.
//!
//! It must run in a single-threaded process (see [`super::attempt`]).

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{AccessFs, BitFlags, CompatLevel, Compatible, Erratum, Ruleset, RulesetAttr};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsmount, fsopen, move_mount, open_tree,
};
use serde::Serialize;

use super::feature::Feature;
use super::{Host, Wanted, attempt, limits, surroundings};
use crate::policy::Shortfall;
use crate::sys::mount::Attributes;
use crate::sys::{kernel, mount};

/// How much of a feature a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All of it.
    Ok,
    /// Less than all of it; what is lost can be lived without.
    Degraded,
    /// None of it, or not enough.
    Missing,
}

/// What was found out about one feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub feature: Feature,
    /// How much of it there is.
    pub status: Status,
    /// What was seen, for people.
    pub detail: String,
    /// By what names a policy may tolerate what is lacking.
    pub shortfalls: BTreeSet<Shortfall>,
}

impl Finding {
    /// All of it is there.
    pub fn ok(feature: Feature, detail: impl Into<String>) -> Self {
        Self { feature, status: Status::Ok, detail: detail.into(), shortfalls: BTreeSet::new() }
    }

    /// Something is lost that no policy needs to tolerate.
    pub fn degraded(feature: Feature, detail: impl Into<String>) -> Self {
        Self { status: Status::Degraded, ..Self::ok(feature, detail) }
    }

    /// It is not there: the feature's own shortfall, if it has one.
    pub fn missing(feature: Feature, detail: impl Into<String>) -> Self {
        Self {
            status: Status::Missing,
            shortfalls: feature.shortfall().into_iter().collect(),
            ..Self::ok(feature, detail)
        }
    }

    fn of(feature: Feature, tried: io::Result<()>) -> Self {
        match tried {
            Ok(()) => Self::ok(feature, "works"),
            Err(error) => Self::missing(feature, error.to_string()),
        }
    }
}

/// Tries everything; one finding for each of [`Feature::ALL`], in that order.
///
/// `homes` are the directories that workspaces and homes would lie in.
pub fn examine(host: &Host, homes: &[PathBuf]) -> Vec<Finding> {
    let mut findings = Vec::from(standing(host));
    findings.extend(namespaces());
    findings.extend(mounts(homes));
    findings.extend(calls());
    findings.extend(landlock(host));
    findings.extend(seccomp(host));
    findings.extend(limits::findings(host));
    findings.extend(surroundings::findings(homes));
    findings.sort_by_key(|finding| finding.feature);
    findings
}

/// An error in one line, with everything that led to it.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Who we are.
fn standing(host: &Host) -> [Finding; 2] {
    let root = match host.euid {
        0 => Finding::ok(Feature::Root, "running as root"),
        euid => Finding::missing(Feature::Root, format!("running as uid {euid}")),
    };
    let names = |missing: &BTreeSet<String>| missing.iter().cloned().collect::<Vec<_>>().join(" ");
    let lacking = (names(&host.missing_capabilities), names(&host.missing_for_network));
    let capabilities = match (lacking.0.as_str(), lacking.1.as_str()) {
        ("", "") => Finding::ok(Feature::Capabilities, "all that are needed"),
        ("", network) => Finding::degraded(
            Feature::Capabilities,
            format!("lacking {network}: only agents without a network can be started"),
        ),
        (missing, _) => Finding::missing(Feature::Capabilities, format!("lacking {missing}")),
    };
    [root, capabilities]
}

/// Each kind, beside a user namespace as in every sandbox.
fn namespaces() -> impl Iterator<Item = Finding> {
    let kinds = [
        (Feature::UserNamespace, 0),
        (Feature::MountNamespace, libc::CLONE_NEWNS),
        (Feature::PidNamespace, libc::CLONE_NEWPID),
        (Feature::NetworkNamespace, libc::CLONE_NEWNET),
        (Feature::IpcNamespace, libc::CLONE_NEWIPC),
        (Feature::UtsNamespace, libc::CLONE_NEWUTS),
        (Feature::CgroupNamespace, libc::CLONE_NEWCGROUP),
    ];
    let needed =
        kinds.into_iter().map(|(feature, flag)| Finding::of(feature, attempt::in_sandbox(flag, || Ok(()))));
    let time = match attempt::in_sandbox(libc::CLONE_NEWTIME, || Ok(())) {
        Ok(()) => Finding::ok(Feature::TimeNamespace, "works"),
        Err(error) => Finding::degraded(Feature::TimeNamespace, error.to_string()),
    };
    needed.chain([time])
}

fn mounts(homes: &[PathBuf]) -> [Finding; 4] {
    let fresh = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    [
        Finding::of(Feature::MountApi, attempt::in_sandbox(libc::CLONE_NEWNS, build_a_root)),
        idmapped_mount(homes),
        Finding::of(Feature::Procfs, attempt::in_sandbox(fresh, || new_filesystem("proc", None).map(drop))),
        Finding::of(
            Feature::Devpts,
            attempt::in_sandbox(fresh, || new_filesystem("devpts", Some("newinstance")).map(drop)),
        ),
    ]
}

/// What the jail does to build a root: a new tmpfs, read-only, put in place.
fn build_a_root() -> io::Result<()> {
    let root = new_filesystem("tmpfs", None)?;
    mount::set_attributes(root.as_fd(), Attributes { read_only: true, ..Attributes::default() })?;
    move_mount(root.as_fd(), "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// A detached mount; the kernel dissolves it with the descriptor.
fn new_filesystem(kind: &str, option: Option<&str>) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(option) = option {
        fsconfig_set_flag(context.as_fd(), option)?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NOSUID)?)
}

/// Filesystems differ: it may work where the workspaces are and not elsewhere.
fn idmapped_mount(homes: &[PathBuf]) -> Finding {
    let namespace = match attempt::user_namespace() {
        Ok(namespace) => namespace,
        Err(error) => return Finding::missing(Feature::IdmappedMount, error.to_string()),
    };
    let tried: Vec<_> = homes.iter().map(|home| (home, idmap(home, &namespace))).collect();
    let refused: Vec<String> = tried
        .iter()
        .filter_map(|(home, tried)| Some(format!("{}: {}", home.display(), tried.as_ref().err()?)))
        .collect();
    match refused.len() {
        0 => {
            let names: Vec<String> = homes.iter().map(|home| home.display().to_string()).collect();
            Finding::ok(Feature::IdmappedMount, format!("works on {}", names.join(", ")))
        }
        some if some < homes.len() => Finding::degraded(Feature::IdmappedMount, refused.join("; ")),
        _ => Finding::missing(Feature::IdmappedMount, refused.join("; ")),
    }
}

fn idmap(path: &Path, namespace: &OwnedFd) -> io::Result<()> {
    let tree = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    mount::set_attributes(
        tree.as_fd(),
        Attributes { idmap: Some(namespace.as_fd()), ..Attributes::default() },
    )
}

fn calls() -> [Finding; 3] {
    let directory = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let openat2 = rustix::fs::openat2(CWD, "/", directory, Mode::empty(), resolve);
    [
        Finding::of(Feature::Openat2, openat2.map(drop).map_err(io::Error::from)),
        // The child is made with CLONE_PIDFD and waited for by it.
        Finding::of(Feature::Pidfd, attempt::in_child(0, None, || Ok(()))),
        Finding::of(Feature::CloseRange, kernel::has_close_range()),
    ]
}

fn landlock(host: &Host) -> [Finding; 3] {
    let held = attempt::in_child(0, None, landlock_holds);
    [landlock_itself(host, held), landlock_errata(host), landlock_audit(host)]
}

fn landlock_audit(host: &Host) -> Finding {
    let heard = host.audit.clone().and_then(|()| super::audit_is_on()).and_then(|()| {
        crate::sys::audit::listen().map_err(|error| format!("audit is on, but cannot be read: {error}"))
    });
    match heard {
        Ok(_) => Finding::ok(Feature::LandlockAudit, "audit is on and can be read"),
        Err(why) => Finding::degraded(Feature::LandlockAudit, why),
    }
}

fn landlock_itself(host: &Host, held: io::Result<()>) -> Finding {
    let abi = host.landlock_abi;
    let everything = Wanted { notify: false, ..Wanted::default() };
    let mut shortfalls = host.shortfalls(everything);
    let detail = match (abi, held) {
        (0, _) => "not built in, or not among the active security modules".to_owned(),
        (_, Err(error)) => {
            // A kernel that says yes and does nothing has no Landlock, whatever ABI it claims.
            shortfalls = Host { landlock_abi: 0, ..host.clone() }.shortfalls(everything);
            format!("ABI {abi}, but a forbidden file could be opened: {error}")
        }
        _ if shortfalls.is_empty() => format!("ABI {abi}, and a forbidden file cannot be opened"),
        _ => {
            let lacking: Vec<&str> = shortfalls.iter().map(|shortfall| shortfall.name()).collect();
            format!("ABI {abi}, lacking {}", lacking.join(", "))
        }
    };
    match shortfalls.is_empty() {
        true => Finding::ok(Feature::Landlock, detail),
        false => Finding { shortfalls, ..Finding::missing(Feature::Landlock, detail) },
    }
}

/// Restricts itself and then tries what is now forbidden.
fn landlock_holds() -> io::Result<()> {
    let forbidden = "/proc/self/status";
    std::fs::read(forbidden)?;
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::ReadFile)
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.restrict_self());
    restricted.map_err(io::Error::other)?;
    match std::fs::read(forbidden) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::ENOTSUP)),
    }
}

/// An erratum matters from the ABI on that it is about.
fn landlock_errata(host: &Host) -> Finding {
    let known = [
        (Erratum::TcpSocketIdentification, 4, "TCP rules also hit other stream sockets"),
        (Erratum::ScopedSignalHandling, 6, "threads of one process may not signal each other"),
        (Erratum::DisconnectedDirectoryHandling, 1, "renames below a moved directory may gain rights"),
    ];
    let fixed: BitFlags<Erratum> = Erratum::current();
    let open: Vec<&str> = known
        .into_iter()
        .filter(|(erratum, since, _)| host.landlock_abi >= *since && !fixed.contains(*erratum))
        .map(|(_, _, what)| what)
        .collect();
    match (host.landlock_abi, open.is_empty()) {
        (0, _) => Finding::degraded(Feature::LandlockErrata, "there is no Landlock to have any"),
        (_, true) => Finding::ok(Feature::LandlockErrata, "every known one is fixed"),
        (_, false) => {
            Finding::degraded(Feature::LandlockErrata, format!("not reported as fixed: {}", open.join("; ")))
        }
    }
}

fn seccomp(host: &Host) -> [Finding; 2] {
    let found = |feature, there| match there {
        true => Finding::ok(feature, "works"),
        false => Finding::missing(feature, "not built in"),
    };
    [found(Feature::SeccompFilter, host.seccomp.filter), found(Feature::SeccompNotify, host.seccomp.notify)]
}
