//! One agent of a service, from `spawn` to `rm`: what the commands take.

use std::path::PathBuf;
use std::time::Duration;

use super::words;
use crate::policy::{Bytes, Cpus};

/// Start an agent on a node; prints its id.
///
/// It goes on when this terminal is closed: `attach` leads to it, `stop` ends it.
#[derive(Debug, Clone, clap::Args)]
pub struct Spawn {
    /// claude, codex, gemini, aider, shell or custom; also the policy, if none is named
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: String,
    /// Id: 1 to 64 letters, digits, '.', '_', '-'. The same request with the same id finds the same agent [default: one is made]
    #[arg(long)]
    pub id: Option<String>,
    /// Name for people [default: the id]
    #[arg(long)]
    pub name: Option<String>,
    /// Policy of the node's; the request can only narrow it
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// Directory of the node's that it works in, below what its administrator has opened
    #[arg(long, value_name = "DIR", conflicts_with = "workspace_id")]
    pub workspace: Option<PathBuf>,
    /// Workspace that the node keeps under this name, made if it is missing
    #[arg(long, value_name = "NAME")]
    pub workspace_id: Option<String>,
    /// Home that the node keeps under this name, made if it is missing [default: an empty one, gone at the end]
    #[arg(long, value_name = "NAME")]
    pub home: Option<String>,
    /// Wait so many seconds (at most 20) for a home that another agent has [default: it is refused at once]
    #[arg(long, value_name = "SECONDS", requires = "home")]
    pub home_wait: Option<u64>,
    /// Variable for the agent; K alone takes this process's own, so that a secret is in no command line
    #[arg(long = "env", value_name = "K=V|K", value_parser = words::variable)]
    pub environment: Vec<(String, String)>,
    /// File for the workspace, PATH in it and the FILE here to copy
    #[arg(long = "file", value_name = "PATH=FILE", value_parser = words::pair)]
    pub files: Vec<(String, String)>,
    /// Label for people and filters
    #[arg(long = "label", value_name = "K=V", value_parser = words::pair)]
    pub labels: Vec<(String, String)>,
    /// What it says it can do
    #[arg(long = "capability", value_name = "WORD")]
    pub capabilities: Vec<String>,
    /// Memory and swap together, like 512M
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Bytes>,
    /// CPUs, like 1.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<Cpus>,
    /// Processes and threads
    #[arg(long, value_name = "N")]
    pub processes: Option<u32>,
    /// Of the policy's destinations only these
    #[arg(long, value_name = "HOST:PORT")]
    pub allow: Vec<String>,
    /// First size of its terminal, like 120x40
    #[arg(long, value_name = "COLSxROWS", value_parser = words::size)]
    pub size: Option<(u16, u16)>,
    /// Start it again when it fails, later each time
    #[arg(long)]
    pub auto_restart: bool,
    /// Stop it after so long without output and input
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub idle_timeout: Option<Duration>,
    /// Stop it after so long
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub lifetime: Option<Duration>,
    /// Question of the agent's to be answered in your stead, beside the safe ones; by its screen's name (key-found)
    #[arg(long = "answer", value_name = "SCREEN", conflicts_with = "no_answers")]
    pub answers: Vec<String>,
    /// Answer none of its questions, not even the safe ones (colours, trust in --workspace)
    #[arg(long)]
    pub no_answers: bool,
    /// One more argument for the policy's own command
    #[arg(long = "argument", value_name = "WORD", allow_hyphen_values = true)]
    pub arguments: Vec<String>,
    /// Program and arguments instead of the policy's own
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// List agents
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Ls {
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only in this state: starting, login-required, ready, busy, blocked, stopping, exited, failed, unknown
    #[arg(long, value_name = "STATE")]
    pub status: Option<String>,
    /// Only with this label; several: with all of them
    #[arg(long = "label", value_name = "K[=V]")]
    pub labels: Vec<String>,
}

/// Show one agent
#[derive(Debug, Clone, clap::Args)]
pub struct Get {
    /// Its id
    pub id: String,
}

/// Stop agents: SIGTERM, then whatever is left is killed. Returns when they have ended
#[derive(Debug, Clone, clap::Args)]
pub struct Stop {
    /// Their ids
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// Kill at once
    #[arg(long, conflicts_with = "grace")]
    pub force: bool,
    /// Time between SIGTERM and the end of everything [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub grace: Option<Duration>,
    /// Return at once
    #[arg(long)]
    pub no_wait: bool,
}

/// Start an agent anew, as it was asked for; stops it first if it runs
#[derive(Debug, Clone, clap::Args)]
pub struct Restart {
    /// Its id
    pub id: String,
}

/// Wait until an agent has ended; prints its state and exit code
///
/// The exit code is 0 whatever the agent's own was, and 6 when the time is over.
#[derive(Debug, Clone, clap::Args)]
pub struct Wait {
    /// Its id
    pub id: String,
    /// At most so long [default: without end]
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub timeout: Option<Duration>,
}

/// Remove agents that have ended, with all that is kept of them
#[derive(Debug, Clone, clap::Args)]
pub struct Rm {
    /// Their ids
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// Kill those that run first
    #[arg(long)]
    pub force: bool,
}

/// Run a command within an agent's walls
///
/// The exit code is the command's own, 128+n if signal n ended it.
#[derive(Debug, Clone, clap::Args)]
pub struct Exec {
    /// Its id
    pub id: String,
    /// Pass standard input on, up to its end
    #[arg(long, short = 'i')]
    pub stdin: bool,
    /// Variable for the command; K alone takes this process's own
    #[arg(long = "env", value_name = "K=V|K", value_parser = words::variable)]
    pub environment: Vec<(String, String)>,
    /// Give it up after so long [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub timeout: Option<Duration>,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// What agents use: CPU, memory, processes, network
#[derive(Debug, Clone, clap::Args)]
pub struct Stats {
    /// Its id [default: all that run]
    pub id: Option<String>,
}

/// Show the login that an agent waits for, or complete it
#[derive(Debug, Clone, clap::Args)]
pub struct Login {
    /// Its id
    pub id: String,
    /// The code that the address gave, or an API key: typed where the agent asks for it; - reads it from standard input
    #[arg(long, value_name = "CODE|-", conflicts_with = "callback_url", allow_hyphen_values = true)]
    pub code: Option<String>,
    /// What the browser was sent to and could not reach, http://localhost:…: delivered to that port inside; - reads it
    /// from standard input
    #[arg(long, value_name = "URL|-")]
    pub callback_url: Option<String>,
    /// How long to wait for what comes of it [default: 20s]
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub timeout: Option<Duration>,
}

/// Give an agent's gateway a new value for a credential of its policy; reads it from standard input
#[derive(Debug, Clone, clap::Args)]
pub struct Secret {
    /// Its id
    pub id: String,
    /// The credential's name in the policy
    pub name: String,
}
