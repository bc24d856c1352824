//! What is asked of a shim: what its agent uses, something else to run, a secret.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::agent::{Command, ExecOrder, Handle};
use super::shared::Shared;
use super::times::now;
use super::{Result, SupervisorError};
use crate::api::agent::{Exec, ExecResult, Stats};
use crate::wire::service::launcher::Reason;
use crate::wire::service::shim::Usage;
use crate::wire::service::{Ended, LONGEST_FRAME, Refusal, places};

/// How long a shim may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long something else may run where nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of each stream.
const MOST: u64 = 1024 * 1024;

/// Longest command, variables and secret, as JSON: two of them and a name still fit into a frame.
const LONGEST: usize = LONGEST_FRAME / 2 - 1024;

pub(super) async fn stats(shared: &Shared, handle: Arc<Handle>) -> Result<Stats> {
    let usage = if handle.is_active() {
        let (asker, told) = oneshot::channel();
        ask(&handle, Command::Usage(asker), told, "what it uses").await?
    } else {
        ended_usage(shared, &handle.id).unwrap_or_default()
    };
    let agent = handle.shown.borrow().clone();
    let since = |text: &str| text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond());
    let started = agent.started_at.as_deref().and_then(since);
    let until = agent.ended_at.as_deref().and_then(since).unwrap_or(now() as i64);
    Ok(Stats {
        id: handle.id.clone(),
        cpu_seconds: usage.cpu_us.map(|us| us as f64 / 1e6),
        memory: usage.memory,
        memory_peak: usage.memory_peak,
        processes: usage.processes,
        sent: usage.sent,
        received: usage.received,
        refused: usage.refused,
        uptime: started.map(|started| (until - started).max(0) as f64 / 1e3),
        output: handle.terminal.extent().end,
    })
}

fn ended_usage(shared: &Shared, id: &str) -> Option<Usage> {
    let text = std::fs::read(shared.places.agent(id).join(places::EXIT)).ok()?;
    serde_json::from_slice::<Ended>(&text).ok().map(|ended| ended.usage)
}

/// Asks its task, and waits for what the shim says.
async fn ask(
    handle: &Handle,
    command: Command,
    told: oneshot::Receiver<std::result::Result<Usage, Refusal>>,
    what: &str,
) -> Result<Usage> {
    let state = handle.shown.borrow().state.as_str();
    let absent =
        || SupervisorError::State { id: handle.id.clone(), state, what: "its shim cannot be asked now" };
    handle.commands.send(command).await.map_err(|_| absent())?;
    match tokio::time::timeout(ANSWER, told).await {
        Ok(Ok(answer)) => Ok(answer?),
        Ok(Err(_)) => Err(absent()),
        Err(_) => Err(SupervisorError::Timeout {
            what: format!("{what}: the shim of {}", handle.id),
            after: ANSWER,
        }),
    }
}

pub(super) async fn secret(handle: Arc<Handle>, name: &str, value: String) -> Result<()> {
    fits("value", &value)?;
    let (told, answer) = oneshot::channel();
    let command = Command::Secret { name: name.to_owned(), value, told };
    ask(&handle, command, answer, "taking a secret").await.map(drop)
}

