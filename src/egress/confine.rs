//! The gateway gives up everything that carrying bytes does not need, before it reads the first one.
//!
//! The order is the design: each step needs a right that a later one gives up.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use caps::CapSet;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::filter;
use super::upstream::{HOSTS, RESOLV_CONF};
use crate::sys;
use crate::wire::egress::{FILES_OF_A_CONNECTION, FILES_OF_A_GATEWAY};

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// It was started with rights.
    #[error("it was started with privileges ({0}): it needs a uid of its own and no capability")]
    Privileged(String),
    /// A step failed.
    #[error("cannot confine itself ({step}): {source}")]
    Step {
        /// The step.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A kernel without Landlock.
    #[error("the kernel has no Landlock, and the policy does not tolerate that")]
    NoLandlock,
    /// Landlock says yes and does nothing.
    #[error("Landlock is not in force: a directory that no rule grants could still be opened")]
    NotInForce,
}

/// What the gateway still needs afterwards.
#[derive(Debug)]
pub struct Needs {
    /// The first descriptor that is not its own.
    pub descriptors: i32,
    /// TCP ports outside that it connects to.
    pub ports: BTreeSet<u16>,
    /// Whether it runs without Landlock, if it must.
    pub tolerate_no_landlock: bool,
}

/// Confines this process for good.
pub fn confine(needs: &Needs) -> Result<(), ConfineError> {
    check_privileges()?;
    sys::fd::close_from(needs.descriptors).at("descriptors")?;
    limits().at("limits")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("dumpable")?;
    rustix::thread::set_no_new_privs(true).at("no_new_privs")?;
    landlock(needs)?;
    // Last: the filter forbids most of the calls made above.
    sys::seccomp::install(&filter::program(), false).at("seccomp").map(drop)
}

fn check_privileges() -> Result<(), ConfineError> {
    let uid = rustix::process::geteuid();
    if uid.is_root() || rustix::process::getuid().is_root() {
        return Err(ConfineError::Privileged("uid 0".into()));
    }
    // The ambient set lies within these.
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable] {
        let held = caps::read(None, set).map_err(io::Error::other).at("capabilities")?;
        if let Some(capability) = held.iter().next() {
            return Err(ConfineError::Privileged(capability.to_string()));
        }
    }
    Ok(())
}

/// How many connections there are descriptors for: one too many is then refused in words, instead of left to wait.
pub fn room_for_connections() -> u32 {
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    u32::try_from(files.saturating_sub(FILES_OF_A_GATEWAY) / FILES_OF_A_CONNECTION).unwrap_or(u32::MAX)
}

fn limits() -> io::Result<()> {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum })?;
    // Its memory has secrets in it.
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

fn landlock(needs: &Needs) -> Result<(), ConfineError> {
    let status = restrict(needs).map_err(io::Error::other).at("Landlock")?;
    if status == RulesetStatus::NotEnforced {
        return if needs.tolerate_no_landlock { Ok(()) } else { Err(ConfineError::NoLandlock) };
    }
    match std::fs::read_dir("/") {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Ok(_) | Err(_) => Err(ConfineError::NotInForce),
    }
}

/// Whatever this kernel's Landlock can do: without it, seccomp and a uid that owns nothing are still there.
fn restrict(needs: &Needs) -> Result<RulesetStatus, landlock::RulesetError> {
    let abi = ABI::V6;
    let mut created = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    for file in [RESOLV_CONF, HOSTS] {
        if let Some(rule) = readable(Path::new(file)) {
            created = created.add_rule(rule)?;
        }
    }
    for port in &needs.ports {
        created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(created.restrict_self()?.ruleset)
}

/// The file itself; where it leads below /run, the directory: who keeps it there (systemd-resolved, NetworkManager)
/// replaces it by a new one instead of writing to it.
fn readable(file: &Path) -> Option<PathBeneath<PathFd>> {
    let real = file.canonicalize().ok()?;
    let directory =
        real.parent().filter(|directory| directory.starts_with("/run") && *directory != Path::new("/run"));
    match directory {
        Some(directory) => {
            let rights = AccessFs::ReadFile | AccessFs::ReadDir;
            Some(PathBeneath::new(PathFd::new(directory).ok()?, rights))
        }
        None => Some(PathBeneath::new(PathFd::new(real).ok()?, AccessFs::ReadFile)),
    }
}

trait At<T> {
    fn at(self, step: &'static str) -> Result<T, ConfineError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &'static str) -> Result<T, ConfineError> {
        self.map_err(|error| ConfineError::Step { step, source: error.into() })
    }
}
