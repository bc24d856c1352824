//! The filter on this very kernel. A filter belongs to a thread, so most attempts need a thread and no process.

use std::arch::asm;
use std::collections::BTreeSet;
use std::ffi::{CString, c_long};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use stockade::plan::seccomp::filter;
use stockade::policy::Syscalls;
use stockade::sys::seccomp;

/// Tells a test that it is the process which must not survive.
const VICTIM: &str = "STOCKADE_SECCOMP_VICTIM";

/// What a raw call returned: the errno as a negative number if it failed, as the kernel itself puts it.
fn call(number: c_long, arguments: [u64; 4]) -> i64 {
    let [a, b, c, d] = arguments;
    // SAFETY: every caller in this file passes pointers that it keeps alive, or none.
    match unsafe { libc::syscall(number, a, b, c, d) } {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().expect("the call has just failed")),
        result => result,
    }
}

/// Restricts the calling thread.
fn restrict(syscalls: &Syscalls, listener: bool) -> Option<OwnedFd> {
    let program = filter(syscalls, listener).expect("a policy of known names").program;
    nix::sys::prctl::set_no_new_privs().expect("every kernel since 3.5 can");
    seccomp::install(&program, listener).expect("the kernel accepts the filter")
}

/// What `attempt` returns in a thread of its own, first free, then restricted.
fn free_and_restricted<T: Send + 'static>(syscalls: Syscalls, attempt: fn() -> T) -> (T, T) {
    let free = thread::spawn(attempt).join().expect("the free attempt ends");
    let restricted = thread::spawn(move || {
        restrict(&syscalls, false);
        attempt()
    });
    (free, restricted.join().expect("the restricted attempt ends"))
}

fn c_path(path: &std::path::Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL in a temporary path")
}

#[test]
fn ordinary_programs_run_under_the_filter() {
    let script = "x=$(ls / | sort | head -n 1); [ -n \"$x\" ] && mkdir d && touch d/f && chmod 644 d/f && \
                  mv d/f d/g && rm -r d && mkfifo p && (echo yes > p & cat p)";
    let output = thread::spawn(move || {
        restrict(&Syscalls::default(), false);
        let scratch = tempfile::tempdir().expect("a temporary directory can be made under the filter");
        let output = Command::new("sh").args(["-euc", script]).current_dir(&scratch).output();
        (output.expect("a shell starts"), thread::spawn(|| 42).join().expect("threads start"))
    });

    let (output, from_thread) = output.join().expect("the thread survives");

    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "yes\n");
    assert_eq!(from_thread, 42);
}

#[test]
fn refused_calls_fail_with_eperm_and_allowed_ones_work() {
    let (free, restricted) = free_and_restricted(Syscalls::default(), || {
        [
            call(libc::SYS_getppid, [0; 4]),
            call(libc::SYS_ptrace, [libc::PTRACE_PEEKUSER.into(), 0, 0, 0]),
            call(libc::SYS_keyctl, [0, (-3_i64).cast_unsigned(), 0, 0]),
            call(libc::SYS_kcmp, [std::process::id().into(), std::process::id().into(), 0, 0]),
            call(libc::SYS_clone3, [0; 4]),
        ]
    });

    let parent = i64::from(std::os::unix::process::parent_id());
    assert_eq!(free[..2], [parent, -i64::from(libc::ESRCH)], "ptrace reached the kernel");
    assert_eq!(free[4], -i64::from(libc::EINVAL), "clone3 reached the kernel");
    let eperm = -i64::from(libc::EPERM);
    assert_eq!(restricted, [parent, eperm, eperm, eperm, -i64::from(libc::ENOSYS)]);
}

#[test]
fn pushing_characters_into_a_terminal_is_refused_even_behind_high_bits() {
    let (free, restricted) = free_and_restricted(Syscalls::default(), || {
        let requests = [
            libc::TCGETS,
            libc::TIOCSTI,
            libc::TIOCSTI | 1 << 32,
            libc::TIOCLINUX | 0xffff_0000_0000_0000_u64,
        ];
        requests.map(|request| call(libc::SYS_ioctl, [u64::MAX, request, 0, 0]))
    });

    let (ebadf, eperm) = (-i64::from(libc::EBADF), -i64::from(libc::EPERM));
    assert_eq!(free, [ebadf; 4], "the kernel looked at the descriptor");
    assert_eq!(restricted, [ebadf, eperm, eperm, eperm]);
}

#[test]
fn no_file_gets_a_set_id_bit() {
    let (free, restricted) = free_and_restricted(Syscalls::default(), || {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let (old, new) = (scratch.path().join("old"), scratch.path().join("new"));
        std::fs::write(&old, "").expect("a file can be written");
        let (old, new) = (c_path(&old), c_path(&new));
        let (old, new) = (old.as_ptr() as u64, new.as_ptr() as u64);
        let here = i64::from(libc::AT_FDCWD).cast_unsigned();
        let (create, only_open) = ((libc::O_CREAT | libc::O_RDWR) as u64, libc::O_RDONLY as u64);
        [
            call(libc::SYS_chmod, [old, 0o4755, 0, 0]),
            call(libc::SYS_fchmodat, [here, old, 0o2755, 0]),
            call(libc::SYS_openat, [here, new, create, 0o4755]),
            call(libc::SYS_mknodat, [here, new, u64::from(libc::S_IFREG) | 0o6755, 0]),
            call(libc::SYS_chmod, [old, 0o1755, 0, 0]),
            // Without O_CREAT the fourth register is whatever it was.
            call(libc::SYS_openat, [here, old, only_open, 0o6777]).min(0),
            call(libc::SYS_openat, [here, new, create, 0o644]).min(0),
        ]
    });

    // In the free thread openat has already made what mknodat is asked for.
    assert_eq!((free[0], free[1], free[2] > 0, free[3]), (0, 0, true, -i64::from(libc::EEXIST)));
    let eperm = -i64::from(libc::EPERM);
    assert_eq!(restricted, [eperm, eperm, eperm, eperm, 0, 0, 0]);
}

