//! A pseudo terminal for tests: the kernel's own, not a pretence.

use std::os::fd::OwnedFd;

use rustix::pty::OpenptFlags;

/// Master and slave of a new pseudo terminal, which becomes nobody's controlling terminal.
pub fn pty() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).expect("a pty");
    rustix::pty::unlockpt(&master).expect("unlocked");
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("its slave");
    (master, slave)
}
