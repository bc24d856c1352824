//! Why an agent that may use the network has no gateway, and so does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cgroup::CgroupError;
use crate::policy::trust::Distrust;

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The program is not there, or cannot be opened.
    #[error("the policy allows the network, but its gateway {} cannot be opened: install it beside stockade", path.display())]
    Missing {
        /// Where it belongs.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others could have decided what it does.
    #[error("the gateway {} is not trusted: {distrust}", path.display())]
    Untrusted {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong with it.
        distrust: Distrust,
    },
    /// A secret cannot be had.
    #[error("the secret {} for {name} cannot be used: {what}", path.display())]
    Secret {
        /// The name that it is for.
        name: String,
        /// Where it should lie.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A port of the host.
    #[error("cannot listen on {address} for --publish")]
    Publish {
        /// As asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The sockets inside.
    #[error("cannot make the sockets that lead to the gateway: {0}")]
    Doors(#[source] io::Error),
    /// Its cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// It could not be started, or said itself why it cannot work.
    #[error("the gateway stockade-egress did not start: {what}")]
    Failed {
        /// In one line.
        what: String,
    },
    /// It is there and says nothing.
    #[error("the gateway stockade-egress was not ready within {seconds} s")]
    Silent {
        /// How long it had.
        seconds: u64,
    },
    /// Anything else of the system.
    #[error("cannot start the gateway stockade-egress: {0}")]
    System(#[from] io::Error),
}

impl GatewayError {
    /// Whether this host, as it is set up, says no.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Untrusted { .. } | Self::Secret { .. } | Self::Failed { .. } => true,
            Self::Publish { .. }
            | Self::Doors(_)
            | Self::Cgroup(_)
            | Self::Silent { .. }
            | Self::System(_) => false,
        }
    }
}
