//! Why a sandbox did not come to be, or could not be attended to.

use std::io;

use super::attestation::AttestationError;
use super::egress::GatewayError;
use super::placeholders::PlaceholderError;
use super::sources::SourceError;
use super::streams::StreamError;
use crate::cgroup::CgroupError;
use crate::jail::step::{Step, exec_cause};

/// What went wrong, with the object and the cause.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// No range of host uids.
    #[error("cannot reserve host uids for the sandbox in /run/stockade-uid-ranges: {0}")]
    Ids(#[source] io::Error),
    /// The second process could not be started.
    #[error("cannot start the process that cleans up after a crash: {0}")]
    Keeper(#[source] io::Error),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A placeholder.
    #[error(transparent)]
    Placeholder(#[from] PlaceholderError),
    /// A host path.
    #[error("{} {} for the sandbox failed: {}{}", .0.doing, .0.path, .0.source, remedy(.0))]
    Source(SourceError),
    /// The agent's /dev.
    #[error("cannot make the sandbox's devices: {0} (CAP_MKNOD is needed)")]
    Devices(#[source] io::Error),
    /// A stream of the caller.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The policy gives no terminal.
    #[error("the policy allows no terminal, but {stream} is one: redirect it to a file, a pipe or /dev/null")]
    NoTerminal {
        /// Which.
        stream: &'static str,
    },
    /// The new process.
    #[error("cannot create the sandbox's namespaces: {0}")]
    Clone(#[source] io::Error),
    /// The low ports of its network.
    #[error("cannot open the ports below 1024 of the sandbox's network (net-bind-service): {0}")]
    LowPorts(#[source] io::Error),
    /// The way around Landlock's rule about connecting.
    #[error(
        "cannot keep the sandbox's processes from connecting by TCP Fast Open (/proc/sys/net/ipv4/tcp_fastopen): {0}"
    )]
    FastOpen(#[source] io::Error),
    /// The id maps.
    #[error("cannot map the sandbox's ids to host uids: {0}")]
    Map(#[source] io::Error),
    /// Its way to the network.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// A step inside.
    #[error("the sandbox failed at {step}{}: {source}", of(.object))]
    Jail {
        /// Which.
        step: Step,
        /// On what.
        object: String,
        /// Why.
        source: io::Error,
    },
    /// The command cannot be executed.
    #[error("{}: {}", named(.command), exec_cause(.cause))]
    Exec {
        /// Which.
        command: String,
        /// Why.
        cause: io::Error,
    },
    /// The kernel's word differs from the plan.
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    /// Init broke the rules.
    #[error("the sandbox's init answered {what}")]
    Protocol {
        /// What it said.
        what: String,
    },
    /// The child ended without a word.
    #[error("the sandbox ended while it was being built{}", if *.out_of_memory { ": its memory limit is too small for it" } else { "" })]
    Vanished {
        /// Whether the memory limit did it.
        out_of_memory: bool,
    },
    /// Anything else of the system.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl ShimError {
    /// A `Failed` message, as an error.
    pub fn jail(step: u8, errno: i32, detail: String) -> Self {
        let Some(step) = Step::from_number(step) else {
            return Self::Protocol { what: format!("step {step}") };
        };
        let (object, source) = match errno {
            0 => (String::new(), io::Error::other(detail)),
            _ => (detail, io::Error::from_raw_os_error(errno)),
        };
        match step {
            Step::Exec => Self::Exec { command: object, cause: source },
            _ => Self::Jail { step, object, source },
        }
    }

    /// Whether the workspace is no longer what the plan was made from, so that another plan may do.
    pub fn is_outdated(&self) -> bool {
        matches!(self, Self::Placeholder(PlaceholderError::Changed(_)))
    }

    /// Whether the policy or the host said no (exit code 77).
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Placeholder(PlaceholderError::Symlink(_))
            | Self::Stream(StreamError::Refused { .. })
            | Self::NoTerminal { .. }
            | Self::Attestation(_) => true,
            Self::Gateway(gateway) => gateway.is_refusal(),
            Self::Source(SourceError { source, .. }) => source.raw_os_error() == Some(libc::EINVAL),
            _ => false,
        }
    }
}

impl From<SourceError> for ShimError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

fn of(object: &str) -> String {
    if object.is_empty() { String::new() } else { format!(" ({object})") }
}

/// An empty name is still one.
fn named(command: &str) -> &str {
    if command.is_empty() { "\"\"" } else { command }
}

/// What mount_setattr(2) means by EINVAL on an idmap request.
fn remedy(error: &SourceError) -> &'static str {
    if error.source.raw_os_error() == Some(libc::EINVAL) {
        ". Its filesystem cannot be idmapped, so files would change their owner (idmapped-mount): use ext4, xfs, btrfs or \
         tmpfs, or a newer kernel"
    } else {
        ""
    }
}
