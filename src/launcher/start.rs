//! Executes a shim: nothing of this process goes with it but three descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use crate::policy::trust::{self, OpenError};
use crate::sys::{exec, fd, process, signal};
use crate::wire::service::claim::{CLAIM, LINE, LISTENER};

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

/// Starts it, in a session of its own; its pid.
pub fn shim(program: &OwnedFd, claim: OwnedFd, line: OwnedFd, listener: OwnedFd) -> io::Result<u32> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let null = fd::raise(null.into(), ABOVE)?;
    let moved = [(claim, CLAIM), (line, LINE), (listener, LISTENER)]
        .map(|(descriptor, number)| fd::raise(descriptor, ABOVE).map(|descriptor| (descriptor, number)));
    let [claim, line, listener] = moved;
    let given = [claim?, line?, listener?];
    let pid = process::spawn_shared(&mut || {
        let placed = place(&null, &given);
        if placed.is_ok() {
            let _ = exec::execute(program.as_fd(), c"stockade-shim");
        }
        process::exit_now(127)
    })?;
    Ok(pid.cast_unsigned())
}

/// In the child, on its own table of descriptors. Everything that is not placed closes on exec.
fn place(null: &OwnedFd, given: &[(OwnedFd, i32)]) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    signal::reset_all()?;
    for number in 0..3 {
        fd::place(null.as_fd(), number)?;
    }
    given.iter().try_for_each(|(descriptor, number)| fd::place(descriptor.as_fd(), *number))
}
