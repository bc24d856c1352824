//! An agent's terminal, seen through a service: what the commands take.

use std::path::PathBuf;
use std::time::Duration;

use super::words::{self, Since};

/// Work at an agent's terminal; Ctrl-] leaves it running
///
/// Without a terminal here, standard input is typed and output is printed, up to the agent's end. A lost connection is made
/// again, and no byte of output is lost or doubled. The exit code is 0 when you left or the agent ended.
#[derive(Debug, Clone, clap::Args)]
pub struct Attach {
    /// Its id
    pub id: String,
    /// Look on: nothing that is typed here reaches it
    #[arg(long, conflicts_with = "takeover")]
    pub read_only: bool,
    /// Let the terminal have this window's size, even if it has another one's
    #[arg(long)]
    pub takeover: bool,
    /// Begin with this byte of output rather than with what the screen shows now; 0: with all that is kept
    #[arg(long, value_name = "OFFSET")]
    pub since: Option<u64>,
}

/// Type a message for an agent, and submit it
#[derive(Debug, Clone, clap::Args)]
pub struct Send {
    /// Its id
    pub id: String,
    /// The message; -: standard input
    #[arg(allow_hyphen_values = true)]
    pub text: String,
    /// Wait for the answer and print it
    #[arg(long)]
    pub wait: bool,
    /// At most so long [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = words::duration, requires = "wait")]
    pub timeout: Option<Duration>,
    /// Keep it until something may be typed, and return at once: while the agent starts, works, waits for a login
    #[arg(long, conflicts_with = "wait")]
    pub queue: bool,
    /// The same message with the same key again is not typed again; with --wait its answer is printed
    #[arg(long, value_name = "WORD")]
    pub idempotency_key: Option<String>,
}

/// What an agent's terminal has put out, as text
#[derive(Debug, Clone, clap::Args)]
pub struct Logs {
    /// Its id
    pub id: String,
    /// Go on with what comes, up to the agent's end
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// Only what came since: 10m (ago), or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "T", value_parser = words::since)]
    pub since: Option<Since>,
    /// The very bytes, escape codes and all
    #[arg(long, conflicts_with_all = ["tail", "since"])]
    pub raw: bool,
}

/// What an agent's terminal shows now
#[derive(Debug, Clone, clap::Args)]
pub struct Screen {
    /// Its id
    pub id: String,
    /// With colours and modes, as bytes for a terminal
    #[arg(long)]
    pub ansi: bool,
}

/// An agent's terminal as a recording, asciicast v2
#[derive(Debug, Clone, clap::Args)]
pub struct Recording {
    /// Its id
    pub id: String,
    /// Where to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What happens on the node
#[derive(Debug, Clone, clap::Args)]
pub struct Events {
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Only what came after this cursor; 0: all that is kept
    #[arg(long, value_name = "CURSOR")]
    pub since: Option<u64>,
}
