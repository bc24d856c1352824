//! What the runner plants outside of the sandbox, under the names by which the probe looks for it.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Variables that carry the decoys' addresses into the sandbox.
pub mod variable {
    /// Identifiers of the machine's own namespaces, as a proof that there is a belt.
    pub const BELT: &str = "STOCKADE_PROBE_BELT";
    /// A file that only the host may read.
    pub const SECRET: &str = "STOCKADE_PROBE_SECRET";
    /// A TCP listener on the host's loopback.
    pub const TCP: &str = "STOCKADE_PROBE_TCP";
    /// The same, IPv6.
    pub const TCP6: &str = "STOCKADE_PROBE_TCP6";
    /// A TCP listener beyond loopback.
    pub const TCP_OUTSIDE: &str = "STOCKADE_PROBE_TCP_OUTSIDE";
    /// A UDP echo on the host's loopback.
    pub const UDP: &str = "STOCKADE_PROBE_UDP";
    /// A UDP echo beyond loopback.
    pub const UDP_OUTSIDE: &str = "STOCKADE_PROBE_UDP_OUTSIDE";
}

/// Name of the abstract stream listener.
pub const ABSTRACT_STREAM: &str = "stockade-belt-decoy-stream";
/// Name of the abstract datagram socket.
pub const ABSTRACT_DATAGRAM: &str = "stockade-belt-decoy-datagram";
/// Path of a host daemon's socket.
pub const UNIX_PATH: &str = "/run/stockade-belt-decoy.sock";
/// Socket that a host process left in the workspace.
pub const UNIX_WORKSPACE: &str = "host.sock";
/// System V key of the shared memory, the semaphores and the queue.
pub const SYSV_KEY: i32 = 0x5703_c4de;
/// POSIX message queue and shared memory.
pub const POSIX_NAME: &str = "stockade-belt-decoy";
/// What the secret file, the shared memory and the helper's environment hold.
pub const SECRET: &str = "nobody inside may read this";
/// Link in the workspace that points at the secret.
pub const ESCAPING_LINK: &str = "escaping-link";
/// Set-uid copy of the probe, in the workspace and among the system's programs.
pub const SETUID_PROBE: &str = "setuid-probe";
/// Where the system's copy is.
pub const SETUID_SYSTEM: &str = "/usr/bin/stockade-setuid-probe";
/// The home of the host's root: toolchains in it are shown by some policies, what lies beside them by none.
pub const HOME: &str = "/root";
/// Belongings of the host's root: the attempt that looks for it, and where it is below [`HOME`].
pub const BELONGINGS: [(&str, &str); 4] = [
    ("root_home", ".stockade-decoy"),
    ("root_home_ssh", ".ssh/stockade-decoy"),
    ("root_home_cargo", ".cargo/stockade-decoy"),
    ("root_home_config", ".config/stockade-decoy"),
];
/// The descriptor that the runner leaks on purpose.
pub const LEAKED_DESCRIPTOR: i32 = 17;

/// The decoys' addresses, read once.
#[derive(Debug, Clone)]
pub struct Decoys {
    /// The host's secret.
    pub secret: PathBuf,
    /// Listeners.
    pub tcp: SocketAddr,
    /// Loopback, IPv6.
    pub tcp6: SocketAddr,
    /// Beyond loopback.
    pub tcp_outside: SocketAddr,
    /// Echoes.
    pub udp: SocketAddr,
    /// Beyond loopback.
    pub udp_outside: SocketAddr,
    /// Descriptors above 2 that the probe was started with.
    pub inherited: Vec<i32>,
}

impl Decoys {
    /// Reads them from the environment; a missing one is named.
    pub fn from_environment(inherited: Vec<i32>) -> Result<Self, String> {
        let text = |name: &str| env::var(name).map_err(|_| format!("{name} is not set: the runner sets it"));
        let address = |name: &str| {
            text(name)?.parse::<SocketAddr>().map_err(|error| format!("{name} is no address: {error}"))
        };
        Ok(Self {
            secret: text(variable::SECRET)?.into(),
            tcp: address(variable::TCP)?,
            tcp6: address(variable::TCP6)?,
            tcp_outside: address(variable::TCP_OUTSIDE)?,
            udp: address(variable::UDP)?,
            udp_outside: address(variable::UDP_OUTSIDE)?,
            inherited,
        })
    }
}