pub(super) async fn exec(handle: Arc<Handle>, exec: Exec) -> Result<ExecResult> {
    if exec.command.first().is_none_or(String::is_empty) {
        let detail = "the program is missing: name it, and its arguments".into();
        return Err(SupervisorError::Field { field: "command", detail, malformed: false });
    }
    super::request::words("command", &exec.command)?;
    super::request::environment(&exec.env)?;
    fits("command", &exec.command)?;
    fits("env", &exec.env)?;
    let patience = exec.timeout_ms.map_or(PATIENCE, Duration::from_millis);
    let failed =
        |source| SupervisorError::Io { what: format!("running something in agent {}", handle.id), source };
    let (theirs, ours) = streams().map_err(failed)?;
    let (asker, ended) = oneshot::channel();
    let number = uuid::Uuid::now_v7().as_u64_pair().1;
    let order =
        ExecOrder { number, command: exec.command, environment: exec.env, streams: theirs, ended: asker };
    let state = handle.shown.borrow().state.as_str();
    let absent =
        || SupervisorError::State { id: handle.id.clone(), state, what: "its shim cannot be asked now" };
    handle.commands.send(Command::Exec(Box::new(order))).await.map_err(|_| absent())?;
    let _abandoned = Abandoned { handle: &handle, number };
    let all = async {
        let (mut stdin, mut stdout, mut stderr) = ours;
        let write = async move {
            // It may end without having read it.
            let _ = stdin.write_all(exec.stdin.as_bytes()).await;
        };
        let (ended, stdout, stderr, ()) = tokio::join!(ended, read(&mut stdout), read(&mut stderr), write);
        (ended, stdout, stderr)
    };
    let what = || format!("{}: something that was run in it", handle.id);
    let timed_out = |_| SupervisorError::Timeout { what: what(), after: patience };
    let (ended, stdout, stderr) = tokio::time::timeout(patience, all).await.map_err(timed_out)?;
    let exit_code = match ended.map_err(|_| absent())? {
        Ok(code) => code,
        Err(detail) => return Err(Refusal { reason: Reason::Host, detail, field: None }.into()),
    };
    let truncated = stdout.1 || stderr.1;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(ExecResult { exit_code, stdout: text(stdout.0), stderr: text(stderr.0), truncated })
}

/// Whoever asked for it no longer waits, for whatever reason: what still runs of it is killed.
struct Abandoned<'a> {
    handle: &'a Handle,
    number: u64,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        // It has ended, mostly, and its task knows; a task that has ended or is overrun leaves it to the agent's end.
        let _ = self.handle.commands.try_send(Command::EndExec(self.number));
    }
}

/// Whether this fits into a message to a shim, which closes the connection over a longer one.
fn fits(field: &'static str, what: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_vec(what).expect("words are always JSON");
    let length = text.len();
    super::request::wipe(text);
    if length <= LONGEST {
        return Ok(());
    }
    let detail = format!("as JSON it has {length} bytes, and {LONGEST} is the most");
    Err(SupervisorError::Field { field, detail, malformed: false })
}

type Ours = (pipe::Sender, pipe::Receiver, pipe::Receiver);

/// Three pipes: the ends for what is run, and ours.
fn streams() -> std::io::Result<([OwnedFd; 3], Ours)> {
    let made = || pipe_with(PipeFlags::CLOEXEC);
    let ((stdin, write), (out, stdout), (err, stderr)) = (made()?, made()?, made()?);
    for own in [&write, &out, &err] {
        rustix::io::ioctl_fionbio(own, true)?;
    }
    let ours = (
        pipe::Sender::from_owned_fd(write)?,
        pipe::Receiver::from_owned_fd(out)?,
        pipe::Receiver::from_owned_fd(err)?,
    );
    Ok(([stdin, stdout, stderr], ours))
}

/// All of a stream, up to a limit; whether there was more. What is beyond is read and dropped: nobody gets stuck.
async fn read(stream: &mut pipe::Receiver) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    // A stream that fails has ended.
    let _ = (&mut *stream).take(MOST).read_to_end(&mut all).await;
    let mut more = false;
    let mut rest = [0; 8192];
    while let Ok(1..) = stream.read(&mut rest).await {
        more = true;
    }
    (all, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_frame_can_carry_is_refused_before_it_is_said_to_have_arrived() {
        fits("value", &"x".repeat(LONGEST - 2)).expect("it fits");
        // One character, six bytes.
        for long in ["x".repeat(LONGEST), "\u{1}".repeat(LONGEST / 6 + 1)] {
            assert!(matches!(fits("value", &long), Err(SupervisorError::Field { field: "value", .. })));
        }
    }
}
