//! The Landlock domain: a second wall around files behind the mount view, and around TCP, signals and abstract sockets.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::step::{Fault, On};
use crate::plan::{CANARY, Landlock, Rights};

/// Restricts this process for good, and checks on a file that it took effect.
///
/// The crate's default is to enforce what it can and say nothing; here every right is required. An earlier sandbox of
/// another project reported success with an empty ruleset, hence the check.
pub fn restrict(plan: &Landlock) -> Result<(), Fault> {
    if plan.abi == 0 {
        return Ok(()); // a shortfall that the policy tolerates by name, or there would be no plan
    }
    let abi = ABI::from(i32::try_from(plan.abi).unwrap_or(i32::MAX));
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if plan.filesystem {
        ruleset = ruleset.handle_access(AccessFs::from_all(abi)).on_ruleset("filesystem rights")?;
    }
    let tcp = denied_tcp(plan);
    if !tcp.is_empty() && abi >= ABI::V4 {
        ruleset = ruleset.handle_access(tcp).on_ruleset("TCP rights")?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal).on_ruleset("scopes")?;
    } else if !(plan.filesystem || !tcp.is_empty() && abi >= ABI::V4) {
        return Ok(()); // nothing that this ABI knows is asked for
    }
    let mut created = ruleset.create().on_ruleset("ruleset")?;
    if plan.filesystem {
        for (path, rights) in &plan.rules {
            created = created.add_rule(rule(path, *rights, abi)?).on_ruleset(path.display())?;
        }
    }
    if plan.audit.is_ok() {
        // The agent is a new program; without this, only what init itself is refused would be recorded (ABI 7).
        created = created.log_new_exec(true).on_ruleset("log_new_exec")?;
    }
    let status = created.restrict_self().on_ruleset("restrict_self")?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(io::Error::other(format!("Landlock is {:?}", status.ruleset))).on("restrict_self");
    }
    if plan.filesystem { check_canary() } else { Ok(()) }
}

fn denied_tcp(plan: &Landlock) -> BitFlags<AccessNet> {
    let mut denied = BitFlags::empty();
    denied.set(AccessNet::BindTcp, plan.deny_bind);
    denied.set(AccessNet::ConnectTcp, plan.deny_connect);
    denied
}

fn rule(path: &Path, rights: Rights, abi: ABI) -> Result<PathBeneath<PathFd>, Fault> {
    let fd = PathFd::new(path).map_err(io::Error::other).on(path.display())?;
    let mode = rustix::fs::fstat(&fd).on(path.display())?.st_mode;
    let directory = rustix::fs::FileType::from_raw_mode(mode).is_dir();
    let granted = granted(rights, abi);
    Ok(PathBeneath::new(fd, if directory { granted } else { granted & AccessFs::from_file(abi) }))
}

fn granted(rights: Rights, abi: ABI) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(abi)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let wanted = match rights {
        Rights::List => AccessFs::ReadDir.into(),
        Rights::Read => read,
        Rights::Execute => read | AccessFs::Execute,
        Rights::Write => write,
        Rights::WriteExecute => write | AccessFs::Execute,
        Rights::Devices => read | AccessFs::WriteFile | AccessFs::IoctlDev,
        Rights::Existing => read | AccessFs::WriteFile,
    };
    wanted & AccessFs::from_all(abi)
}

fn check_canary() -> Result<(), Fault> {
    match std::fs::File::open(CANARY) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error).on(CANARY),
        Ok(_) => {
            Err(io::Error::other("opened although no rule grants it: Landlock is not in force")).on(CANARY)
        }
    }
}

trait OnRuleset<T> {
    fn on_ruleset(self, object: impl std::fmt::Display) -> Result<T, Fault>;
}

impl<T> OnRuleset<T> for Result<T, landlock::RulesetError> {
    fn on_ruleset(self, object: impl std::fmt::Display) -> Result<T, Fault> {
        self.map_err(io::Error::other).on(object)
    }
}
