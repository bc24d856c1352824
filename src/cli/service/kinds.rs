//! `stockade agents`: the kinds of agents that are known, and what they make of a recorded terminal.

use std::path::PathBuf;

/// Kinds of agents: how each CLI is started, and what its screens mean
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Kinds {
    /// Every kind, where it is described, and which version of it is installed here
    List,
    /// A kind as it is written
    Show {
        /// Its name
        name: String,
    },
    /// Whether a file describes a kind, or whether all that are installed do; if not, where it is wrong
    Check {
        /// The file; it need not belong to root yet [default: all that are installed]
        file: Option<PathBuf>,
    },
    /// Run a recorded terminal through a kind's rules; a line for each time that something else becomes known
    Replay {
        /// Which kind
        #[arg(long = "type", value_name = "TYPE", required_unless_present = "rules")]
        kind: Option<String>,
        /// The rules of this file instead
        #[arg(long, value_name = "FILE", conflicts_with = "kind")]
        rules: Option<PathBuf>,
        /// Show the screen with each line
        #[arg(long, conflicts_with = "json")]
        screens: bool,
        /// Asciicast, version 2 or 3; - for standard input
        recording: PathBuf,
    },
}
