//! A process that runs on this one's memory, at the same time (CLONE_VM of clone(2)): it copies no page table when it is
//! made and no page afterwards, which is most of what a fork costs.
//!
//! Both share errno, the heap and thread-local storage, so what runs there touches none of them: its calls go straight to
//! the kernel, and an error is a number in a register. It must not allocate, print or panic.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{Pid, getsid, setpgid};
use rustix::process::{Signal, pidfd_send_signal};
use syscalls::{Errno, Sysno, syscall};

use super::check;

/// How long a process may take to run for the first time, on a machine that is busy; and between two looks at it.
const MOMENT: Duration = Duration::from_secs(1);
const GLANCE: Duration = Duration::from_micros(50);

/// Only its top is ever touched: so large that the allocator maps it anew, and has nothing to clear.
const STACK: usize = 256 << 10;

/// What it is to do. It gets copies of the descriptors.
pub struct Errand<'fd> {
    /// Where it says 0 once its network namespace is there, or the number of the error that prevented it.
    pub socket: BorrowedFd<'fd>,
    /// The pidfd of the process whose end it waits for.
    pub owner: BorrowedFd<'fd>,
    /// The capabilities that it keeps once it has made the namespace, as a set of bits (capabilities(7)).
    pub capabilities: u64,
    /// Then it executes this very program under this name, without variables. Its argument is the socket's number.
    pub name: &'static CStr,
}

/// The process. Only [`Beside::end`] ends it: whoever unwinds or exits without that leaves it to do its errand.
pub struct Beside {
    pid: u32,
    pidfd: OwnedFd,
}

/// The errand in numbers, ready to be carried out.
struct Order {
    socket: RawFd,
    owner: RawFd,
    /// All other descriptors: from, to.
    rest: [(RawFd, RawFd); 3],
    capabilities: u64,
    /// What to execute in the end: the name, the number below, and null.
    pointers: [*const libc::c_char; 3],
    _number: CString,
}

impl Order {
    fn new(errand: Errand<'_>) -> Self {
        let (socket, owner) = (errand.socket.as_raw_fd(), errand.owner.as_raw_fd());
        let (lower, upper) = (socket.min(owner), socket.max(owner));
        let rest = [(0, lower - 1), (lower + 1, upper - 1), (upper + 1, RawFd::MAX)];
        let number = CString::new(socket.to_string()).expect("digits hold no zero byte");
        let pointers = [errand.name.as_ptr(), number.as_ptr(), std::ptr::null()];
        Self { socket, owner, rest, capabilities: errand.capabilities, _number: number, pointers }
    }
}

impl Beside {
    /// Starts it, with every signal blocked that can be.
    pub fn start(errand: Errand<'_>) -> io::Result<Self> {
        // It reads the one and stands on the other as long as it lives, which may be longer than anything here.
        let order: &'static Order = Box::leak(Box::new(Order::new(errand)));
        let stack: &'static mut [u8] = vec![0; STACK].leak();
        // None of this process's signals are its own, not even at its first instruction.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let started = spawn(stack, order);
        mask.thread_set_mask()?;
        let (pid, pidfd) = started?;
        super::process::pin_elsewhere(pid);
        Ok(Self { pid, pidfd })
    }

    /// Exactly this process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Makes sure that it is in a session of its own, and out of this process's group: whoever kills that one leaves it. It
    /// has usually made itself one by now. One that gets no CPU for so long is put into a group of its own at least; then it
    /// cannot make a session any more, which nobody can do who leads a group (setsid(2)).
    pub fn part(&self) {
        let pid = Pid::from_raw(self.pid.cast_signed());
        let deadline = Instant::now() + MOMENT;
        // 0 for a session whose leader is in another PID namespace.
        while getsid(Some(pid)).is_ok_and(|session| session != pid) {
            if Instant::now() >= deadline {
                let _ = setpgid(pid, pid);
                return;
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Ends it, and reaps it.
    pub fn end(self) {
        // On the CPU that is about to wait for it, and need not be woken.
        super::process::pin_here(self.pid);
        // One that somebody else has killed is reaped all the same.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = super::process::wait(self.pidfd.as_fd());
    }
}

fn spawn(stack: &'static mut [u8], order: &'static Order) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD;
    // The ABI wants it at a multiple of 16 (System V psABI, 3.2.2).
    let top = stack.as_mut_ptr_range().end.map_addr(|end| end & !15);
    let argument = std::ptr::from_ref(order).cast_mut().cast();
    // SAFETY: stack and order are never freed, and the kernel writes one int to `pidfd`. What runs there keeps to the
    // rules at the top of this file.
    let pid = check(unsafe { libc::clone(run, top.cast(), flags, argument, &raw mut pidfd) }.into())?;
    // SAFETY: CLONE_PIDFD succeeded, so the kernel has stored a new descriptor that nobody else owns.
    Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

extern "C" fn run(order: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the pointer is the one given to clone above, and nobody changes what it points to.
    let order = unsafe { &*order.cast::<Order>() };
    // SAFETY: no memory is involved. It fails only for who leads a group already, and then it is out of the caller's.
    let _ = unsafe { syscall!(Sysno::setsid) };
    // SAFETY: the kernel reads a string that is never freed; its name is each process's own.
    let _ = unsafe { syscall!(Sysno::prctl, libc::PR_SET_NAME, order.pointers[0]) };
    // What it inherited stays open only as long as its owner lives.
    let ready = close(&order.rest).and_then(|()| enter_new_network());
    let ready = ready.and_then(|()| keep_only(order.capabilities));
    let answer = ready.err().map_or(0, |error| error.into_raw()).to_le_bytes();
    // SAFETY: the kernel reads as many bytes as there are. The owner may have ended meanwhile.
    let _ = unsafe {
        syscall!(Sysno::sendto, order.socket, answer.as_ptr(), answer.len(), libc::MSG_NOSIGNAL, 0, 0)
    };
    if await_readable(order.owner) && keep_open(order.socket).is_ok() {
        execute_self(&order.pointers);
    }
    1
}

/// close_range(2)
fn close(ranges: &[(RawFd, RawFd)]) -> Result<(), Errno> {
    for (first, last) in ranges.iter().filter(|(first, last)| first <= last) {
        // SAFETY: only this process's own table of descriptors changes; it was copied, not shared (no CLONE_FILES).
        unsafe { syscall!(Sysno::close_range, *first, *last, 0) }?;
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

/// False if it could not be waited for: that is no word of the owner's end.
fn await_readable(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: the kernel reads and writes one pollfd, which outlives the call.
    while unsafe { syscall!(Sysno::poll, &raw mut poll, 1, -1_isize) } == Err(Errno::EINTR) {}
    poll.revents & libc::POLLIN != 0
}

/// Lets a descriptor survive exec.
fn keep_open(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: the call takes three numbers.
    unsafe { syscall!(Sysno::fcntl, fd, libc::F_SETFD, 0) }.map(drop)
}

/// Returns only if it failed.
fn execute_self(arguments: &[*const libc::c_char]) {
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: the strings and the lists, which end with a null pointer, outlive the call.
    let _ = unsafe {
        syscall!(Sysno::execve, c"/proc/self/exe".as_ptr(), arguments.as_ptr(), environment.as_ptr())
    };
}
