//! Pid 1 of the sandbox: starts the agent, reaps what is orphaned, passes signals on, ends when the agent ends.
//!
//! It is as confined as the agent: everything was given up before this point. It is not dumpable, so the agent
//! cannot read or trace it, and it holds nothing but three streams and its end of the socket.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};

use super::step::{At, JailError, On, Step};
use super::{Stream, capabilities, dialer, extra, files};
use crate::plan::{Command, Plan, User};
use crate::sys;
use crate::wire::service::order::File;
use crate::wire::{self, FromInit, ToInit};

/// What there is to start.
pub struct Start<'a> {
    /// What was decided.
    pub plan: &'a Plan,
    /// The way to the shim.
    pub socket: &'a OwnedFd,
    /// The agent's.
    pub streams: [Stream; 3],
    /// Whether the shim is to be told when the command was executed.
    pub announce: bool,
    /// To be written before.
    pub files: &'a [File],
}

/// Starts the agent and stays until it has ended; then this process exits, and the kernel ends all that is left of
/// the pid namespace (pid_namespaces(7)).
pub fn run(start: Start<'_>, dialer: Option<OwnedFd>) -> Result<Infallible, JailError> {
    let Start { plan, socket, streams, announce, .. } = start;
    let terminal =
        (0..).zip(streams).find(|(_, s)| *s == Stream::Terminal).map(|(n, _)| sys::fd::standard(n));
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Blocked before the agent exists, so that not even its immediate end is missed.
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let mut blocked = children;
    // Init gives the agent the foreground back after a stop, being in the background itself (tcsetpgrp(3)).
    blocked.add(Signal::SIGTTOU);
    sys::signal::set_mask(&blocked).at(Step::Signals)?;
    let ended =
        SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).at(Step::Signals)?;

    // Returns once the agent is executed, in a process group of its own: a signal that is already waiting finds it.
    let agent = sys::process::spawn_shared(&mut || begin(&start, terminal)).at(Step::Exec)?;
    let agent = Pid::from_raw(agent);
    if announce {
        // After its own word, if it was not executed.
        FromInit::Started.send(socket.as_fd(), None).at(Step::Report)?;
    }
    // The agent-to-be changed its uid on memory that it shared with this process (prctl(2), PR_SET_DUMPABLE).
    capabilities::tether().at(Step::Tether)?;
    let mut household =
        Household { agent, plan, terminal, socket, dialer, ended: &ended, extras: Vec::new() };
    household.attend().at(Step::Report)?;
    sys::process::exit_now(0)
}

/// The agent's side: foreground of the terminal, then exec. Its pid and process group are the same.
fn begin(start: &Start<'_>, terminal: Option<BorrowedFd<'_>>) -> ! {
    let command = &start.plan.command;
    let error = match prepare(start, terminal) {
        Ok(()) => JailError {
            step: Step::Exec,
            object: command.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            source: exec(command),
        },
        Err(error) => error,
    };
    let failed = FromInit::Failed {
        step: error.step as u8,
        errno: error.source.raw_os_error().unwrap_or(libc::ENOEXEC),
        detail: error.object,
    };
    let _ = failed.send(start.socket.as_fd(), None);
    sys::process::exit_now(127)
}

fn prepare(start: &Start<'_>, terminal: Option<BorrowedFd<'_>>) -> Result<(), JailError> {
    capabilities::become_agent(&start.plan.user).at(Step::Privileges)?;
    let directory = &start.plan.command.directory;
    rustix::process::chdir(directory).on(directory.display()).at(Step::Directory)?;
    files::write(start.files, &start.plan.user.home).at(Step::Files)?;
    rustix::process::setpgid(None, None).at(Step::Terminal)?;
    if let Some(terminal) = terminal {
        // A background process that takes the foreground gets SIGTTOU; still blocked here, reset below.
        rustix::termios::tcsetpgrp(terminal, rustix::process::getpid()).at(Step::Terminal)?;
    }
    sys::signal::set_mask(&SigSet::empty()).at(Step::Signals)
}

/// Looks the program up in PATH as execvp(3) does, and executes it. Returns only the error.
pub fn exec(command: &Command) -> io::Error {
    let text = |s: &OsStr| CString::new(s.as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    let strings = |list: Vec<OsString>| list.iter().map(|s| text(s)).collect::<io::Result<Vec<CString>>>();
    let pairs = command.environment.iter().map(|(k, v)| {
        let mut pair = OsString::from(k);
        pair.push("=");
        pair.push(v);
        pair
    });
    let (argv, environment) = match (strings(command.argv.clone()), strings(pairs.collect())) {
        (Ok(argv), Ok(environment)) => (argv, environment),
        (Err(error), _) | (_, Err(error)) => return error,
    };
    let pointers =
        |list: &[CString]| list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let Some(name) = argv.first() else { return io::Error::from_raw_os_error(libc::ENOENT) };
    let mut error = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates(name, command) {
        let attempt = sys::process::execve(&candidate, &pointers(&argv), &pointers(&environment));
        match attempt.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => error = attempt, // maybe a later directory has one that may be executed
            _ => return attempt,
        }
    }
    error
}

