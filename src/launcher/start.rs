//! Executes a shim: nothing of this process goes with it but a socket. One is always ready before it is wanted: what it costs
//! to execute a program, and to make a network namespace, nobody waits for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use crate::policy::trust::{self, OpenError};
use crate::sys::{exec, fd, process, signal};
use crate::wire;
use crate::wire::service::claim::{ENGAGEMENT, Engagement};

const NAME: &str = "stockade-shim";

/// Above the numbers that a shim expects something at.
const ABOVE: i32 = 16;

/// The shim's program: the file beside our own, if only root can have decided what it does.
pub fn program() -> io::Result<OwnedFd> {
    let own = std::env::current_exe()?;
    let path = own.parent().map_or_else(|| PathBuf::from(NAME), |directory| directory.join(NAME));
    match trust::open(&path, 0) {
        Ok(program) => fd::raise(program.into(), ABOVE),
        Err(OpenError::Io(error)) => Err(io::Error::other(format!("{}: {error}", path.display()))),
        Err(OpenError::Distrust(distrust)) => Err(io::Error::other(distrust.to_string())),
    }
}

/// A shim that was executed, gets ready, and waits for its claim. It ends by itself when this is dropped.
pub struct Spare {
    /// Its pid.
    pub pid: u32,
    /// Closed: nothing is wanted of it.
    pub socket: OwnedFd,
}

impl Spare {
    /// Executes one, in a session of its own.
    pub fn execute(program: &OwnedFd) -> io::Result<Self> {
        let (ours, theirs) = wire::pair()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let null = fd::raise(null.into(), ABOVE)?;
        let theirs = fd::raise(theirs, ABOVE)?;
        let pid = process::spawn_shared(&mut || {
            if place(&null, &theirs).is_ok() {
                let _ = exec::execute(program.as_fd(), c"stockade-spare");
            }
            process::exit_now(127)
        })?;
        Ok(Self { pid: pid.cast_unsigned(), socket: ours })
    }

    /// Whether it has ended, reaped or not. Its socket does not say so as long as its keeper is on the way to closing its copy.
    pub fn has_ended(&self) -> bool {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Pid::from_raw(self.pid.cast_signed())
            .is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    /// Has it begin; its pid.
    pub fn engage(self, engagement: &Engagement) -> io::Result<u32> {
        engagement.send(self.socket.as_fd()).map(|()| self.pid)
    }
}

/// In the child, on its own table of descriptors. Everything that is not placed closes on exec.
fn place(null: &OwnedFd, socket: &OwnedFd) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    signal::reset_all()?;
    for number in 0..3 {
        fd::place(null.as_fd(), number)?;
    }
    fd::place(socket.as_fd(), ENGAGEMENT)
}
