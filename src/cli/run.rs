//! `stockade run`: one agent in the foreground, no daemon, the same walls.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::Voice;
use super::report::Report;
use super::request::{self, Home, RequestError, Words};
use super::summary::{summary, troubles};
use crate::host::Host;
use crate::id::InvalidName;
use crate::plan::{Mount, Plan};
use crate::policy::{self, Bytes, Cpus, Destination, Library, Policy, PolicyError, Published, Reference};
use crate::shim::ahead::Ahead;
use crate::shim::caller::CallerFront;
use crate::shim::commission::{Commission, CommissionError};
use crate::shim::keeper::Keeper;
use crate::shim::{Outcome, ShimError};

/// Stockade itself failed.
pub const FAILED: u8 = 125;
/// The command cannot be executed; it was not found.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// The policy or this host said no.
const REFUSED: u8 = 77;

/// Run one command in a sandbox, in the foreground.
///
/// With a terminal it is a full interactive one; without, standard input and output work in pipes. Exit code: the
/// command's own, 128+n if signal n ended it, 125 if Stockade failed, 126 or 127 if the command cannot be executed or
/// found, 77 if the policy or this host refused.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Policy by name, or a file: `stockade policy list`
    #[arg(long, default_value = "base", value_name = "NAME|FILE")]
    policy: String,
    /// Directory the agent works in, shown at the same path; none: it sees no directory of yours
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// The agent's home: empty and gone afterwards, or a directory that is kept
    #[arg(long, default_value = "ephemeral", value_name = "ephemeral|DIR", value_parser = |s: &str| Ok::<_, String>(Home::from(s)))]
    home: Home,
    /// Memory and swap together, like 512M
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// CPUs, like 1.5
    #[arg(long, value_name = "N")]
    cpus: Option<Cpus>,
    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    processes: Option<u32>,
    /// Host it may reach as well: a name, *.NAME, or a range of addresses; port 443 if it names none
    #[arg(long, value_name = "HOST[:PORT]", value_parser = policy::request::destination)]
    allow: Vec<Destination>,
    /// Port of this host's loopback that leads to one inside, like 127.0.0.1:8080:3000
    #[arg(long, value_name = "ADDRESS:P:Q", value_parser = str::parse::<Published>)]
    publish: Vec<Published>,
    /// Variable for the agent
    #[arg(long = "env", value_name = "K=V", value_parser = request::variable)]
    environment: Vec<(String, String)>,
    /// Write what was enforced, used and refused, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Command and arguments; none: the policy's own
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("{0}")]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Commission(#[from] CommissionError),
    #[error("cannot write the report {}", path.display())]
    Report { path: PathBuf, source: io::Error },
}

/// What is begun before the arguments are understood: the same for all that can be asked.
pub struct Begun {
    host: Host,
    /// It makes the network namespace while this process decides what else there will be. An unfit host may not even have the
    /// calls that it takes, and gets none; the plan says that better.
    keeper: Option<io::Result<Keeper>>,
}

impl Begun {
    /// Begins it.
    pub fn new() -> Self {
        let host = Host::probe();
        let keeper = host.refusals().is_empty().then(Keeper::start);
        Self { host, keeper }
    }

    /// Nothing will come of it.
    pub fn abandon(self) {
        if let Some(Ok(keeper)) = self.keeper {
            keeper.dismiss();
        }
    }
}

/// Runs it; the exit code.
pub fn run(arguments: Arguments, voice: Voice, begun: Begun) -> u8 {
    match attempt(arguments, voice, begun) {
        Ok(code) => code,
        Err(error) => {
            let code = code_of(&error);
            complain(&error, code, voice);
            code
        }
    }
}

fn attempt(arguments: Arguments, voice: Voice, begun: Begun) -> Result<u8, RunError> {
    let Begun { host, keeper } = begun;
    let keeper = keeper.transpose().map_err(|error| CommissionError::Shim(ShimError::Keeper(error)))?;
    let ended = run_to_its_end(arguments, &host, keeper.as_ref());
    // Before anything that may wait for whoever reads what is said: nothing is left that would need a keeper.
    if let Some(keeper) = keeper {
        keeper.dismiss();
    }
    ended?.tell(voice)
}

/// A run that is over, and what there is to say of it.
struct Ended {
    outcome: Outcome,
    policy: Policy,
    /// What the user called the policy.
    named: String,
    report: Option<(PathBuf, Report)>,
}