fn candidates(name: &CString, command: &Command) -> Vec<CString> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.clone()];
    }
    if name.is_empty() {
        return Vec::new(); // not each directory of PATH itself (execvp(3): ENOENT)
    }
    let path = command.environment.get("PATH").map(|p| p.as_bytes()).unwrap_or_default();
    path.split(|c| *c == b':')
        .filter(|directory| directory.starts_with(b"/"))
        .filter_map(|directory| CString::new([directory, b"/", name.as_bytes()].concat()).ok())
        .collect()
}

/// Everything that pid 1 looks after.
struct Household<'a> {
    agent: Pid,
    plan: &'a Plan,
    terminal: Option<BorrowedFd<'a>>,
    socket: &'a OwnedFd,
    dialer: Option<OwnedFd>,
    ended: &'a SignalFd,
    /// What else was started: pid, and the number by which the shim knows it.
    extras: Vec<(i32, i32)>,
}

impl Household<'_> {
    /// Reaps, forwards and reports until the agent has ended or the shim is gone.
    fn attend(&mut self) -> io::Result<()> {
        loop {
            let mut fds =
                vec![PollFd::new(self.ended, PollFlags::IN), PollFd::new(self.socket, PollFlags::IN)];
            fds.extend(self.dialer.iter().map(|dialer| PollFd::new(dialer, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let (child, shim) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            let dialed = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
            drop(fds);
            if dialed {
                self.dialer = self.dialer.take().filter(dialer::answer);
            }
            if child {
                while self.ended.read_signal()?.is_some() {}
                if let Some(status) = self.reap()? {
                    return FromInit::Ended(status).send(self.socket.as_fd(), None);
                }
            }
            if shim {
                self.obey()?;
            }
        }
    }

    fn obey(&mut self) -> io::Result<()> {
        let (message, fds) = wire::expect_with(self.socket.as_fd(), wire::MOST_OF_EXEC)?;
        let user = &self.plan.user;
        match message {
            ToInit::Signal(number) => signal_group(self.agent, user, number),
            ToInit::Resume => {
                if let Some(terminal) = self.terminal {
                    // Best effort: the agent may have moved its own foreground group meanwhile.
                    let _ = nix::unistd::tcsetpgrp(terminal, self.agent);
                }
                signal_group(self.agent, user, libc::SIGCONT)
            }
            ToInit::Exec(number) => {
                let started = extra::start(self.plan, fds);
                // As after the agent's own start.
                capabilities::tether()?;
                match started {
                    Ok(pid) => self.extras.push((pid, number)),
                    // As one that could not be executed.
                    Err(_) => FromInit::ExecEnded(number, 126 << 8).send(self.socket.as_fd(), None)?,
                }
                Ok(())
            }
            ToInit::EndExec(number) => {
                // It is in the list, so it was not reaped: nobody else has its pid.
                let found = self.extras.iter().find(|(_, extra)| *extra == number);
                found.map_or(Ok(()), |(pid, _)| signal_group(Pid::from_raw(*pid), user, libc::SIGKILL))
            }
            ToInit::Dial(port) => {
                fds.first().into_iter().for_each(|asker| dialer::hand_out(port, asker));
                Ok(())
            }
            other => Err(io::Error::other(format!("unexpected {other:?}"))),
        }
    }

    /// Reaps every child that has ended; the raw status once the agent is among them.
    fn reap(&mut self) -> io::Result<Option<i32>> {
        loop {
            let Some((pid, status)) = sys::process::wait_any()? else { return Ok(None) };
            let stopped = libc::WIFSTOPPED(status);
            if pid != self.agent.as_raw() {
                let extra = self.extras.iter().position(|(extra, _)| *extra == pid && !stopped);
                if let Some(at) = extra {
                    let (_, number) = self.extras.swap_remove(at);
                    FromInit::ExecEnded(number, status).send(self.socket.as_fd(), None)?;
                }
                continue;
            }
            if stopped {
                FromInit::Stopped(libc::WSTOPSIG(status)).send(self.socket.as_fd(), None)?;
            } else {
                return Ok(Some(status));
            }
        }
    }
}

/// The group may be gone already; then there is nobody left to tell.
fn signal_group(agent: Pid, user: &User, number: i32) -> io::Result<()> {
    let Ok(signal) = Signal::try_from(number) else { return Ok(()) };
    capabilities::as_agent(user, || {
        let _ = nix::sys::signal::killpg(agent, signal);
    })
}
