//! Terminal attributes, set without fighting the user's shell over them.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};

static IN_BACKGROUND: AtomicBool = AtomicBool::new(false);

extern "C" fn note_background(_: libc::c_int) {
    IN_BACKGROUND.store(true, Ordering::Relaxed);
}

/// Sets `tty`'s attributes once pending output is out; `Ok(false)` if this process is in the background of its
/// controlling terminal, whose attributes then belong to somebody else and stay as they are.
///
/// Asking for the foreground group beforehand would be a race with the shell. The kernel's own check is not: it
/// sends SIGTTOU and changes nothing (tcsetattr(3), "job control"), unless the signal is blocked or ignored, so for
/// the length of this call it is neither. The handler is there so that the call returns instead of stopping us.
pub fn set_attributes(tty: BorrowedFd<'_>, attributes: &Termios) -> io::Result<bool> {
    let handler = SigAction::new(SigHandler::Handler(note_background), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
    let action = unsafe { sigaction(Signal::SIGTTOU, &handler) }?;
    let mask = SigSet::from(Signal::SIGTTOU).thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_UNBLOCK);
    IN_BACKGROUND.store(false, Ordering::Relaxed);
    let result = loop {
        match rustix::termios::tcsetattr(tty, OptionalActions::Drain, attributes) {
            Err(Errno::INTR) if IN_BACKGROUND.load(Ordering::Relaxed) => break Ok(false),
            Err(Errno::INTR) => {}
            result => break result.map(|()| true).map_err(io::Error::from),
        }
    };
    mask?.thread_set_mask()?;
    // SAFETY: puts back what was there before; whoever installed it answers for it.
    unsafe { sigaction(Signal::SIGTTOU, &action) }?;
    result
}
