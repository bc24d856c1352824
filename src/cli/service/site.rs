//! Around a service: the node, a way in for clients without certificates, one's own service, its certificates.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Show the node
#[derive(Debug, Clone, clap::Args)]
pub struct Node {
    /// What to do with it
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
}

/// What can be done with a node.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum NodeCommand {
    /// From now on it takes no new agents
    Drain {
        /// Stop those that run
        #[arg(long)]
        stop: bool,
    },
    /// Stop every agent that this client may stop, and wait for their ends; the service goes on
    StopAll {
        /// Kill them at once
        #[arg(long, conflicts_with = "grace")]
        force: bool,
        /// Time between SIGTERM and the end of everything [default: 5s]
        #[arg(long, value_name = "TIME", value_parser = super::words::duration)]
        grace: Option<std::time::Duration>,
    },
    /// List the nodes that are registered in etcd; without `--etcd` this one
    Ls(Etcd),
}

/// How etcd is reached
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Etcd {
    /// A member of the cluster, like https://etcd-1:2379; may be repeated [default: ask the service instead]
    #[arg(long, value_name = "URL")]
    pub etcd: Vec<String>,
    /// Who vouches for its members, PEM
    #[arg(long, value_name = "FILE", requires = "etcd")]
    pub etcd_ca: Option<PathBuf>,
    /// Client certificate for it, PEM
    #[arg(long, value_name = "FILE", requires_all = ["etcd", "etcd_key"])]
    pub etcd_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires_all = ["etcd", "etcd_cert"])]
    pub etcd_key: Option<PathBuf>,
    /// User there
    #[arg(long, value_name = "NAME", requires_all = ["etcd", "etcd_password_file"])]
    pub etcd_user: Option<String>,
    /// File with the user's password
    #[arg(long, value_name = "FILE", requires_all = ["etcd", "etcd_user"])]
    pub etcd_password_file: Option<PathBuf>,
}

/// What is registered, where Parallax looks for agents
#[derive(Debug, Clone, clap::Args)]
pub struct Registry {
    /// What to do with it
    #[command(subcommand)]
    pub command: RegistryCommand,
}

/// What can be asked of a registry.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum RegistryCommand {
    /// List everything that is registered in etcd, whoever wrote it; without `--etcd` what the service registers
    Ls(Etcd),
    /// Name what Parallax would choke on, whoever wrote it, or what keeps the service from registering; exits 1 if there is anything
    Check(Etcd),
}

impl RegistryCommand {
    /// Where to look.
    pub fn etcd(&self) -> &Etcd {
        let (Self::Ls(etcd) | Self::Check(etcd)) = self;
        etcd
    }
}

impl Etcd {
    /// Whether etcd itself is asked; else the service is.
    pub fn is_named(&self) -> bool {
        !self.etcd.is_empty()
    }
}

/// Lead plain connections to the service, with this client's certificate
///
/// For clients that cannot present one. Whoever reaches the address has this client's rights: it must be this host's own
/// loopback, or a unix socket that only you can open.
#[derive(Debug, Clone, clap::Args)]
pub struct Proxy {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "unix")]
    pub listen: Option<SocketAddr>,
    /// Unix socket to listen on as well; only this user can open it
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,
    /// Let other hosts have this client's rights
    #[arg(long, requires = "listen")]
    pub allow_non_loopback: bool,
    /// Connections at the same time, at most
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub connections: usize,
}

/// A whole service in the foreground, for development: launcher, daemon, certificates, configuration
///
/// Prints `ready https://…` when it serves, and writes DIR/client.toml, which --client-config takes. Ctrl-C stops all agents
/// and the service and leaves no process, mount, namespace, cgroup or socket; a second one stops them at once. A service
/// that was killed is started again over the same DIR, and agents that are still there are found again.
#[derive(Debug, Clone, clap::Args)]
pub struct Dev {
    /// Where its files are; kept afterwards
    #[arg(long, value_name = "DIR", default_value = "/var/lib/stockade-dev")]
    pub dir: PathBuf,
    /// Where to listen; port 0: any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7443")]
    pub listen: SocketAddr,
    /// Directory below which agents may be given workspaces [default: all that are not precious]
    #[arg(long, value_name = "DIR")]
    pub workspace_root: Vec<PathBuf>,
    /// Register agents in this etcd, like http://127.0.0.1:2379; may be repeated [default: in the daemon]
    #[arg(long, value_name = "URL")]
    pub etcd: Vec<String>,
}

/// Where an installed node's certificates are.
pub const NODE_PKI: &str = "/etc/stockade/pki";

/// What the authority can do.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Pki {
    /// Make an authority, and a server certificate for these names
    ///
    /// In /etc/stockade/pki it makes all that an installed node needs to start: also a certificate for an administrator with its
    /// grant, and a client.toml for `stockade`.
    Init {
        /// Where its files are
        #[arg(long, value_name = "DIR", default_value = NODE_PKI)]
        dir: PathBuf,
        /// Name or address by which clients reach the server [in /etc/stockade/pki: the host's name and localhost, too]
        #[arg(long, value_name = "NAME")]
        host: Vec<String>,
    },
    /// Issue a client certificate: DIR/NAME.crt, DIR/NAME.key
    Issue {
        /// Where the authority's files are
        #[arg(long, value_name = "DIR", default_value = NODE_PKI)]
        dir: PathBuf,
        /// Name of the files
        #[arg(long)]
        name: String,
        /// Identity, like spiffe://example.org/alice
        #[arg(long, value_name = "SPIFFE-ID")]
        uri: String,
        /// Lifetime
        #[arg(long, value_name = "N", default_value_t = 365)]
        days: u32,
    },
    /// Issue a server certificate for these names: DIR/server.crt, DIR/server.key
    IssueServer {
        /// Where the authority's files are
        #[arg(long, value_name = "DIR", default_value = NODE_PKI)]
        dir: PathBuf,
        /// Name or address by which clients reach the server
        #[arg(long, value_name = "NAME", required = true)]
        host: Vec<String>,
    },
    /// Revoke a certificate: DIR/crl.pem names it from now on
    Revoke {
        /// Where the authority's files are
        #[arg(long, value_name = "DIR", default_value = NODE_PKI)]
        dir: PathBuf,
        /// Its serial number, hexadecimal
        serial: String,
    },
    /// Write DIR/crl.pem anew, so that it is valid for another year
    RenewCrl {
        /// Where the authority's files are
        #[arg(long, value_name = "DIR", default_value = NODE_PKI)]
        dir: PathBuf,
    },
    /// List what was issued and revoked
    List {
        /// Where the authority's files are
        #[arg(long, value_name = "DIR", default_value = NODE_PKI)]
        dir: PathBuf,
    },
}

/// Print completions for a shell, to be sourced
#[derive(Debug, Clone, clap::Args)]
pub struct Completions {
    /// Which shell
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    pub shell: String,
}
