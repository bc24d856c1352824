//! What the kernel answers when asked what it can: questions that change nothing.

use std::{io, ptr};

/// A seccomp filter's verdict, as in `SECCOMP_RET_*` (seccomp(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompAction {
    /// The call fails with an error number (Linux 3.5).
    Errno,
    /// The whole process ends (Linux 4.14).
    KillProcess,
    /// A supervisor is told (Linux 5.0).
    UserNotif,
}

/// The Landlock ABI, 0 if the kernel has none or it is not switched on (landlock_create_ruleset(2)).
pub fn landlock_abi() -> u32 {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel wants a null pointer and size 0, and only returns a number.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    // ENOSYS: not built in; EOPNOTSUPP: built in, but not in the `lsm=` list.
    u32::try_from(answer).unwrap_or(0)
}

/// Whether a seccomp filter may return `action`.
///
/// # Errors
/// Whatever `seccomp(2)` answers other than "no": ENOSYS where the kernel has no seccomp filters (before 4.14
/// this question did not exist, and it answers EINVAL).
pub fn has_seccomp_action(action: SeccompAction) -> io::Result<bool> {
    let action: u32 = match action {
        SeccompAction::Errno => libc::SECCOMP_RET_ERRNO,
        SeccompAction::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        SeccompAction::UserNotif => libc::SECCOMP_RET_USER_NOTIF,
    };
    // SAFETY: SECCOMP_GET_ACTION_AVAIL only reads the 32 bits behind the pointer, which outlive the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0_u32, ptr::from_ref(&action))
    };
    if answer == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        error => Err(error),
    }
}

/// Whether close_range(2) can make descriptors close on exec (Linux 5.11). It is asked about a range that holds none.
///
/// # Errors
/// ENOSYS before Linux 5.9, EINVAL before 5.11.
pub fn has_close_range() -> io::Result<()> {
    // SAFETY: no descriptor has the number u32::MAX, so none changes.
    let answer =
        unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The calls that every start makes and that an old kernel, or an outer sandbox, may not have; with the Linux that
/// brought each.
const CALLS: [(&str, &str, libc::c_long); 12] = [
    ("openat2", "5.6", libc::SYS_openat2),
    ("clone3", "5.3", libc::SYS_clone3),
    ("fsopen", "5.2", libc::SYS_fsopen),
    ("fsmount", "5.2", libc::SYS_fsmount),
    ("move_mount", "5.2", libc::SYS_move_mount),
    ("open_tree", "5.2", libc::SYS_open_tree),
    ("mount_setattr", "5.12", libc::SYS_mount_setattr),
    ("pidfd_open", "5.3", libc::SYS_pidfd_open),
    ("pidfd_send_signal", "5.1", libc::SYS_pidfd_send_signal),
    ("close_range", "5.9", libc::SYS_close_range),
    ("pivot_root", "2.3", libc::SYS_pivot_root),
    ("setns", "5.8", libc::SYS_setns),
];

/// Which of the calls that every start needs do not exist here: name and the Linux that has it.
pub fn missing_calls() -> Vec<(&'static str, &'static str)> {
    let answers = |number| {
        // SAFETY: with these arguments each of the calls fails before it does anything: descriptors and pids of -1 and
        // null pointers are invalid, and for close_range the first descriptor is above the last.
        let answer =
            unsafe { libc::syscall(number, -1_isize, 0_isize, 0_isize, -1_isize, -1_isize, 0_isize) };
        answer >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
    };
    CALLS.iter().filter(|(.., number)| !answers(*number)).map(|(name, since, _)| (*name, *since)).collect()
}
