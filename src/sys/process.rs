//! Processes: clone3(2), fork(2), execve(2), pidfds.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::check;

/// Start in the cgroup given by a directory descriptor; `libc`'s constant overflows its own type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_PIDFD: u64 = 0x1000;

/// `struct clone_args` of clone3(2), version 2 (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of a clone this is.
pub enum Side {
    /// The new process.
    Child,
    /// The caller: the child's pid here, and a descriptor that means exactly that process.
    Parent {
        /// In the caller's pid namespace.
        pid: u32,
        /// Readable once the child has ended.
        pidfd: OwnedFd,
    },
}

/// clone3(2) without shared memory: like fork, with namespaces `flags` and, where given, in a cgroup.
///
/// The caller must be single-threaded: the child goes on with a copy of its one thread.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child runs on its own copy of the stack, and the kernel writes only to `pidfd`.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: CLONE_PIDFD succeeded, so the kernel has stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Side::Parent { pid: pid as u32, pidfd })
}

/// Lets a child that was just made begin on another CPU than this one, and keeps it there; whether it does.
///
/// A child begins on its parent's CPU unless another is known to be idle. A virtual machine's halted CPU is not (kernel:
/// `vcpu_is_preempted`), and then the child waits until the parent does: a millisecond or more, for nothing. Where more
/// want to run than there are CPUs, the other one is as busy, and to be kept there is to wait for it while this one is free.
pub fn pin_elsewhere(child: u32) -> bool {
    // Best effort: an outer sandbox may not let it.
    let Ok(allowed) = sched_getaffinity(pid(child)) else { return false };
    if running().is_none_or(|running| running > allowed.count()) {
        return false;
    }
    let here = sched_getcpu();
    let others = (here + 1..CpuSet::MAX_CPU).chain(0..here.min(CpuSet::MAX_CPU));
    let other = others.into_iter().find(|cpu| allowed.is_set(*cpu));
    other.is_some_and(|cpu| sched_setaffinity(pid(child), &just(cpu)).is_ok())
}

/// How many processes and threads of this host run or could, the caller included (proc_loadavg(5)).
fn running() -> Option<u32> {
    let file = rustix::fs::open("/proc/loadavg", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 64];
    let length = rustix::io::read(file, &mut text).ok()?;
    first_of_pair(std::str::from_utf8(&text[..length]).ok()?)
}

/// `0.20 0.18 0.12 1/80 11206`: the 1.
fn first_of_pair(loads: &str) -> Option<u32> {
    loads.split(' ').nth(3)?.split_once('/')?.0.parse().ok()
}

/// Lets a child that sleeps wake up on this CPU, which is about to wait for its end.
pub fn pin_here(child: u32) {
    let here = sched_getcpu();
    if here < CpuSet::MAX_CPU {
        let _ = sched_setaffinity(pid(child), &just(here));
    }
}

/// Lets a child run wherever this process may, on CPUs that are not there yet included (Cpus_allowed of
/// proc_pid_status(5)): sched_getaffinity(2) names only those that are.
pub fn unpin(child: u32) -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:"));
    let mask = mask.ok_or_else(|| io::Error::other("/proc/self/status says nothing of CPUs"))?;
    Ok(sched_setaffinity(pid(child), &cpus(mask))?)
}

/// `ff,ffffffff`: the last digit is for CPUs 0 to 3.
fn cpus(mask: &str) -> CpuSet {
    let mut set = CpuSet::new();
    let digits = mask.chars().rev().filter_map(|digit| digit.to_digit(16));
    for (nibble, digit) in digits.enumerate() {
        let numbers = (0..4).filter(|bit| digit >> bit & 1 == 1).map(|bit| 4 * nibble + bit);
        numbers.filter(|cpu| *cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
    }
    set
}

fn just(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

fn pid(number: u32) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(number.cast_signed())
}

/// Ends this process now: no destructors, no buffers flushed, nothing run twice after a fork.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// execve(2). Returns only if it failed.
pub fn execve(path: &CStr, argv: &[*const libc::c_char], environment: &[*const libc::c_char]) -> io::Error {
    debug_assert!(
        argv.last().is_some_and(|p| p.is_null()) && environment.last().is_some_and(|p| p.is_null())
    );
    // SAFETY: both lists end with a null pointer, and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// How a process ended, from its pidfd; blocks until it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// exit(code).
    Exited(i32),
    /// Killed by this signal.
    Signaled(i32),
}

impl End {
    /// As shells say it: the code, or 128 + signal.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code as u8,
            Self::Signaled(signal) => 128u8.wrapping_add(signal as u8),
        }
    }
}

/// Waits for a child by its pidfd and reaps it.
pub fn wait(pidfd: BorrowedFd<'_>) -> io::Result<End> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => End::Exited(code),
                    (None, signal) => End::Signaled(signal.unwrap_or(libc::SIGKILL)),
                });
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// unshare(CLONE_NEWCGROUP) of this process.
pub fn unshare_cgroup_namespace() -> io::Result<()> {
    // SAFETY: only the namespace of this process changes; no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into()).map(drop)
}

/// One child that has ended or stopped, with waitpid(2)'s raw status; `None` if there is none now.
///
/// Raw, because nix refuses the status of a process that a real-time signal killed.
pub fn wait_any() -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    // SAFETY: the kernel writes one int to `status`.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) } {
        0 => Ok(None),
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            error => Err(error),
        },
        pid => Ok(Some((pid, status))),
    }
}

