//! `stockade …`: arguments in, exit codes out.

pub mod config;
mod demo;
mod destination;
pub mod doctor;
pub mod explain;
pub mod policy;
mod report;
mod request;
mod run;
pub mod service;
mod summary;
pub mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::shim::keeper;
use service::Connection;

/// Runs CLI coding agents behind walls that the kernel enforces.
#[derive(Debug, Parser)]
#[command(name = "stockade", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes, before its name or after.
#[derive(Debug, Args)]
struct Global {
    /// Machine-readable output: one JSON document, or one a line
    #[arg(long, global = true)]
    json: bool,
    /// Nothing but errors on standard error
    #[arg(long, short, global = true)]
    quiet: bool,
    /// How to reach a service
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Arguments>),
    /// What this host can enforce, and how to mend what it cannot
    Doctor(doctor::Doctor),
    /// The service's configuration
    #[command(subcommand)]
    Config(config::Command),
    /// See what Stockade enforces and withstands: each claim followed by its evidence; root, a minute
    Demo,
    /// The policies: what there are, what they say, why they allow what they allow
    #[command(subcommand)]
    Policy(policy::Command),
    #[command(flatten)]
    Service(service::Command),
}

/// How Stockade speaks, as the global flags have it.
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    /// Errors and results as JSON.
    pub json: bool,
    /// Errors only.
    pub quiet: bool,
}

/// Runs the command line; the exit code.
pub fn main() -> u8 {
    if keeper::was_called() {
        return 0;
    }
    // Most of what is started is `run`; to describe every other command takes longer than to build its walls' plan.
    if let Some(words) = run_alone() {
        let begun = run::Begun::new();
        match read_run(&words) {
            Some((run, voice)) => return run::run(run, voice, begun),
            None => begun.abandon(),
        }
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse_arguments(&error),
    };
    let voice = arguments.global.voice();
    match arguments.command {
        Command::Run(run) => run::run(*run, voice, run::Begun::new()),
        Command::Doctor(doctor) => doctor::run(doctor.json || voice.json, voice.quiet),
        Command::Config(command) => config::run(command),
        Command::Demo => demo::run(),
        Command::Policy(policy) => policy::run(&policy, voice.json),
        Command::Service(_) => {
            eprintln!("stockade: {}", service::hand_over::hand_over());
            1
        }
    }
}

/// What `stockade-client` was told to do; or the exit code of one that was told something else.
///
/// # Errors
/// When the arguments are not understood, ask for help, or name a command of `stockade` itself; all that is to be said of it
/// has been.
pub fn service_arguments() -> Result<(Voice, Connection, service::Command), ExitCode> {
    let arguments = Arguments::try_parse().map_err(|error| ExitCode::from(refuse_arguments(&error)))?;
    let voice = arguments.global.voice();
    match arguments.command {
        Command::Service(command) => Ok((voice, arguments.global.connection, command)),
        Command::Run(_) | Command::Doctor(_) | Command::Policy(_) | Command::Config(_) | Command::Demo => {
            eprintln!("stockade: this program only talks to services: call stockade itself for that");
            Err(ExitCode::from(2))
        }
    }
}

/// The words of `stockade run …`, `run` the first.
fn run_alone() -> Option<Vec<OsString>> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    words.first().is_some_and(|first| first == "run").then_some(words)
}

/// Reads them without the definitions of the other commands. `None`: there is something to be said of them (help, a fault), which
/// the whole command line says.
fn read_run(words: &[OsString]) -> Option<(run::Arguments, Voice)> {
    let matches = RunAlone::augment_args(clap::Command::new("run")).try_get_matches_from(words).ok()?;
    let RunAlone { global, run } = RunAlone::from_arg_matches(&matches).ok()?;
    Some((run, global.voice()))
}

/// What [`Arguments`] takes after `run`.
#[derive(Debug, Args)]
struct RunAlone {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    run: run::Arguments,
}

/// The whole command line, for completions and the manual.
pub fn definition() -> clap::Command {
    Arguments::command()
}

impl Global {
    fn voice(&self) -> Voice {
        Voice { json: self.json, quiet: self.quiet }
    }
}

/// `run` answers for its own arguments with 125, for 2 could be the command's own; everything else with 2.
fn refuse_arguments(error: &clap::Error) -> u8 {
    if error.exit_code() == 0 {
        // Help and version go to stdout. If even that cannot be printed, nobody is listening.
        let _ = error.print();
        return 0;
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return 2;
    }
    let text = error.to_string();
    let told = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("stockade: {told} (try --help)");
    let is_run =
        std::env::args().skip(1).find(|word| !word.starts_with('-')).is_some_and(|word| word == "run");
    if is_run { run::FAILED } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_run_is_read_alone_as_it_is_among_all_commands() {
        for line in [
            "run",
            "run -- true",
            "run true --policy x -q",
            "run --policy shell --workspace . --memory=1G --cpus 1.5 --processes 9 -- sh -c --json",
            "run -q --json --policy=base --home /tmp/h --env A=b --env C=d --report r.json true",
            "run --allow example.test:443 --publish 127.0.0.1:8080:3000 --server https://n --quiet x",
        ] {
            let whole = Arguments::try_parse_from(words(&format!("stockade {line}"))).expect(line);
            let (json, quiet) = (whole.global.json, whole.global.quiet);
            let Command::Run(whole) = whole.command else { panic!("{line}: not a run") };
            let (alone, voice) = read_run(&words(line)).expect(line);
            assert_eq!(format!("{alone:?}"), format!("{whole:?}"), "{line}");
            assert_eq!((voice.json, voice.quiet), (json, quiet), "{line}");
        }
    }

    #[test]
    fn whatever_there_is_to_say_of_a_run_is_said_by_the_whole_command_line() {
        for line in ["run --help", "run -h", "run --version", "run --polcy x", "run --cpus no"] {
            assert!(read_run(&words(line)).is_none(), "{line}");
        }
    }
}
