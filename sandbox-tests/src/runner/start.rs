//! Starts the probe: bare, in bubblewrap, or in Stockade; and reads its verdict.

use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::{env, fs};

use crate::attempt::{Attempt, Class};
use crate::decoys::LEAKED_DESCRIPTOR;
use crate::kernel::call;
use crate::runner::plant::Planted;
use crate::runner::workspace;

/// The probe gives up after 120 s; whoever is not back by then hangs.
const TIME_LIMIT_MS: i32 = 150_000;
/// Hundreds of attempts in one sandbox.
const SWEEP_LIMIT_MS: i32 = 600_000;

/// What the probe is started in.
#[derive(Debug, Clone)]
pub enum Surroundings {
    /// Nothing but the belt, with a mount and a UTS namespace of its own, so that attempts do not meet each other's traces.
    Bare,
    /// Debian's bubblewrap, started by root: a weaker sandbox, to see that the probe tells sandboxes apart.
    Bubblewrap,
    /// Stockade, under a policy.
    Stockade {
        /// Name or file.
        policy: String,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It got out.
    Through(String),
    /// It did not.
    Stopped {
        /// The answer it met.
        errno: Option<i32>,
        /// In words.
        detail: String,
    },
    /// Nothing can be said.
    Broken(String),
}

/// The binary `name` next to the test that is running; `STOCKADE_BINARY` names another `stockade`.
///
/// # Panics
/// If it has not been built.
pub fn binary(name: &str) -> PathBuf {
    if name == "stockade"
        && let Some(other) = env::var_os("STOCKADE_BINARY")
    {
        return other.into();
    }
    let test = env::current_exe().expect("a test knows its own program");
    let directory = test.ancestors().nth(2).expect("tests are built below deps");
    let path = directory.join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace` first", path.display());
    path
}

/// Makes one attempt.
pub fn attempt(attempt: &Attempt, surroundings: &Surroundings, planted: &Planted) -> Outcome {
    let laid = match workspace::lay(attempt.workspace, &binary("probe")) {
        Ok(laid) => laid,
        Err(error) => return Outcome::Broken(format!("no workspace: {error}")),
    };
    let mut command = command(surroundings, &laid.path, planted);
    command.args(["./probe", "run", &attempt.id]);
    match run(&mut command) {
        Ok(run) => judge(attempt, &run),
        Err(error) => Outcome::Broken(error),
    }
}

/// Makes every attempt; those that cannot disturb each other one after another in the same sandbox, which is a tenth of
/// the time. The others have a sandbox each: they use up a limit, or need a workspace of their own.
pub fn sweep(attempts: &[Attempt], surroundings: &Surroundings, planted: &Planted) -> Vec<Outcome> {
    let shares = |attempt: &Attempt| {
        attempt.class != Class::Limits && attempt.workspace == crate::attempt::Workspace::Repository
    };
    let together: Vec<&Attempt> = attempts.iter().filter(|attempt| shares(attempt)).collect();
    let run = match workspace::lay(together[0].workspace, &binary("probe")) {
        Ok(laid) => {
            let mut command = command(surroundings, &laid.path, planted);
            command.args(["./probe", "run"]).args(together.iter().map(|attempt| &attempt.id));
            run_within(&mut command, SWEEP_LIMIT_MS)
        }
        Err(error) => Err(format!("no workspace: {error}")),
    };
    let outcome = |wanted: &Attempt| match &run {
        _ if !shares(wanted) => attempt(wanted, surroundings, planted),
        Ok(run) => find(wanted, run),
        Err(error) => Outcome::Broken(error.clone()),
    };
    attempts.iter().map(outcome).collect()
}

/// The line about one attempt among those about many.
fn find(attempt: &Attempt, run: &Run) -> Outcome {
    let lines = run.stdout.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut about = lines.filter(|line| line["id"] == attempt.id.as_str());
    match (about.next(), about.next()) {
        (Some(verdict), None) => read(&verdict),
        _ => Outcome::Broken(format!("not one line about it: {} {}", run.status, run.stderr.trim())),
    }
}

/// The command up to the program and its arguments, which the caller adds.
pub fn command(surroundings: &Surroundings, workspace: &Path, planted: &Planted) -> Command {
    let mut command = match surroundings {
        Surroundings::Bare => {
            let mut command = Command::new("/usr/bin/unshare");
            command.args(["-m", "-u", "--propagation", "private"]).current_dir(workspace);
            command
        }
        Surroundings::Bubblewrap => {
            let mut command = Command::new("/usr/bin/bwrap");
            command.args(["--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]);
            command.args(["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"]);
            command.args(["--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"]);
            command.args([
                "--symlink",
                "usr/lib64",
                "/lib64",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
                "--tmpfs",
                "/tmp",
            ]);
            command.arg("--bind").arg(workspace).arg("/workspace").args(["--chdir", "/workspace"]);
            command
        }
        Surroundings::Stockade { policy } => {
            let mut command = Command::new(binary("stockade"));
            command.args(["run", "--policy", policy, "--workspace"]).arg(workspace);
            for (name, value) in &planted.environment {
                command.arg("--env").arg(format!("{name}={value}"));
            }
            command.arg("--");
            command
        }
    };
    command.envs(planted.environment.iter().map(|(name, value)| (name, value)));
    leak_descriptor(&mut command);
    command
}

/// Lets the child inherit one descriptor that no sandbox may pass on.
fn leak_descriptor(command: &mut Command) {
    // SAFETY: open and dup2 are async-signal-safe; the descriptor stays in the child.
    unsafe {
        command.pre_exec(|| {
            let directory = libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY);
            if directory < 0 || libc::dup2(directory, LEAKED_DESCRIPTOR) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            libc::close(directory);
            Ok(())
        });
    }
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Run {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status.
    pub status: ExitStatus,
}

/// Runs a command within the time limit, with nothing on its standard input.
pub fn run(command: &mut Command) -> Result<Run, String> {
    run_within(command, TIME_LIMIT_MS)
}

/// What it prints is read while it runs: the lines about a sweep fill a pipe.
fn run_within(command: &mut Command, milliseconds: i32) -> Result<Run, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{:?} does not start: {error}", command.get_program()))?;
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    if !ends_within(&child, milliseconds) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("no end within {milliseconds} ms"));
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let text = |reader: Option<JoinHandle<String>>| {
        reader.map(|thread| thread.join().expect("reading does not panic")).unwrap_or_default()
    };
    Ok(Run { stdout: text(stdout), stderr: text(stderr), status })
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the child's end without waiting for the child.
pub fn ends_within(child: &Child, milliseconds: i32) -> bool {
    let Ok(descriptor) = call(libc::SYS_pidfd_open, &[child.id() as usize, 0]) else { return true };
    // SAFETY: pidfd_open(2) has just returned it to us alone.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
    let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) == 1 }
}

/// Exit status and JSON line have to agree.
fn judge(attempt: &Attempt, run: &Run) -> Outcome {
    let line = run.stdout.lines().last().unwrap_or_default();
    let Ok(verdict) = serde_json::from_str::<serde_json::Value>(line) else {
        let killed =
            run.status.signal() == Some(libc::SIGKILL) || run.status.code() == Some(128 + libc::SIGKILL);
        if killed && attempt.class == Class::Limits {
            return Outcome::Stopped { errno: None, detail: "the whole sandbox was killed".into() };
        }
        return Outcome::Broken(format!("{}: {} {}", run.status, run.stdout.trim(), run.stderr.trim()));
    };
    if verdict["id"] != attempt.id.as_str() {
        return Outcome::Broken(format!("an answer about something else: {line}"));
    }
    match (run.status.code(), read(&verdict)) {
        (Some(0), outcome @ Outcome::Through(_)) | (Some(1), outcome @ Outcome::Stopped { .. }) => outcome,
        (_, outcome) => Outcome::Broken(format!("{}: {outcome:?} {}", run.status, run.stderr.trim())),
    }
}

/// What one JSON line says.
fn read(verdict: &serde_json::Value) -> Outcome {
    let detail = verdict["detail"].as_str().unwrap_or_default().to_owned();
    match verdict["through"].as_bool() {
        Some(true) => Outcome::Through(detail),
        Some(false) => {
            Outcome::Stopped { errno: verdict["errno"].as_i64().map(|errno| errno as i32), detail }
        }
        None => Outcome::Broken(detail),
    }
}

/// Whether a program is installed; a test that needs it says so itself.
pub fn is_installed(path: &str) -> bool {
    fs::metadata(path).is_ok()
}