impl Ended {
    fn tell(self, voice: Voice) -> Result<u8, RunError> {
        let path = self.report.as_ref().map(|(path, _)| path.as_path());
        tell(&self.outcome, &self.policy, &self.named, path, voice);
        if let Some((path, report)) = self.report {
            report.write(&self.outcome).map_err(|source| RunError::Report { path, source })?;
        }
        Ok(self.outcome.end.code())
    }
}

fn run_to_its_end(arguments: Arguments, host: &Host, keeper: Option<&Keeper>) -> Result<Ended, RunError> {
    let reference = arguments.policy.parse::<Reference>()?;
    let policy = Library::system().load(&reference)?;
    let published = arguments.publish.clone();
    let asked = policy::Request {
        memory: arguments.memory,
        cpus: arguments.cpus,
        processes: arguments.processes,
        allow: arguments.allow,
        publish: arguments.publish,
    };
    let (policy, excess) = asked.on(&policy);
    // Root owns the policies, so root may go beyond one; the report says so.
    let widened = excess.iter().flat_map(|excess| excess.iter()).map(ToString::to_string).collect();
    let words = Words {
        command: arguments.command,
        workspace: arguments.workspace,
        home: arguments.home,
        environment: arguments.environment,
        policy_file: reference.file().map(Path::to_path_buf),
        published,
        widened,
    };
    let request = request::resolve(words, &policy)?;
    let mut report = None;
    let ahead = Ahead::default();
    let result = Commission { agent: None, policy: &policy, host, request: &request, keeper, ahead }
        .carry_out(&mut CallerFront::default(), &mut |plan: &Plan| -> Result<Option<String>, RunError> {
            if let (Some(path), None) = (&arguments.report, &report) {
                report = Some((path.clone(), open_report(path, plan)?));
            }
            Ok(report.is_some().then(|| policy::hash(&policy)))
        });
    match result {
        Ok(outcome) => Ok(Ended { outcome, policy, named: arguments.policy, report }),
        Err(error) => {
            if let Some((_, report)) = report {
                report.abandon();
            }
            Err(error)
        }
    }
}

fn open_report(path: &Path, plan: &Plan) -> Result<Report, RunError> {
    let written = plan.mounts.iter().filter_map(Mount::written);
    Report::create(path, &written.map(Path::to_path_buf).collect::<Vec<_>>())
        .map_err(|source| RunError::Report { path: path.into(), source })
}

/// What the user would otherwise have to guess: that a limit ended it, and what was refused.
fn tell(outcome: &Outcome, policy: &Policy, named: &str, report: Option<&Path>, voice: Voice) {
    if voice.quiet {
        return;
    }
    if outcome.out_of_memory {
        note(&format!(
            "the agent used more than its memory limit of {} and was ended (raise it with --memory, or limits.memory in \
             the policy)",
            policy.limits.memory
        ));
    }
    if outcome.usage.forks_refused.is_some_and(|refused| refused > 0) {
        note(&format!(
            "the agent reached its limit of {} processes (raise it with --processes, or limits.processes in the policy)",
            policy.limits.processes
        ));
    }
    if outcome.end.code() != 0 {
        summary(&outcome.denials, named, report).iter().for_each(|line| note(line));
        outcome.traffic.iter().flat_map(troubles).for_each(|line| note(&line));
    }
}

fn note(text: &str) {
    // Standard error may be closed; then there is nobody to tell.
    let _ = writeln!(io::stderr(), "stockade: {text}");
}

fn complain(error: &RunError, code: u8, voice: Voice) {
    let text = chain(error);
    let line = if voice.json {
        serde_json::json!({ "error": text, "exitCode": code }).to_string()
    } else if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[1;31mstockade:\x1b[0m {text}")
    } else {
        format!("stockade: {text}")
    };
    let _ = writeln!(io::stderr(), "{line}");
}

/// The error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = source.source();
    }
    // What it names may hold line breaks, or sequences that a terminal would obey.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn code_of(error: &RunError) -> u8 {
    match error {
        RunError::Policy(PolicyError::Untrusted { .. }) => REFUSED,
        RunError::Commission(CommissionError::Shim(ShimError::Exec { cause, .. })) => {
            match cause.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => NOT_FOUND,
                _ => NOT_EXECUTABLE,
            }
        }
        RunError::Commission(error) if error.is_refusal() => REFUSED,
        RunError::Name(_)
        | RunError::Policy(_)
        | RunError::Request(_)
        | RunError::Commission(_)
        | RunError::Report { .. } => FAILED,
    }
}
