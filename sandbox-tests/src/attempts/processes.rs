//! Other processes: pid 1 of the sandbox, siblings, and whoever else can be seen.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{call, describe, done, failed, own, reached, succeeded};

const PTRACE_ATTACH: usize = 16;
const PTRACE_SEIZE: usize = 0x4206;
/// The first process of the sandbox; without one, the belt's.
const INIT: usize = 1;

/// Attempts on processes.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Processes, reference, success, move |_| deed())
    };
    vec![
        new(
            "ptrace_sibling",
            "ptrace(2), seccomp bypass before Linux 4.8",
            "a sibling is attached to",
            || {
                with_sibling(|pid| {
                    succeeded("PTRACE_ATTACH", call(libc::SYS_ptrace, &[PTRACE_ATTACH, pid, 0, 0]))
                })
            },
        ),
        new("ptrace_seize_sibling", "ptrace(2)", "a sibling is seized", || {
            with_sibling(|pid| succeeded("PTRACE_SEIZE", call(libc::SYS_ptrace, &[PTRACE_SEIZE, pid, 0, 0])))
        }),
        new("ptrace_init", "CVE-2019-13272 class", "pid 1 is seized", || {
            succeeded("PTRACE_SEIZE", call(libc::SYS_ptrace, &[PTRACE_SEIZE, INIT, 0, 0]))
        }),
        new("process_vm_readv", "process_vm_readv(2)", "pid 1's memory may be read", || {
            transfer("process_vm_readv", libc::SYS_process_vm_readv)
        }),
        new("process_vm_writev", "process_vm_writev(2)", "pid 1's memory may be written", || {
            transfer("process_vm_writev", libc::SYS_process_vm_writev)
        }),
        new("process_madvise", "process_madvise(2)", "pid 1's memory may be advised about", || {
            let vector = [0usize, 0];
            with_init(|init| {
                let arguments = [init, vector.as_ptr() as usize, 1, libc::MADV_COLD as usize, 0];
                reached("process_madvise", call(libc::SYS_process_madvise, &arguments))
            })
        }),
        new("pidfd_getfd", "pidfd_getfd(2)", "pid 1's standard input is taken", || {
            with_init(|init| succeeded("pidfd_getfd", call(libc::SYS_pidfd_getfd, &[init, 0, 0])))
        }),
        new("kcmp", "kcmp(2)", "kernel pointers are compared", || {
            let own = std::process::id() as usize;
            succeeded("kcmp", call(libc::SYS_kcmp, &[own, INIT, 0, 0, 0]))
        }),
        new(
            "signal_out",
            "pid_namespaces(7), Landlock scoping",
            "a process beyond this sandbox can be signalled",
            signal_out,
        ),
        new("init_environ", "proc_pid_environ(5)", "pid 1's environment is readable", || {
            match fs::read("/proc/1/environ") {
                Ok(text) => Verdict::when(text.contains(&b'='), format!("{} bytes", text.len())),
                Err(error) => failed("/proc/1/environ", &error),
            }
        }),
        new("init_maps", "proc_pid_maps(5)", "pid 1's address space is readable", || {
            match fs::read("/proc/1/maps") {
                Ok(text) => Verdict::when(!text.is_empty(), format!("{} bytes", text.len())),
                Err(error) => failed("/proc/1/maps", &error),
            }
        }),
        new("init_memory", "CVE-2012-0056 class", "pid 1's memory is opened for writing", || {
            done("/proc/1/mem", fs::OpenOptions::new().read(true).write(true).open("/proc/1/mem"))
        }),
        new("init_descriptors", "proc_pid_fd(5)", "pid 1's descriptors are listed", || {
            done("/proc/1/fd", fs::read_dir("/proc/1/fd"))
        }),
        new("init_stack", "proc_pid_stack(5)", "pid 1's kernel stack is readable", || {
            match fs::read("/proc/1/stack") {
                Ok(text) => Verdict::when(!text.is_empty(), format!("{} bytes", text.len())),
                Err(error) => failed("/proc/1/stack", &error),
            }
        })
        .unless(libc::ENOENT, "CONFIG_STACKTRACE is off"),
        new("init_executable", "CVE-2019-5736", "pid 1's program can be opened", || {
            done("/proc/1/exe", fs::File::open("/proc/1/exe"))
        }),
        new(
            "executable_overwrite",
            "CVE-2019-5736",
            "another process's program can be opened for writing",
            overwrite,
        ),
        new("other_root", "proc_pid_root(5)", "a process with another root is in view", other_root),
        new("init_working_directory", "CVE-2024-21626", "pid 1's working directory can be entered", || {
            done("/proc/1/cwd", fs::read_dir("/proc/1/cwd"))
        }),
        new(
            "init_oom_score",
            "proc_pid_oom_score_adj(5)",
            "pid 1 can be made the first to be killed",
            || {
                done(
                    "/proc/1/oom_score_adj",
                    fs::OpenOptions::new().write(true).open("/proc/1/oom_score_adj"),
                )
            },
        ),
        Attempt::new(
            "descriptor_leak",
            Class::Processes,
            "CVE-2024-21626, CVE-2016-9962",
            "a descriptor beyond 0-2 was inherited",
            |decoys| {
                Verdict::when(!decoys.inherited.is_empty(), format!("inherited: {:?}", decoys.inherited))
            },
        ),
    ]
}

