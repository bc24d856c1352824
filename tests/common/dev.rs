//! A whole service as a developer has it: `stockade dev` under a directory of the test's own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The program under test.
pub const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

/// No wait in a test is longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service, up to the end of the test.
pub struct Dev {
    dir: PathBuf,
    process: Option<Child>,
    _parent: Option<tempfile::TempDir>,
}

impl Dev {
    /// Starts one in a fresh directory, and waits until it serves.
    pub fn start() -> Self {
        let parent = tempfile::Builder::new().prefix("stockade-").tempdir().expect("a directory");
        open(parent.path());
        let dir = parent.path().join("dev");
        Self { process: Some(serve(&dir)), dir, _parent: Some(parent) }
    }

    /// Starts another one over the same directory, after the first was killed.
    pub fn start_again(&mut self) {
        self.process = Some(serve(&self.dir));
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `stockade WORDS`, as its administrator.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(STOCKADE);
        command.args(words).env("STOCKADE_CLIENT_CONFIG", self.dir.join("client.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("stockade starts")
    }

    /// Runs what must go well; what it printed.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {}: {err}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }

    /// Starts a script as agent, under the policy `shell`.
    pub fn shell(&self, id: &str, script: &str) {
        assert_eq!(
            self.ok(&["spawn", "--type", "shell", "--id", id, "--", "sh", "-c", script]),
            format!("{id}\n")
        );
    }

    /// Runs something until it prints what is wanted.
    pub fn until(&self, words: &[&str], is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let printed = self.ok(words);
            if is_so(&printed) {
                return printed;
            }
            assert!(Instant::now() < deadline, "{words:?} never printed it; the last was:\n{printed}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The pid of one of its programs.
    pub fn pid_of(&self, program: &str) -> Pid {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(pid) = self.pids().into_iter().find(|(name, _)| name == program) {
                return Pid::from_raw(pid.1).expect("a pid");
            }
            assert!(Instant::now() < deadline, "{program} does not run");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills one of its programs.
    pub fn kill(&self, program: &str) {
        kill_process(self.pid_of(program), Signal::KILL).expect("it runs");
    }

    /// Kills `stockade dev` itself; the kernel ends its programs.
    pub fn kill_itself(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it runs");
        process.wait().expect("it ended");
        self.gone(&["stockaded", "stockade-launch"]);
    }

    /// Ctrl-C; returns once it has ended.
    pub fn end(&mut self) {
        let mut process = self.process.take().expect("it runs");
        kill_process(Pid::from_child(&process), Signal::INT).expect("it runs");
        let status = process.wait().expect("it ended");
        assert!(status.success(), "{status}");
    }

    /// Waits until none of these programs runs in this tree.
    pub fn gone(&self, programs: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while self.pids().iter().any(|(name, _)| programs.contains(&name.as_str())) {
            assert!(Instant::now() < deadline, "still there: {:?}", self.pids());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Every process that names this tree in its command line, or has a file of it open: name (15 characters) and pid.
    pub fn pids(&self) -> Vec<(String, i32)> {
        let own = std::process::id().to_string();
        let dir = self.dir.to_string_lossy().into_owned();
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|pid| *pid != own);
        let is_ours = |pid: &str| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let opened = files.filter_map(|file| std::fs::read_link(file.path()).ok());
            String::from_utf8_lossy(&line).contains(&dir)
                || opened.into_iter().any(|path| path.starts_with(&dir))
        };
        let found = pids.filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| is_ours(&pid.to_string()));
        // One that has ended meanwhile has none.
        let name = |pid: i32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some((name.trim_end().to_owned(), pid))
        };
        found.filter_map(name).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind either.
        if let Some(mut process) = self.process.take() {
            let pid = Pid::from_child(&process);
            let _ = kill_process(pid, Signal::INT);
            let _ = kill_process(pid, Signal::INT);
            let _ = process.wait();
        }
    }
}

/// The daemon is not root, and must come through.
fn open(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("opened");
}

fn serve(dir: &Path) -> Child {
    let mut command = Command::new(STOCKADE);
    command.args(["dev", "--listen", "127.0.0.1:0", "--dir"]).arg(dir);
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("stockade starts");
    let log = tee(process.stderr.take().expect("piped"));
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("text");
    let told = || log.join().expect("a log");
    assert!(line.starts_with("ready https://127.0.0.1:"), "{line:?}\n{}", told());
    process
}

/// What it says is shown when a test fails, as the test's own output.
fn tee(stderr: ChildStderr) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut all = String::new();
        let mut reader = BufReader::new(stderr);
        // Its end is the end of the service.
        let _ = reader.read_to_string(&mut all);
        all
    })
}
