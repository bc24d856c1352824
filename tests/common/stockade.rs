//! `stockade run`, as a script calls it.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use super::leaks;

/// The program under test.
pub const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

/// `stockade run OPTIONS`, without any stream of the test's own.
pub fn run(options: &[&str]) -> Command {
    let mut command = Command::new(STOCKADE);
    command.arg("run").args(options).stdin(Stdio::null());
    command
}

/// `stockade run --policy shell OPTIONS -- sh -c SCRIPT`.
pub fn shell(options: &[&str], script: &str) -> Command {
    let mut command = run(&["--policy", "shell"]);
    command.args(options).args(["--", "sh", "-c", script]);
    command
}

/// Runs it to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("stockade starts")
}

/// What it said on standard error.
pub fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A sandbox that is up, and whose output is read by this test.
pub struct Running {
    /// `stockade run`.
    pub child: Child,
    stdout: ChildStdout,
}

impl Running {
    /// Starts it and waits for `up` and a newline on its standard output.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("stockade starts");
        let stdout = child.stdout.take().expect("it was piped");
        let mut running = Self { child, stdout };
        running.expect("up\n");
        running
    }

    /// Reads exactly this.
    pub fn expect(&mut self, text: &str) {
        let mut read = vec![0; text.len()];
        let result = self.stdout.read_exact(&mut read);
        let read = String::from_utf8_lossy(&read);
        assert!(result.is_ok() && read == text, "{read:?} instead of {text:?}: {result:?}");
    }

    /// All of its standard error, which must be piped, after its end.
    pub fn told(&mut self) -> String {
        let mut told = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
        told
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The keeper and init: its two children, the second of which is in a PID namespace below this one.
    pub fn keeper_and_init(&self) -> (u32, u32) {
        let of = |is_init: bool| {
            let children =
                leaks::pids().into_iter().filter(|pid| field(*pid, "PPid") == self.pid().to_string());
            let mut found =
                children.filter(|pid| (field(*pid, "NSpid").split_whitespace().count() > 1) == is_init);
            found.next().expect("stockade run has a keeper and an init")
        };
        (of(false), of(true))
    }

    /// The agent, as this machine numbers it: the child of init.
    pub fn agent(&self) -> u32 {
        let (_, init) = self.keeper_and_init();
        let mut children = leaks::pids().into_iter().filter(|pid| field(*pid, "PPid") == init.to_string());
        children.next().expect("init has a child")
    }

    /// Sends a signal to `stockade run`.
    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it is our child")
    }
}

/// kill(2) of a process of this machine; one that is gone is fine.
pub fn kill(pid: u32, signal: i32) {
    let signal = nix::sys::signal::Signal::try_from(signal).expect("a signal");
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal);
}

/// One line of /proc/PID/status; empty if the process is gone.
pub fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// A fresh directory on the disk: not every kernel can idmap a tmpfs.
pub fn directory() -> tempfile::TempDir {
    // Cargo has made it where it was built, which need not be here.
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).expect("made");
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// As an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}
