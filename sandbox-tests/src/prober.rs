//! The `probe` command: `list`, `run ID…`, `euid`.
//!
//! ```text
//!  probe run ID ──fork──▶ attempt        may be killed by the filter, may hang, may lose its own rights
//!      │ 120 s              │ verdict over a pipe
//!      └──── one JSON line ◀┘            exit 0 through · 1 stopped · 3 could not be tried
//! ```
//! Of several attempts each gets a child and a line of its own; the exit status is the last one's.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::{env, fs};

use crate::attempt::{Attempt, Class, Verdict, Workspace};
use crate::attempts;
use crate::decoys::{Decoys, variable};
use crate::kernel;

/// An attempt that takes longer has failed to be one. None needs a second; a machine that is busy with something else may.
const TIME_LIMIT_MS: i32 = 120_000;
/// Exit status for "could not be tried".
const BROKEN: u8 = 3;

/// Runs the command line.
pub fn main() -> ExitCode {
    // First of all, before anything here opens a descriptor of its own.
    let inherited = inherited_descriptors();
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["list"] => list(false),
        ["list", "--json"] => list(true),
        ["run", ids @ .., last] => {
            for id in ids {
                run(id, &inherited);
            }
            run(last, &inherited)
        }
        ["euid"] => euid(),
        _ => {
            eprintln!("usage: probe list [--json] | probe run ID…");
            ExitCode::from(BROKEN)
        }
    }
}

fn inherited_descriptors() -> Vec<i32> {
    // SAFETY: F_GETFD reads a flag of a descriptor, or answers EBADF.
    (3..1024).filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1).collect()
}

/// What a set-uid copy of this program says about itself.
fn euid() -> ExitCode {
    // SAFETY: geteuid(2) always succeeds.
    println!("{}", unsafe { libc::geteuid() });
    ExitCode::SUCCESS
}

fn list(as_json: bool) -> ExitCode {
    for attempt in attempts::all() {
        if as_json {
            let line = serde_json::json!({
                "id": attempt.id, "class": attempt.class.to_string(), "reference": attempt.reference,
                "success": attempt.success, "mutates": attempt.mutates,
                "emptyWorkspace": attempt.workspace == Workspace::Empty,
                "mayFailBare": attempt.excuses.iter().map(|e| e.because).collect::<Vec<_>>(),
            });
            println!("{line}");
        } else {
            println!("{:<26} {:<11} {}  [{}]", attempt.id, attempt.class, attempt.success, attempt.reference);
        }
    }
    ExitCode::SUCCESS
}

fn run(id: &str, inherited: &[i32]) -> ExitCode {
    let verdict = attempts::find(id)
        .ok_or_else(|| format!("no attempt is called {id:?}; see `probe list`"))
        .and_then(|attempt| {
            if attempt.mutates {
                prove_belt()?;
            }
            let decoys = Decoys::from_environment(inherited.to_vec())?;
            in_a_child(&attempt, &decoys)
        });
    report(id, &verdict.unwrap_or_else(Verdict::Broken))
}

fn report(id: &str, verdict: &Verdict) -> ExitCode {
    let (through, errno, detail, status) = match verdict {
        Verdict::Through(detail) => (Some(true), None, detail, 0),
        Verdict::Stopped { errno, detail } => (Some(false), *errno, detail, 1),
        Verdict::Broken(detail) => (None, None, detail, BROKEN),
    };
    println!("{}", serde_json::json!({ "id": id, "through": through, "errno": errno, "detail": detail }));
    ExitCode::from(status)
}

/// Refuses unless all of this process's namespaces differ from the machine's own, which the runner has noted.
fn prove_belt() -> Result<(), String> {
    let machine = env::var(variable::BELT).map_err(|_| {
        format!(
            "{} is not set: this attempt changes its surroundings and only runs inside a belt",
            variable::BELT
        )
    })?;
    let mut compared = 0;
    for note in machine.split_whitespace() {
        let kind = note.split(':').next().unwrap_or_default();
        let own = fs::read_link(format!("/proc/self/ns/{kind}"))
            .map_err(|error| format!("/proc/self/ns/{kind}: {error}"))?;
        if own.to_string_lossy() == note {
            return Err(format!("the {kind} namespace is the machine's own: there is no belt"));
        }
        compared += 1;
    }
    if compared >= 5 {
        Ok(())
    } else {
        Err(format!("{} names {compared} namespaces, not five", variable::BELT))
    }
}

fn in_a_child(attempt: &Attempt, decoys: &Decoys) -> Result<Verdict, String> {
    let (mut reader, mut writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    // SAFETY: this process has one thread, so the child may go on running ordinary code.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(format!("no process: {}", kernel::describe(kernel::errno()))),
        0 => {
            drop(reader);
            let sent = writer.write_all(encode(&attempt.carry_out(decoys)).as_bytes());
            // SAFETY: ends the child without running anything that belongs to its parent.
            unsafe { libc::_exit(i32::from(sent.is_err())) }
        }
        child => {
            drop(writer);
            let in_time =
                readable_within(&reader.try_clone().map_err(|e| e.to_string())?.into(), TIME_LIMIT_MS);
            if !in_time {
                // SAFETY: the child has not been waited for, so its pid is still its own.
                unsafe { libc::kill(child, libc::SIGKILL) };
            }
            let mut line = String::new();
            reader.read_to_string(&mut line).map_err(|error| format!("no verdict: {error}"))?;
            judge(attempt, in_time, wait(child), &line)
        }
    }
}

fn readable_within(descriptor: &OwnedFd, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) == 1 }
}

fn wait(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is written by the kernel and lives through the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    status
}

fn judge(attempt: &Attempt, in_time: bool, status: i32, line: &str) -> Result<Verdict, String> {
    if !in_time {
        return Err("no verdict within 120 s".into());
    }
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        return match signal {
            libc::SIGSYS => Ok(Verdict::absent("killed by the filter (SIGSYS)")),
            // A kernel without the 32-bit entry answers `int 0x80` with a fault.
            libc::SIGSEGV if attempt.class == Class::Abi => Ok(Verdict::absent("faulted (SIGSEGV)")),
            libc::SIGKILL if attempt.class == Class::Limits => {
                Ok(Verdict::absent("killed by a limit (SIGKILL)"))
            }
            other => Err(format!("killed by signal {other}")),
        };
    }
    decode(line).ok_or_else(|| format!("no verdict, exit status {}", libc::WEXITSTATUS(status)))
}

fn encode(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Through(detail) => format!("through\n{detail}"),
        Verdict::Stopped { errno, detail } => format!("stopped {}\n{detail}", errno.unwrap_or(0)),
        Verdict::Broken(detail) => format!("broken\n{detail}"),
    }
}

fn decode(text: &str) -> Option<Verdict> {
    let (head, detail) = text.split_once('\n')?;
    match head.split_once(' ') {
        None if head == "through" => Some(Verdict::Through(detail.into())),
        None if head == "broken" => Some(Verdict::Broken(detail.into())),
        Some(("stopped", errno)) => {
            let errno = errno.parse().ok()?;
            Some(Verdict::Stopped { errno: (errno != 0).then_some(errno), detail: detail.into() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_survives_the_pipe() {
        for verdict in [
            Verdict::through("two\nlines"),
            Verdict::refused(libc::EPERM, "no"),
            Verdict::absent(""),
            Verdict::Broken("why".into()),
        ] {
            assert_eq!(decode(&encode(&verdict)), Some(verdict));
        }
    }

    #[test]
    fn an_empty_answer_is_no_verdict() {
        assert_eq!(decode(""), None);
        assert_eq!(decode("stopped x\n"), None);
    }
}