impl End {
    /// From waitpid(2)'s raw status.
    pub fn from_status(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            Self::Exited(libc::WEXITSTATUS(status))
        } else {
            Self::Signaled(libc::WTERMSIG(status))
        }
    }
}

/// Empties the capability bounding set, up to the last capability that this kernel knows, which may be
/// newer than any list of ours (PR_CAPBSET_DROP(2const)).
pub fn empty_bounding_set() -> io::Result<()> {
    for number in 0..=63_u8 {
        // SAFETY: takes a number, involves no memory.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        match check(dropped.into()) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && number > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends every advantage in scheduling that was inherited: real-time policies, a negative nice value, a real-time I/O
/// class (sched(7), ioprio_set(2)). What is a disadvantage stays.
pub fn schedule_ordinarily() -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_SHIFT: libc::c_long = 13;
    const IOPRIO_CLASS_RT: libc::c_long = 1;
    // SAFETY: it returns a number.
    let policy = check(unsafe { libc::sched_getscheduler(0) }.into())?;
    if ![libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE].contains(&(policy as libc::c_int & 0xff)) {
        // SAFETY: all zeroes is the one valid parameter of SCHED_OTHER.
        let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel reads the parameters, which outlive the call.
        check(unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) }.into())?;
    }
    // By the system call itself, which answers 20 - nice, from 1 to 40, and so no error that looks like a value.
    // SAFETY: it returns a number.
    let priority = check(unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) })?;
    if priority > 20 {
        // SAFETY: it changes this process's own nice value.
        check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) }.into())?;
    }
    // SAFETY: it returns a number.
    let io = check(unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) })?;
    if io >> IOPRIO_CLASS_SHIFT == IOPRIO_CLASS_RT {
        // SAFETY: it changes this process's own I/O priority; 0 follows the nice value.
        check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0) })?;
    }
    Ok(())
}

/// Gives this process another name: in `comm`, and in place of its arguments, which everybody in its PID namespace can
/// read (/proc/PID/cmdline).
pub fn rename(name: &str) -> io::Result<()> {
    unsafe extern "C" {
        /// Where the first argument lies (program_invocation_name(3)); the others follow it (execve(2)).
        static program_invocation_name: *mut libc::c_char;
    }
    rustix::thread::set_name(&std::ffi::CString::new(name).map_err(io::Error::other)?)?;
    let length: usize = std::env::args_os().map(|argument| argument.len() + 1).sum();
    let kept = name.len().min(length.saturating_sub(1));
    if length == 0 {
        return Ok(()); // started without arguments
    }
    // SAFETY: glibc has set the pointer before `main`, and nobody changes it. The arguments lie there one after another,
    // each with its final zero, on this process's own writable stack; it is single-threaded and reads them no more.
    unsafe {
        let start = program_invocation_name.cast::<u8>();
        std::ptr::write_bytes(start, 0, length);
        std::ptr::copy_nonoverlapping(name.as_ptr(), start, kept);
    }
    Ok(())
}

/// From now on a panic ends this process at once, as a kill does, after its message: nothing unwinds through what owns an agent's
/// cgroup, in this process or in a child that has a copy of it. Programs of a package are built so; those of any other profile get
/// the same from here (docs/adr/0015-one-tree-two-packages.md).
pub fn end_on_panic() {
    if cfg!(panic = "unwind") {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            say(panic);
            std::process::abort();
        }));
    }
}

/// Starts a child that runs `main` while this process waits (CLONE_VM and CLONE_VFORK of clone(2)): until the child has
/// called execve or ended. It copies no page table, which is most of what a fork costs.
///
/// `main` runs on memory that both share, so what it leaves there stays, and it should end in [`execve`] or [`exit_now`]; what it returns is its exit code.
pub fn spawn_shared(main: &mut dyn FnMut() -> i32) -> io::Result<i32> {
    extern "C" fn enter(main: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the pointer is the one given to clone below; its target outlives the call, for the parent is suspended
        // in it until this process is done with the memory.
        let main = unsafe { &mut *main.cast::<&mut dyn FnMut() -> i32>() };
        main()
    }
    let mut stack = vec![0_u8; 256 << 10];
    let top = stack.as_mut_ptr_range().end;
    let mut main: &mut dyn FnMut() -> i32 = main;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is large enough for `main`, aligned down by clone(3), and freed only after the child has left it.
    match unsafe { libc::clone(enter, top.cast(), flags, (&raw mut main).cast()) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_run_is_the_fourth_word_up_to_its_stroke() {
        assert_eq!(first_of_pair("0.20 0.18 0.12 16/906 11206\n"), Some(16));
        assert_eq!(first_of_pair("0.20 0.18"), None);
        assert!(running().is_some_and(|running| running >= 1), "this one runs");
    }

    #[test]
    fn a_mask_of_cpus_is_read_from_its_end() {
        let set = |mask: &str| (0..CpuSet::MAX_CPU).filter(|cpu| cpus(mask).is_set(*cpu)).collect::<Vec<_>>();
        assert_eq!(set("\t3"), [0, 1]);
        assert_eq!(set("\t1,00000010"), [4, 32]);
        assert_eq!(set(""), [0_usize; 0]);
    }
}