fn with_init(deed: impl Fn(usize) -> Verdict) -> Verdict {
    match call(libc::SYS_pidfd_open, &[INIT, 0]) {
        Ok(descriptor) => deed(own(descriptor).as_raw_fd() as usize),
        Err(errno) => Verdict::refused(errno, format!("pidfd_open: {}", describe(errno))),
    }
}

/// Runs `deed` on a child that waits to be killed.
fn with_sibling(deed: impl Fn(usize) -> Verdict) -> Verdict {
    // SAFETY: single-threaded process; the child only pauses.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Verdict::Broken("no sibling".into()),
        0 => loop {
            // SAFETY: pause(2) has no arguments.
            unsafe { libc::pause() };
        },
        child => {
            let verdict = deed(child as usize);
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
            verdict
        }
    }
}

/// The right to the target's memory is checked before its addresses are: EFAULT means that there is one.
fn transfer(what: &str, number: i64) -> Verdict {
    let mut word = 0u64;
    let (local, remote) = ([&raw mut word as usize, 8], [8usize, 8]);
    match call(number, &[INIT, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0]) {
        Err(libc::EFAULT) => Verdict::through(format!("{what} looked at pid 1's memory")),
        result => succeeded(what, result),
    }
}

/// Asks about every pid below the usual maximum: whoever answers and is not of this sandbox is a find.
fn signal_out() -> Verdict {
    // SAFETY: getpid(2) and getppid(2) always succeed.
    let own = unsafe { [1, libc::getpid(), libc::getppid()] };
    let others: Vec<i32> = (1..=65_536)
        .filter(|pid| !own.contains(pid))
        .filter(|&pid| {
            // SAFETY: signal 0 only asks; ESRCH says that nobody is there, EPERM that somebody is.
            unsafe { libc::kill(pid, 0) == 0 || crate::kernel::errno() == libc::EPERM }
        })
        .collect();
    Verdict::when(!others.is_empty(), format!("processes in reach besides {own:?}: {others:?}"))
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// ETXTBSY says that only the program's running stands in the way, and that ends.
fn overwrite() -> Verdict {
    let own = fs::metadata("/proc/self/exe").map(|exe| (exe.dev(), exe.ino())).ok();
    let mut refusal = Verdict::absent("nobody else's program is in view");
    for pid in pids() {
        let path = format!("/proc/{pid}/exe");
        if fs::metadata(&path).map(|exe| (exe.dev(), exe.ino())).ok() == own && own.is_some() {
            continue;
        }
        match fs::OpenOptions::new().write(true).open(&path) {
            Ok(_) => return Verdict::through(format!("{path} is open for writing")),
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                return Verdict::through(format!("{path} may be written once it has ended"));
            }
            Err(error) => refusal = failed(&path, &error),
        }
    }
    refusal
}

fn other_root() -> Verdict {
    let identity = |path: &str| fs::metadata(path).map(|root| (root.dev(), root.ino()));
    let own = match identity("/") {
        Ok(own) => own,
        Err(error) => return Verdict::Broken(format!("/: {error}")),
    };
    let other =
        pids().into_iter().find(|pid| identity(&format!("/proc/{pid}/root")).is_ok_and(|root| root != own));
    match other {
        Some(pid) => Verdict::through(format!("/proc/{pid}/root is another root")),
        None => Verdict::absent("every root in view is our own"),
    }
}
