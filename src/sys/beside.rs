//! A process that runs on this one's memory, at the same time (CLONE_VM of clone(2)): it copies no page table when it is
//! made and no page afterwards, which is most of what a fork costs.
//!
//! Both share errno, the heap and thread-local storage, so what runs there touches none of them: its calls go straight to
//! the kernel, and an error is a number in a register. It must not allocate, print or panic.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::process::{Pid, Signal, kill_process, setpgid};
use syscalls::{Errno, Sysno, syscall};

use super::check;

/// Only its top is ever touched.
const STACK: usize = 64 << 10;

/// What it is to do.
pub struct Errand {
    /// Says 0 once its network namespace is there, or the number of the error that prevented it.
    pub socket: OwnedFd,
    /// The pidfd of the process whose end it waits for.
    pub owner: OwnedFd,
    /// The capabilities that it keeps once it has made the namespace, as a set of bits (capabilities(7)).
    pub capabilities: u64,
    /// Then it executes this very program under this name, with the socket as standard input and no variable.
    pub name: &'static CStr,
}

/// The process; ended, and reaped, when this is dropped.
pub struct Beside {
    pid: u32,
    pidfd: OwnedFd,
    /// It reads this, and stands on the other, as long as it lives.
    _errand: Box<Errand>,
    _stack: Vec<u8>,
}

impl Beside {
    /// Starts it, in a session of its own and with every signal blocked.
    pub fn start(errand: Errand) -> io::Result<Self> {
        let errand = Box::new(errand);
        let mut stack = vec![0; STACK];
        // None of this process's signals are its own, not even at its first instruction.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let started = spawn(&mut stack, &errand);
        mask.thread_set_mask()?;
        let (pid, pidfd) = started?;
        let pid = pid.cast_unsigned();
        super::process::begin_elsewhere(pid);
        // A group of its own before anything else happens: whoever kills the caller's whole group leaves it.
        // Refused if it has made itself a session already, which is as good.
        let _ = setpgid(Pid::from_raw(pid.cast_signed()), None);
        Ok(Self { pid, pidfd, _errand: errand, _stack: stack })
    }

    /// Exactly this process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // On the CPU that is about to wait for it, and need not be woken.
        super::process::end_here(self.pid);
        // Its memory is freed next. By its number, which is its own until it is reaped: not every kernel
        // has the call for its pidfd. One that somebody else has killed is reaped all the same.
        let _ = Pid::from_raw(self.pid.cast_signed()).map(|pid| kill_process(pid, Signal::KILL));
        let _ = super::process::wait(self.pidfd.as_fd());
    }
}

fn spawn(stack: &mut [u8], errand: &Errand) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end;
    let argument = std::ptr::from_ref(errand).cast_mut().cast();
    // SAFETY: stack and errand are freed by `Beside` only, after the process has ended; clone(3) aligns the stack, and
    // the kernel writes one int to `pidfd`. What runs there keeps to the rules at the top of this file.
    let pid = check(unsafe { libc::clone(run, top.cast(), flags, argument, &raw mut pidfd) }.into())?;
    // SAFETY: CLONE_PIDFD succeeded, so the kernel has stored a new descriptor that nobody else owns.
    Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

extern "C" fn run(errand: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the pointer is the one given to clone above, and nobody changes what it points to.
    let errand = unsafe { &*errand.cast::<Errand>() };
    // The numbers of copies: its table of descriptors is its own.
    let (socket, owner) = (errand.socket.as_raw_fd(), errand.owner.as_raw_fd());
    // SAFETY: no memory is involved. It fails only for who leads a group already, which is as good.
    let _ = unsafe { syscall!(Sysno::setsid) };
    // What it inherited stays open only as long as its owner lives.
    let ready = close_all_except(socket.min(owner), socket.max(owner)).and_then(|()| enter_new_network());
    let ready = ready.and_then(|()| keep_only(errand.capabilities));
    let answer = ready.err().map_or(0, |error| error.into_raw()).to_le_bytes();
    // SAFETY: the kernel reads as many bytes as there are. The owner may have ended meanwhile.
    let _ =
        unsafe { syscall!(Sysno::sendto, socket, answer.as_ptr(), answer.len(), libc::MSG_NOSIGNAL, 0, 0) };
    await_readable(owner);
    if stand_in_for_stdin(socket).is_ok() {
        execute_self(errand.name);
    }
    1
}

/// Closes every descriptor but two, given in ascending order (close_range(2)).
fn close_all_except(lower: RawFd, upper: RawFd) -> Result<(), Errno> {
    let ranges = [(0, lower - 1), (lower + 1, upper - 1), (upper + 1, RawFd::MAX)];
    for (first, last) in ranges.into_iter().filter(|(first, last)| first <= last) {
        // SAFETY: only this process's own table of descriptors changes; it was copied, not shared (no CLONE_FILES).
        unsafe { syscall!(Sysno::close_range, first, last, 0) }?;
    }
    Ok(())
}

/// A network namespace of its own, with `lo` up and nothing else (network_namespaces(7)).
fn enter_new_network() -> Result<(), Errno> {
    // SAFETY: only this process's own namespace changes.
    unsafe { syscall!(Sysno::unshare, libc::CLONE_NEWNET) }?;
    // SAFETY: the call takes three numbers.
    let socket = unsafe { syscall!(Sysno::socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }?;
    let request = super::net::loopback_up();
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    let up = unsafe { syscall!(Sysno::ioctl, socket, libc::SIOCSIFFLAGS, &raw const request) };
    // SAFETY: the socket was made above, and nobody else knows of it.
    unsafe { syscall!(Sysno::close, socket) }?;
    up.map(drop)
}

/// `struct __user_cap_header_struct` of capset(2).
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// Gives up every capability but these, and every way to get one back by executing something: its memory is another's,
/// so that it may not be worth more than that one.
fn keep_only(capabilities: u64) -> Result<(), Errno> {
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let header = CapabilityHeader { version: VERSION, pid: 0 };
    let (low, high) = (capabilities as u32, (capabilities >> 32) as u32);
    // Effective, permitted, inheritable; the low words, then the high ones.
    let sets = [low, low, 0, high, high, 0];
    // SAFETY: the call takes numbers.
    unsafe { syscall!(Sysno::prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }?;
    // SAFETY: the kernel reads the header and, in this version, two times three words.
    unsafe { syscall!(Sysno::capset, &raw const header, sets.as_ptr()) }.map(drop)
}

fn await_readable(fd: RawFd) {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: the kernel reads and writes one pollfd, which outlives the call.
    while unsafe { syscall!(Sysno::poll, &raw mut poll, 1, -1_isize) } == Err(Errno::EINTR) {}
}

fn stand_in_for_stdin(socket: RawFd) -> Result<(), Errno> {
    if socket == 0 {
        // dup2 onto itself would leave close-on-exec set.
        // SAFETY: the call takes three numbers.
        return unsafe { syscall!(Sysno::fcntl, socket, libc::F_SETFD, 0) }.map(drop);
    }
    // SAFETY: the call takes two numbers, and descriptor 0 was closed above.
    unsafe { syscall!(Sysno::dup2, socket, 0) }.map(drop)
}

/// Returns only if it failed.
fn execute_self(name: &CStr) {
    let argv = [name.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: the strings and the lists, which end with a null pointer, outlive the call.
    let _ =
        unsafe { syscall!(Sysno::execve, c"/proc/self/exe".as_ptr(), argv.as_ptr(), environment.as_ptr()) };
}
