//! Where the processes of a node meet: one tree, below `/` on an installed node, below its `--dir` for `stockade dev`.
//!
//! ```text
//!  etc/stockade/          launcher.toml stockaded.toml stockaded.d/ policies/     root's
//!  var/lib/stockade/
//!    agents/<id>/         root:stockade 0750, written by launcher and shim, read by the daemon
//!      agent.json         who it is (no variable, no secret)
//!      attestation.json   what was enforced
//!      terminal/          the log (`log`)
//!      usage.json         what it has used (`usage::Metered`)
//!      exit.json          how it ended (`Ended`)
//!      .<name>.new        the same while it is written, or before: each gets its name when it is whole
//!    agents/.blank-<n>/   what waits to become an agent's
//!    workspaces/.removed/ root 0700: what is being removed
//!    homes/<tenant>/<name>/  workspaces/<tenant>/<name>/     directories 0711 root, leaves the service user's
//!    daemon/              stockade 0700: the daemon's own records
//!  var/log/stockade/audit/
//!  run/stockade/
//!    launcher.sock        the launcher's
//!    shims/<id>.sock      each shim's, for a daemon that comes later
//!    doors/<id>.sock      the daemon's, one per registered agent: the group of the directory is who may connect
//!    shutdown             root: there while the machine is being shut down
//!    orders/<id>          root 0600: what an agent was started with, for a restart
//! ```

use std::path::{Path, PathBuf};

/// The tree of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    root: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Places {
    /// Below this directory.
    pub fn under(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What it is below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `etc/stockade`
    pub fn config(&self) -> PathBuf {
        self.root.join("etc/stockade")
    }

    /// `var/lib/stockade`
    pub fn state(&self) -> PathBuf {
        self.root.join("var/lib/stockade")
    }

    /// `run/stockade`
    pub fn run(&self) -> PathBuf {
        self.root.join("run/stockade")
    }

    /// `var/log/stockade/audit`
    pub fn audit(&self) -> PathBuf {
        self.root.join("var/log/stockade/audit")
    }

    /// All agents.
    pub fn agents(&self) -> PathBuf {
        self.state().join("agents")
    }

    /// One agent. The id must have been parsed as one.
    pub fn agent(&self, id: &str) -> PathBuf {
        self.agents().join(id)
    }

    /// The daemon's own.
    pub fn records(&self) -> PathBuf {
        self.state().join("daemon")
    }

    /// Persistent homes, by tenant and name.
    pub fn homes(&self) -> PathBuf {
        self.state().join("homes")
    }

    /// The node's own workspaces, by tenant and name.
    pub fn workspaces(&self) -> PathBuf {
        self.state().join("workspaces")
    }

    /// The launcher's socket.
    pub fn launcher_socket(&self) -> PathBuf {
        self.run().join("launcher.sock")
    }

    /// The shims' sockets.
    pub fn shims(&self) -> PathBuf {
        self.run().join("shims")
    }

    /// One shim's socket. May be longer than an address of a unix socket (108 bytes): reach it through its directory.
    pub fn shim_socket(&self, id: &str) -> PathBuf {
        self.shims().join(format!("{id}.sock"))
    }

    /// Where registered agents answer.
    pub fn doors(&self) -> PathBuf {
        self.run().join("doors")
    }

    /// There while the machine is being shut down (stockade-launcher.service).
    pub fn shutdown(&self) -> PathBuf {
        self.run().join("shutdown")
    }

    /// What agents were started with.
    pub fn orders(&self) -> PathBuf {
        self.run().join("orders")
    }
}

/// In an agent's directory.
pub const AGENT: &str = "agent.json";
/// In an agent's directory.
pub const ATTESTATION: &str = "attestation.json";
/// In an agent's directory.
pub const EXIT: &str = "exit.json";
/// In an agent's directory.
pub const TERMINAL: &str = "terminal";
/// In an agent's directory.
pub const USAGE: &str = "usage.json";
