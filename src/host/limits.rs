//! Which limits hold on this host: a group is really made, limited, entered, killed and removed.

use std::io;

use super::Host;
use super::attempt;
use super::examine::{Finding, with_causes};
use super::feature::Feature;
use crate::cgroup::{Cgroup, CgroupError, Layout};
use crate::id::AgentId;
use crate::policy::{Bytes, Io, Limits, Shortfall};

/// The features that are a limit, each of them known to policies as a shortfall.
const LIMITS: [Feature; 6] = [
    Feature::MemoryLimit,
    Feature::SwapLimit,
    Feature::CpuLimit,
    Feature::ProcessLimit,
    Feature::IoLimit,
    Feature::CgroupKill,
];

/// What a try of all limits showed.
struct Tried {
    /// What the hierarchies do not offer.
    lacking: Vec<Shortfall>,
    /// Whether the child was started inside its group, and why not.
    entered: Result<(), String>,
}

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    match attempt() {
        Ok(tried) => concluded(host, &tried),
        Err(error) => {
            // No limit is known to hold, whichever it was that failed.
            let detail = with_causes(&error);
            let entered =
                Finding::degraded(Feature::CloneIntoCgroup, "not tried, for no group could be made");
            LIMITS.into_iter().map(|limit| Finding::missing(limit, &detail)).chain([entered]).collect()
        }
    }
}

fn concluded(host: &Host, tried: &Tried) -> Vec<Finding> {
    let limit = |feature: Feature| match feature.shortfall() {
        Some(shortfall) if tried.lacking.contains(&shortfall) => Finding::missing(feature, absence(feature)),
        _ => Finding::ok(feature, presence(feature, host)),
    };
    let entered = match &tried.entered {
        Ok(()) => Finding::ok(Feature::CloneIntoCgroup, "works"),
        Err(reason) => Finding::degraded(Feature::CloneIntoCgroup, reason),
    };
    LIMITS.into_iter().map(limit).chain([entered]).collect()
}

fn absence(feature: Feature) -> &'static str {
    match feature {
        Feature::SwapLimit => "there is swap, and the kernel does not account for it",
        Feature::IoLimit => {
            "no io controller in a cgroup2 tree; v1 does not limit what the page cache writes back"
        }
        Feature::CgroupKill => "no cgroup2 tree, or a kernel before 5.14",
        _ => "no writable hierarchy has the controller",
    }
}

fn presence(feature: Feature, host: &Host) -> &'static str {
    match feature {
        Feature::SwapLimit if !host.swap => "this host has no swap",
        Feature::IoLimit => "the controller is there",
        Feature::CgroupKill => "a process was killed with its group",
        _ => "written and read back",
    }
}

fn attempt() -> Result<Tried, CgroupError> {
    let layout = Layout::detect()?;
    let id: AgentId = format!("doctor-{}", std::process::id()).parse().expect("a plain name");
    let megabyte = Bytes::mib(1);
    // I/O is limited per disk, and none of this host's is to be touched: the layout must say.
    let asked = Limits { io: Some(Io { read: megabyte, write: megabyte }), ..modest() };
    let lacking = layout.shortfalls(&asked).into_iter().collect();
    let group = Cgroup::create(&layout, &id, &modest(), &[])?;
    let tried = enter_and_kill(&group);
    group.remove()?;
    Ok(Tried { lacking, entered: tried? })
}

fn modest() -> Limits {
    let cpus = "1".parse().expect("a share");
    Limits { memory: Bytes::mib(64), cpus, processes: 16, ..Limits::default() }
}

fn enter_and_kill(group: &Cgroup) -> Result<Result<(), String>, CgroupError> {
    let mut failed = None;
    let ended = attempt::until_killed(group.directory(), |pid| {
        let killed = group.attach(pid).and_then(|()| group.kill());
        killed.map_err(|error| {
            failed = Some(error);
            io::ErrorKind::Other.into()
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(match (ended, group.directory()) {
        (Err(error), _) => Err(error.to_string()),
        (Ok(()), None) => Err("there is no writable cgroup2 tree".to_owned()),
        (Ok(()), Some(_)) => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Seccomp;
    use super::super::examine::Status;
    use super::*;

    fn host(swap: bool) -> Host {
        Host {
            kernel: "6.18.0".into(),
            landlock_abi: 7,
            audit: Ok(()),
            seccomp: Seccomp { filter: true, notify: true },
            user_namespaces: true,
            euid: 0,
            missing_capabilities: [].into(),
            missing_for_network: [].into(),
            missing_calls: Vec::new(),
            swap,
        }
    }

    #[test]
    fn each_limit_that_the_hierarchies_lack_is_missing_under_its_own_name() {
        for feature in LIMITS {
            let shortfall = feature.shortfall().expect("each limit is known to policies");
            let found = concluded(&host(true), &Tried { lacking: vec![shortfall], entered: Ok(()) });
            let missing: Vec<_> = found.iter().filter(|finding| finding.status != Status::Ok).collect();
            assert_eq!(missing.len(), 1, "{feature}: {missing:?}");
            assert_eq!((missing[0].feature, &missing[0].shortfalls), (feature, &[shortfall].into()));
        }
    }

    #[test]
    fn a_host_without_a_unified_tree_only_starts_its_agents_differently() {
        let tried = Tried { lacking: vec![], entered: Err("there is no writable cgroup2 tree".into()) };
        let found = concluded(&host(false), &tried);
        let other: Vec<_> = found.iter().filter(|finding| finding.status != Status::Ok).collect();
        assert_eq!(other.len(), 1);
        assert_eq!((other[0].feature, other[0].status), (Feature::CloneIntoCgroup, Status::Degraded));
        assert!(other[0].shortfalls.is_empty());
    }
}
