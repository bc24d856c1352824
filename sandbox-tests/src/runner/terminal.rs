//! Runs a command on a terminal, and tells what it left in the terminal's input.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::kernel::own;
use crate::runner::start::ends_within;

const TIME_LIMIT_MS: i32 = 25_000;
/// Runs its arguments, then reads what is waiting to be read, as the user's shell would.
const SHELL: &str =
    r#""$@"; stty -icanon -echo min 0 time 3; printf 'WAITING[%s]\n' "$(dd bs=256 count=1 2>/dev/null)""#;

/// Runs `command` below a shell on a terminal of its own; everything that the terminal showed.
pub fn show(command: &Command) -> io::Result<String> {
    let (master, slave) = pair()?;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", SHELL, "shell"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    if let Some(directory) = command.get_current_dir() {
        shell.current_dir(directory);
    }
    shell
        .stdin(Stdio::from(slave.try_clone()?))
        .stdout(Stdio::from(slave.try_clone()?))
        .stderr(Stdio::from(slave));
    // SAFETY: setsid and ioctl are async-signal-safe; descriptor 0 is the terminal.
    unsafe {
        shell.pre_exec(|| {
            if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = shell.spawn()?;
    // The builder holds the last copies of the slave; the master reads EIO once all are closed.
    drop(shell);
    let reader = std::thread::spawn(move || read_all(File::from(master)));
    if !ends_within(&child, TIME_LIMIT_MS) {
        child.kill()?;
    }
    child.wait()?;
    Ok(reader.join().expect("reading does not panic"))
}

fn read_all(mut master: File) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        all.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut master, mut slave) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are written to live locals; name, termios and size are not asked for.
    if unsafe { libc::openpty(&raw mut master, &raw mut slave, none, none.cast(), none.cast()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for descriptor in [master, slave] {
        // SAFETY: sets a flag of a descriptor that we own.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok((own(master.into()), own(slave.into())))
}
