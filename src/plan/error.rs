//! Why there is no plan.

use std::path::PathBuf;

use crate::host::Refusal;
use crate::id::PolicyName;
use crate::policy::Shortfall;

/// Why there is no plan. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The host cannot build any sandbox.
    #[error("this host cannot run a sandbox: {}", join(.refusals, "; "))]
    Host {
        /// Each reason.
        refusals: Vec<Refusal>,
    },
    /// The host lacks protections that the policy insists on.
    #[error(
        "policy {policy} needs what this host cannot enforce: {}. `stockade doctor` says how to get it; a policy may \
         name it under [tolerate] shortfalls",
        join(.shortfalls, ", ")
    )]
    Shortfall {
        /// Whose.
        policy: PolicyName,
        /// Which.
        shortfalls: Vec<Shortfall>,
    },
    /// Neither the request nor the policy names a command.
    #[error("no command: policy {policy} names none, so give one after `--`")]
    NoCommand {
        /// Which policy.
        policy: PolicyName,
    },
    /// A path that must be shown does not exist.
    #[error(
        "{path} does not exist on this host, but the policy shows it: create it, or list it under filesystem.system"
    )]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// A writable directory that would give the host away.
    #[error("{} cannot be given to an agent: it is {reason}. Choose another directory", path.display())]
    Precious {
        /// Which.
        path: PathBuf,
        /// What is at stake.
        reason: &'static str,
    },
    /// The home is another way to what is read-only in the workspace.
    #[error(
        "the home {} is another way to {}, which the agent may not write: choose a home outside the workspace, or \
         another directory in it",
        home.display(), fenced.display()
    )]
    HomeBehindFence {
        /// `--home`.
        home: PathBuf,
        /// What it would unlock.
        fenced: PathBuf,
    },
    /// The policy gives no workspace.
    #[error(
        "policy {policy} gives no workspace: leave out --workspace, or choose a policy with filesystem.workspace"
    )]
    NoWorkspace {
        /// Which policy.
        policy: PolicyName,
    },
    /// The agent must execute from its home, and cannot.
    #[error(
        "the home {path} lies on a filesystem mounted noexec, but policy {policy} executes from home: remount it with \
         exec, or choose another directory"
    )]
    HomeNoexec {
        /// Which.
        path: PathBuf,
        /// Which policy.
        policy: PolicyName,
    },
    /// A protected path goes through a symbolic link.
    #[error(
        "{path} is protected by the policy, but it is a symbolic link, which an agent could replace: put a real file or \
         directory there, or remove the link"
    )]
    ProtectedSymlink {
        /// Which.
        path: PathBuf,
    },
    /// More ports than a gateway can be given.
    #[error("{ports} different ports are named: the sandbox can listen on {most}")]
    TooManyPorts {
        /// How many.
        ports: usize,
        /// How many there may be.
        most: usize,
    },
    /// A published port of the gateway's.
    #[error(
        "port {port} cannot be published: inside, the gateway listens on it at every address, for DNS or for an entry about a \
         suffix or a range; have the server listen on another port"
    )]
    TakenInside {
        /// Inside.
        port: u16,
    },
    /// The system-call rules cannot be compiled.
    #[error(transparent)]
    Filter(#[from] super::seccomp::FilterError),
}

impl PlanError {
    /// Whether the policy or the host said no, as opposed to a request that makes no sense.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Host { .. }
            | Self::Shortfall { .. }
            | Self::Precious { .. }
            | Self::HomeBehindFence { .. }
            | Self::NoWorkspace { .. }
            | Self::HomeNoexec { .. }
            | Self::ProtectedSymlink { .. } => true,
            Self::NoCommand { .. }
            | Self::Missing { .. }
            | Self::TooManyPorts { .. }
            | Self::TakenInside { .. }
            | Self::Filter(_) => false,
        }
    }
}

fn join<T: ToString>(items: &[T], separator: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}
