//! `stockade …`: arguments in, exit codes out.

mod destination;
pub mod doctor;
pub mod explain;
pub mod policy;
mod report;
mod request;
mod run;
mod summary;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::shim::keeper;

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
    #[command(subcommand)]
    Policy(policy::Command),
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
    if keeper::was_called() {
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse_arguments(&error),
    };
    let voice = Voice { json: arguments.json, quiet: arguments.quiet };
    let code = match arguments.command {
        Command::Run(run) => run::run(run, voice),
        Command::Doctor(doctor) => doctor::run(doctor.json || voice.json),
        Command::Policy(policy) => policy::run(&policy, voice.json),
    };
    ExitCode::from(code)
}

/// `run` answers for its own arguments with 125, for 2 could be the command's own; everything else with 2.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    if error.exit_code() == 0 {
        // Help and version go to stdout. If even that cannot be printed, nobody is listening.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    let text = error.to_string();
    let told = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("stockade: {told} (try --help)");
    let is_run =
        std::env::args().skip(1).find(|word| !word.starts_with('-')).is_some_and(|word| word == "run");
    ExitCode::from(if is_run { run::FAILED } else { 2 })
}
