//! Raw system calls, and what their answers say about the wall in front of them.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::attempt::Verdict;

/// An address that no process maps: the kernel answers EFAULT if the call gets that far.
pub const NOWHERE: usize = 1;

/// Makes system call `number`. Arguments that are addresses must point to memory that outlives the call, or [`NOWHERE`].
pub fn call(number: i64, arguments: &[usize]) -> Result<i64, i32> {
    let mut six = [0usize; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: attempts pass addresses of live locals or an unmapped one, and their process ends with the attempt.
    let result = unsafe { libc::syscall(number, six[0], six[1], six[2], six[3], six[4], six[5]) };
    if result == -1 { Err(errno()) } else { Ok(result) }
}

/// The calling thread's errno.
pub fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The name of an errno, for people.
pub fn describe(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

/// Takes over a descriptor that a system call has just returned.
pub fn own(descriptor: i64) -> OwnedFd {
    // SAFETY: the caller got this descriptor from the kernel a moment ago, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
}

/// A C string; attempts only use text without NUL.
pub fn text(text: &str) -> CString {
    CString::new(text).expect("attempts use text without NUL")
}

/// Through if the call did what it was asked for.
pub fn succeeded(what: &str, result: Result<i64, i32>) -> Verdict {
    match result {
        Ok(value) => Verdict::through(format!("{what} returned {value}")),
        Err(errno) => Verdict::refused(errno, format!("{what}: {}", describe(errno))),
    }
}

/// Through if the call got as far as looking at its arguments: EPERM, EACCES and ENOSYS are what a filter, an LSM or a
/// missing capability answers; EFAULT, EINVAL, EBADF and the like come from the code behind them.
pub fn reached(what: &str, result: Result<i64, i32>) -> Verdict {
    match result {
        Err(errno @ (libc::EPERM | libc::EACCES | libc::ENOSYS)) => {
            Verdict::refused(errno, format!("{what}: {}", describe(errno)))
        }
        Err(errno) => Verdict::through(format!("{what} looked at its arguments: {}", describe(errno))),
        Ok(value) => Verdict::through(format!("{what} returned {value}")),
    }
}

/// The verdict on an `io` operation: through if it succeeded.
pub fn done<T>(what: &str, result: io::Result<T>) -> Verdict {
    match result {
        Ok(_) => Verdict::through(what),
        Err(error) => failed(what, &error),
    }
}

/// Stopped, by this error.
pub fn failed(what: &str, error: &io::Error) -> Verdict {
    Verdict::Stopped { errno: error.raw_os_error(), detail: format!("{what}: {error}") }
}

/// The first verdict that is not "stopped"; otherwise the last one.
pub fn first_through(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut last = Verdict::Broken("nothing was tried".into());
    for verdict in verdicts {
        if !matches!(verdict, Verdict::Stopped { .. }) {
            return verdict;
        }
        last = verdict;
    }
    last
}
