//! `stockade …`: arguments in, exit codes out.

pub mod doctor;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A hardened sandbox for CLI coding agents.
#[derive(Debug, Parser)]
#[command(name = "stockade", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What this host can enforce, and how to mend what it cannot
    Doctor(doctor::Doctor),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Doctor(doctor) => ExitCode::from(doctor::run(doctor.json)),
    }
}
