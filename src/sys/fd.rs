//! Descriptors as numbers: closing a whole range, putting one at a fixed place.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// Closes every descriptor from `first` on (close_range(2), Linux 5.9).
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the callers hold no descriptor of that range in an owner that would close it a second time.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0u32) }).map(drop)
}

/// Makes `number` a copy of `fd`, replacing what was there; it survives exec.
pub fn place(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        // dup2 onto itself would leave close-on-exec set.
        // SAFETY: the descriptor is open for the length of the borrow.
        return check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into()).map(drop);
    }
    // SAFETY: `number` is one of the well-known places, owned by nobody.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into()).map(drop)
}

/// Makes `number` a copy of `fd` that closes itself on exec, and hands out its ownership.
pub fn place_owned(fd: OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() == number {
        return Ok(fd);
    }
    // SAFETY: the caller has made sure that nothing it still needs is at `number`.
    check(unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) }.into())?;
    // SAFETY: dup3 has just made it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The same open file under the lowest number from `least` on that is free.
pub fn raise(fd: OwnedFd, least: RawFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, least)?)
}

/// Whether `number` is an open descriptor.
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD reads a flag, and fails on a closed descriptor.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Standard input, output or error, which every process owns for as long as it lives.
pub fn standard(number: RawFd) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: descriptors 0 to 2 are filled at the start of `main` and never closed.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// A descriptor that this process put at a fixed number, and keeps there for as long as it lives.
pub fn fixed(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: whoever calls this has put it there and never closes it; if it were closed, calls on it would give EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Takes over a descriptor that this process was started with. It closes on exec from now on.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD sets a flag, and fails on a closed descriptor.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, as the call before has shown; whoever started this process left it to us, and the caller asks
    // once for each number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
