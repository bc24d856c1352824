//! Something else that is run within an agent's walls: a child of init like the agent, with streams of its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::SigSet;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::pty::OpenptFlags;

use super::step::exec_cause;
use super::{capabilities, init};
use crate::plan::{Command, Plan};
use crate::sys::{fd, process, signal};
use crate::wire::{self, Extra};

/// Longest words.
const LONGEST: u64 = 1 << 20;

/// As a shell says it: cannot be executed; was not found.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Starts it; its pid. One that cannot be executed ends at once, with a shell's exit code, and says why where its errors go.
pub fn start(plan: &Plan, fds: Vec<OwnedFd>) -> io::Result<i32> {
    let mut fds = fds.into_iter();
    let words = fds.next().ok_or(io::ErrorKind::InvalidData)?;
    let streams: Vec<OwnedFd> = fds.collect();
    let command = command(plan, words)?;
    process::spawn_shared(&mut || {
        let result = match streams.as_slice() {
            [stdin, stdout, stderr] => place([stdin, stdout, stderr]).and_then(|()| become_it(plan, false)),
            [socket] => become_it(plan, true).and_then(|()| open_terminal(socket)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
        let error = result.err().unwrap_or_else(|| init::exec(&command));
        let name = command.argv.first().map(|name| name.to_string_lossy()).unwrap_or_default();
        let _ =
            rustix::io::write(fd::fixed(2), format!("stockade: {name}: {}\n", exec_cause(&error)).as_bytes());
        let code = match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        };
        process::exit_now(code)
    })
}

fn command(plan: &Plan, words: OwnedFd) -> io::Result<Command> {
    let mut text = Vec::new();
    std::fs::File::from(words).take(LONGEST).read_to_end(&mut text)?;
    let Extra { command, environment } = serde_json::from_slice(&text)?;
    let mut all: BTreeMap<String, OsString> = plan.command.environment.clone();
    all.extend(environment.into_iter().map(|(name, value)| (name, value.into())));
    Ok(Command {
        argv: command.into_iter().map(OsString::from).collect(),
        environment: all,
        directory: plan.command.directory.clone(),
    })
}

/// The agent's user, in the agent's directory, in a group or a session of its own.
fn become_it(plan: &Plan, leads: bool) -> io::Result<()> {
    capabilities::become_agent(&plan.user)?;
    rustix::process::chdir(&plan.command.directory)?;
    match leads {
        true => drop(rustix::process::setsid()?),
        false => rustix::process::setpgid(None, None)?,
    }
    signal::set_mask(&SigSet::empty())
}

/// Everything else that is open here closes on exec.
fn place(streams: [&OwnedFd; 3]) -> io::Result<()> {
    (0..).zip(streams).try_for_each(|(number, stream)| fd::place(stream.as_fd(), number))
}

/// A terminal of its own, of the sandbox's instance; the master goes to whoever holds the socket's other end.
fn open_terminal(socket: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(CWD, OsStr::new("/dev/ptmx"), flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    rustix::process::ioctl_tiocsctty(&slave)?;
    wire::send_now(socket.as_fd(), b"T", &[master.as_fd()])?;
    place([&slave, &slave, &slave])
}
