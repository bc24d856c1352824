//! Signal dispositions and masks.

use std::io;

/// Every signal at its default, none blocked. What a caller ignored (nohup, a shell's background job) must not
/// stay ignored in the agent: its Ctrl-C would do nothing.
pub fn reset_all() -> io::Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        if matches!(number, libc::SIGKILL | libc::SIGSTOP | 32 | 33) {
            continue; // 32 and 33 belong to glibc, which refuses them
        }
        // SAFETY: SIG_DFL runs no code of ours.
        if unsafe { libc::signal(number, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    set_mask(&nix::sys::signal::SigSet::empty())
}

/// Blocks exactly these signals.
pub fn set_mask(signals: &nix::sys::signal::SigSet) -> io::Result<()> {
    Ok(signals.thread_set_mask()?)
}

/// One signal at its default. An ignored SIGCHLD, which a caller can pass on, has the kernel reap each child before its
/// parent can ask how it ended (wait(2)).
pub fn restore(signal: nix::sys::signal::Signal) -> io::Result<()> {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) }?;
    Ok(())
}

/// Ignores one signal.
pub fn ignore(signal: nix::sys::signal::Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn) }?;
    Ok(())
}

/// Blocks every signal that can be blocked.
pub fn block_all() -> io::Result<()> {
    set_mask(&nix::sys::signal::SigSet::all())
}