#[test]
fn only_the_named_sockets_and_memory_files_can_be_made() {
    let (free, restricted) = free_and_restricted(Syscalls::default(), || {
        let socket = |family: i32, kind: i32, protocol: i32| {
            call(libc::SYS_socket, [family as u64, kind as u64, protocol as u64, 0]).min(0)
        };
        let name = c"stockade";
        let memory =
            |flags: u32| call(libc::SYS_memfd_create, [name.as_ptr() as u64, flags.into(), 0, 0]).min(0);
        [
            socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0),
            socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
            socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
            memory(libc::MFD_NOEXEC_SEAL),
            socket(libc::AF_UNIX, libc::SOCK_RAW, 0),
            socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT),
            memory(0),
        ]
    });

    // Before Linux 6.3 the kernel itself knows no memory file that can never be executed.
    let sealed = if kernel() < (6, 3) { -i64::from(libc::EINVAL) } else { 0 };
    assert_eq!(free, [0, 0, 0, sealed, 0, 0, 0], "every one of these works without a filter");
    let eperm = -i64::from(libc::EPERM);
    assert_eq!(restricted, [0, 0, 0, sealed, eperm, eperm, eperm]);
}

/// The running kernel's version: `6.1.0-56-cloud-amd64` is (6, 1).
fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().expect("a release is ASCII");
    let mut numbers =
        release.split(['.', '-', '+']).map(|n| n.parse().expect("a release starts with numbers"));
    let mut next = || numbers.next().expect("a release has two numbers");
    (next(), next())
}

#[test]
fn a_policy_lifts_a_refusal_by_name() {
    let syscalls = Syscalls { allow: BTreeSet::from(["ptrace".to_owned()]), ..Syscalls::default() };

    let (free, restricted) =
        free_and_restricted(syscalls, || call(libc::SYS_ptrace, [libc::PTRACE_PEEKUSER.into(), 0, 0, 0]));

    assert_eq!((free, restricted), (-i64::from(libc::ESRCH), -i64::from(libc::ESRCH)));
}

#[test]
fn a_refused_call_is_reported_and_fails_as_answered() {
    let (send, receive) = mpsc::channel();
    let caller = thread::spawn(move || {
        let listener = restrict(&Syscalls::default(), true).expect("a listener was asked for");
        send.send((listener, nix::unistd::gettid())).expect("the test waits for it");
        call(libc::SYS_ptrace, [libc::PTRACE_PEEKUSER.into(), 11, 22, 1 << 40])
    });

    let (listener, thread) = receive.recv().expect("the caller installs its filter");
    let reported = seccomp::recv(listener.as_fd()).expect("the call is reported").expect("its caller lives");
    let waited = seccomp::is_waiting(listener.as_fd(), reported.id);
    seccomp::refuse(listener.as_fd(), reported.id, libc::EACCES).expect("the answer is taken");

    assert_eq!(caller.join().expect("the caller ends"), -i64::from(libc::EACCES));
    assert_eq!((i64::from(reported.nr), reported.arch), (libc::SYS_ptrace, 0xc000_003e));
    assert_eq!(reported.args[..4], [libc::PTRACE_PEEKUSER.into(), 11, 22, 1 << 40]);
    assert_eq!(i64::from(reported.pid), i64::from(thread.as_raw()));
    assert!(waited && !seccomp::is_waiting(listener.as_fd(), reported.id));
    seccomp::refuse(listener.as_fd(), reported.id, libc::EACCES).expect("nobody waits for a second answer");
}

#[test]
fn a_32_bit_call_kills_the_process() {
    dies_of_sigsys_only_under_the_filter("kernel::a_32_bit_call_kills_the_process", || {
        let result: i64;
        // SAFETY: 20 is the 32-bit getpid, which takes nothing and touches no memory.
        unsafe { asm!("int 0x80", inlateout("rax") 20_i64 => result) };
        assert!(result > 0, "the 32-bit ABI answered {result}");
    });
}

#[test]
fn an_x32_call_kills_the_process() {
    dies_of_sigsys_only_under_the_filter("kernel::an_x32_call_kills_the_process", || {
        let result = call(0x4000_0000 | libc::SYS_getpid, [0; 4]);
        assert!(result > 0 || result == -i64::from(libc::ENOSYS), "neither x32 nor the lack of it: {result}");
    });
}

/// Runs `attempt` in two processes of its own: it succeeds in the free one, and ends the other.
///
/// `attempt` belongs to the test named `test`, which is run again as those processes.
fn dies_of_sigsys_only_under_the_filter(test: &str, attempt: fn()) {
    if let Some(kind) = std::env::var_os(VICTIM) {
        if kind == "restricted" {
            restrict(&Syscalls::default(), false);
        }
        attempt();
        return;
    }
    let end = |kind: &str| {
        let executable = std::env::current_exe().expect("a test has a path");
        let output =
            Command::new(executable).args([test, "--exact", "--nocapture"]).env(VICTIM, kind).output();
        output.expect("the test can run itself")
    };

    let (free, restricted) = (end("free"), end("restricted"));

    assert!(
        free.status.success(),
        "not open even without a filter: {}",
        String::from_utf8_lossy(&free.stderr)
    );
    assert_eq!(restricted.status.signal(), Some(libc::SIGSYS), "{:?}", restricted.status);
}
