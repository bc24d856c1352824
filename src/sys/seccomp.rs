//! seccomp(2): installs filters, and answers for the calls that a filter reports.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_long, c_ulong};

use super::check;

/// Larger than any kernel's `struct seccomp_notif` (80 bytes since Linux 5.0), so that one which has grown cannot
/// write past it.
const NOTIFICATION_WORDS: usize = 64;

/// A call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Names this very call; see [`is_waiting`].
    pub id: u64,
    /// The calling thread, in the PID namespace of whoever receives the notification; 0 if it is not visible there.
    pub pid: u32,
    /// `AUDIT_ARCH_*`
    pub arch: u32,
    /// Number of the call.
    pub nr: u32,
    /// All six, as they stood in the registers.
    pub args: [u64; 6],
    /// Where the call was made.
    pub ip: u64,
}

/// Restricts the calling thread, and all that it starts, to what `program` allows.
///
/// Needs `no_new_privs`. With `listener`, returns the descriptor on which calls answered `SECCOMP_RET_USER_NOTIF`
/// arrive (poll(2) it for input; a hang-up means that nobody is under the filter any more). Once received such a call can
/// be interrupted by a fatal signal only, where the kernel can do that (Linux 5.19).
pub fn install(program: &[(u16, u8, u8, u32)], listener: bool) -> io::Result<Option<OwnedFd>> {
    if !listener {
        return set_mode_filter(program, 0).map(|_| None);
    }
    let listening = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let fd = match set_mode_filter(program, listening | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set_mode_filter(program, listening)?,
        result => result?,
    };
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows of it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn set_mode_filter(program: &[(u16, u8, u8, u32)], flags: c_ulong) -> io::Result<i32> {
    let mut code: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(code.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    let operation = c_ulong::from(libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: `program` points to `len` instructions that live until the call returns; the kernel copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) };
    check(result).map(|fd| fd as i32)
}

/// Takes the next reported call; waits for one. `None` if its caller was killed before we could take it.
pub fn recv(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    let mut buffer = [0_u64; NOTIFICATION_WORDS];
    const { assert!(size_of::<libc::seccomp_notif>() <= size_of::<[u64; NOTIFICATION_WORDS]>()) };
    // SAFETY: the borrow keeps the descriptor open; the buffer is zeroed, as the kernel demands, and has room for the
    // structure of any kernel.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, buffer.as_mut_ptr()) };
    match check(c_long::from(result)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        result => result.map(drop)?,
    };
    // SAFETY: the buffer is aligned for u64 like the structure, larger than it, and any bit pattern is one.
    let taken = unsafe { &*buffer.as_ptr().cast::<libc::seccomp_notif>() };
    Ok(Some(Notification {
        id: taken.id,
        pid: taken.pid,
        arch: taken.data.arch,
        nr: taken.data.nr.cast_unsigned(),
        args: taken.data.args,
        ip: taken.data.instruction_pointer,
    }))
}

/// Lets call `id` fail with `errno`. A caller that has gone meanwhile needs no answer.
pub fn refuse(listener: BorrowedFd<'_>, id: u64, errno: i32) -> io::Result<()> {
    let answer = libc::seccomp_notif_resp { id, val: 0, error: -errno, flags: 0 };
    // SAFETY: the borrow keeps the descriptor open, and NOTIF_SEND only reads the response it is given.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    match check(c_long::from(result)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// Whether call `id` still waits: if so, what was read about its `pid` before was about the caller and not about
/// another process that has been given the same pid since.
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the borrow keeps the descriptor open, and NOTIF_ID_VALID only reads the id it is given.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}
