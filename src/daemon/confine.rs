//! The daemon reads what hostile networks send: it starts without rights, and makes sure that it can get none.

use std::io;

use caps::CapSet;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// It was started with rights.
    #[error(
        "stockaded reads the network, and does not run with privileges ({0}): start it as a user of its own, as \
         stockaded.service does (User=stockade), or by `stockade dev`"
    )]
    Privileged(String),
    /// A step failed.
    #[error("cannot confine itself ({step})")]
    Step {
        /// The step.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Gives up what is left to give up, for good.
///
/// # Errors
/// When it has rights, or cannot.
pub fn confine() -> Result<(), ConfineError> {
    check_privileges()?;
    rustix::thread::set_no_new_privs(true).at("no_new_privs")?;
    // Its memory has keys in it: no core dump, and no other process of its user reads it.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).at("core")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at("dumpable")?;
    // One descriptor per connection, and two per agent.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }).at("files")
}

fn check_privileges() -> Result<(), ConfineError> {
    if rustix::process::geteuid().is_root() || rustix::process::getuid().is_root() {
        return Err(ConfineError::Privileged("uid 0".into()));
    }
    // The ambient set lies within these.
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable] {
        let held = caps::read(None, set)
            .map_err(|error| ConfineError::Step { step: "capabilities", source: io::Error::other(error) })?;
        if let Some(capability) = held.iter().next() {
            return Err(ConfineError::Privileged(capability.to_string()));
        }
    }
    Ok(())
}

trait At<T> {
    fn at(self, step: &'static str) -> Result<T, ConfineError>;
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, step: &'static str) -> Result<T, ConfineError> {
        self.map_err(|errno| ConfineError::Step { step, source: errno.into() })
    }
}
