//! Children that do not outlive their parent.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Has what `command` starts killed when the thread that starts it ends, however that ends.
///
/// It holds through execve(2), unless the program is a set-user-ID one (PR_SET_PDEATHSIG(2const)).
pub fn end_with_parent(command: &mut Command) {
    let parent = getpid();
    let bind = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before the call above, and then nobody tells.
        match getppid() {
            Some(pid) if pid == parent => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(bind) };
}
