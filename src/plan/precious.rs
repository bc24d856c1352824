//! What no agent is given to write to, since whoever can change it has the host, or its owner's keys.

use std::path::Path;

use super::PlanError;
use crate::policy::path::exposes;

/// Not themselves; what lies below may be somebody's project.
const ITSELF: [&str; 8] = ["/dev/shm", "/home", "/opt", "/root", "/tmp", "/var/lib", "/var/log", "/var/tmp"];

/// Not themselves, and nothing below: programs, units, timers and settings that root runs or believes.
const WHOLLY: [&str; 14] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/spool",
];

/// Below these nevertheless: memory-backed scratch space, and where container images keep an application's source.
const EXCEPT: [&str; 3] = ["/dev/shm", "/usr/src", "/usr/local/src"];

/// Where an installed node keeps what belongs to agents: `<tenant>/<name>` below these is one agent's home or workspace. Which of them an
/// order may have is decided where it is admitted; it can only name its own tenant's, and never by a path.
const AGENTS_OWN: [&str; 2] = ["/var/lib/stockade/homes", "/var/lib/stockade/workspaces"];

/// Whether `path` is, or contains, a directory of the system: not even a policy gives it away.
pub fn is_system(path: &Path) -> bool {
    ITSELF.iter().chain(&WHOLLY).any(|known| Path::new(known).starts_with(path)) || exposes(path).is_some()
}

/// Why `path` cannot be what a request names as workspace or home, if it cannot. `caller` is the caller's home.
pub fn reason(path: &Path, caller: &Path) -> Option<&'static str> {
    let excepted = EXCEPT.iter().any(|outer| path.starts_with(outer) && path != Path::new(outer));
    let is_agents_own = AGENTS_OWN.iter().any(|outer| {
        path.strip_prefix(outer).is_ok_and(|rest| rest.iter().count() >= 2 && !rest.starts_with(".removed"))
    });
    if is_agents_own {
        return None;
    }
    let below = WHOLLY.iter().any(|outer| path.starts_with(outer)) && !excepted;
    if is_system(path) && !excepted || below {
        return Some("a directory of the system");
    }
    caller.starts_with(path).then_some("the caller's own home, with its keys and what its shells run")
}

/// Refuses what a request names.
pub fn refuse(path: &Path, caller: &Path) -> Result<(), PlanError> {
    reason(path, caller).map_or(Ok(()), |reason| Err(PlanError::Precious { path: path.into(), reason }))
}

/// Refuses what a policy names.
pub fn refuse_system(path: &Path) -> Result<(), PlanError> {
    match is_system(path) {
        true => Err(PlanError::Precious { path: path.into(), reason: "a directory of the system" }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_holds_or_is_the_system_or_the_callers_home_is_never_writable() {
        for path in [
            "/",
            "/etc",
            "/etc/cron.d",
            "/usr",
            "/usr/local/bin",
            "/usr/src",
            "/var",
            "/var/spool/cron",
            "/run/stockade",
            "/run/systemd/system",
            "/var/lib/stockade/agents",
            "/var/lib/stockade/agents/one/terminal",
            "/var/lib/stockade/daemon/x",
            "/var/lib/stockade/homes",
            "/var/lib/stockade/homes/tenant",
            "/var/lib/stockade/workspaces/.removed/x",
            "/tmp",
            "/dev/shm",
            "/root",
            "/home",
            "/home/ann",
            "/boot/efi",
            "/lib64",
            "/proc/1",
        ] {
            assert!(reason(Path::new(path), Path::new("/home/ann")).is_some(), "{path}");
        }
        for path in [
            "/home/ann/project",
            "/home/bob",
            "/root/project",
            "/tmp/project",
            "/srv",
            "/opt/app",
            "/usr/src/app",
            "/dev/shm/scratch",
            "/var/www",
            "/var/lib/jenkins",
            "/var/lib/stockade/homes/tenant/name",
            "/var/lib/stockade/workspaces/tenant/name",
            "/library",
            "/mnt",
        ] {
            assert_eq!(reason(Path::new(path), Path::new("/home/ann")), None, "{path}");
        }
    }
}
