//! One program of the service: started, started again when it ends, told to end.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::tree::DaemonUser;
use crate::client::output::Output;
use crate::sys::child::end_with_parent;

/// Between an end and the next start.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// Whoever ran for so long did not fail at its start.
const STEADY: Duration = Duration::from_secs(10);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(15);
/// Of what it says on one line, so much is passed on.
const LONGEST_LINE: usize = 16 * 1024;

/// What is started.
pub struct Program {
    /// For people.
    pub name: &'static str,
    /// Which file.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// As whom; none: root.
    pub user: Option<DaemonUser>,
    /// The socket that it serves, as a service manager hands it over (sd_listen_fds(3)). It stays open when the program
    /// ends, so that nobody is refused meanwhile.
    pub listener: Option<TcpListener>,
}

/// It ended without having been told to.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub name: &'static str,
    /// How.
    pub how: String,
}

/// Puts standard input where a service manager puts sockets, and says whose they are: this process, which becomes the
/// program.
const HAND_OVER: &str =
    r#"exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$@""#;

impl Program {
    /// Keeps it running until `stop`, then ends it.
    pub async fn keep(self, output: Output, ended: mpsc::Sender<Ended>, mut stop: watch::Receiver<bool>) {
        let mut pause = SHORTEST;
        loop {
            let begun = Instant::now();
            let how = match self.start(output) {
                Err(error) => format!("cannot be started: {}: {error}", self.path.display()),
                Ok(mut child) => {
                    tokio::select! {
                        status = child.wait() => told(status),
                        () = stopped(&mut stop) => return end(child).await,
                    }
                }
            };
            let how = Ended { name: self.name, how };
            output.remark(&format!("{} {}; starting it again", how.name, how.how));
            // Full: what is in there already says enough.
            let _ = ended.try_send(how);
            if begun.elapsed() > STEADY {
                pause = SHORTEST;
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST),
                () = stopped(&mut stop) => return,
            }
        }
    }

    fn start(&self, output: Output) -> io::Result<Child> {
        let mut command = match &self.listener {
            None => std::process::Command::new(&self.path),
            Some(listener) => {
                let mut command = std::process::Command::new("/bin/sh");
                command.args(["-c", HAND_OVER, "sh"]).arg(&self.path);
                command.stdin(OwnedFd::from(listener.try_clone()?));
                command
            }
        };
        if self.listener.is_none() {
            command.stdin(Stdio::null());
        }
        command.args(&self.arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What its user exported is no business of a service's, but for how much it says.
        command.env_clear();
        for name in ["PATH", "LANG", "STOCKADE_LOG", "STOCKADE_LOG_FORMAT", "RUST_BACKTRACE"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        // Ctrl-C is for us.
        command.process_group(0).current_dir("/");
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        end_with_parent(&mut command);
        let mut child = tokio::process::Command::from(command).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let quiet = output.voice.quiet;
        tokio::spawn(pass_on(self.name, stdout, quiet));
        tokio::spawn(pass_on(self.name, stderr, quiet));
        Ok(child)
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody left to say so is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn told(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("cannot be waited for: {error}"),
    }
}

/// SIGTERM, and SIGKILL if that is not heeded.
async fn end(mut child: Child) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Its lines, with its name before each. It is read even if nobody wants to know, or it would wait for us.
async fn pass_on(name: &str, stream: Option<impl AsyncRead + Unpin>, quiet: bool) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        let (taken, is_end) = match reader.fill_buf().await {
            Err(_) | Ok([]) => (0, true),
            Ok(bytes) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let room = LONGEST_LINE - line.len();
                let piece = &bytes[..end.unwrap_or(bytes.len())];
                line.extend_from_slice(&piece[..piece.len().min(room)]);
                (end.map_or(bytes.len(), |end| end + 1), end.is_some())
            }
        };
        reader.consume(taken);
        if is_end && !quiet && !line.is_empty() {
            let _ = writeln!(io::stderr(), "{name}: {}", String::from_utf8_lossy(&line));
        }
        if is_end {
            line.clear();
        }
        if taken == 0 {
            return;
        }
    }
}
