//! `stockade …`: arguments in, exit codes out.

pub mod doctor;
pub mod policy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs CLI coding agents behind walls that the kernel enforces.
#[derive(Debug, Parser)]
#[command(name = "stockade", version, arg_required_else_help = true)]
struct Arguments {
    /// Machine-readable output: one JSON document, or one a line
    #[arg(long, global = true)]
    json: bool,
    /// Nothing but errors on standard error
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    /// What this host can enforce, and how to mend what it cannot
    Doctor(doctor::Doctor),
    /// The policies: what there are, what they say, why they allow what they allow
    Policy(policy::Arguments),
}

/// How Stockade speaks, as the global flags have it.
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    /// Errors and results as JSON.
    pub json: bool,
    /// Errors only.
    pub quiet: bool,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Policy(policy) => ExitCode::from(policy::run(&policy.command, policy.json)),
        Command::Doctor(doctor) => ExitCode::from(doctor::run(doctor.json)),
    }
}
