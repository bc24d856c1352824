//! How much may be used, and how urgently.

use std::fs;

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{call, describe, errno, failed, succeeded, text};

const NO_RESOURCE: &str = "the runner lacks CAP_SYS_RESOURCE";
/// More than any policy lets an agent have.
const MANY_PROCESSES: usize = 6_000;

/// Attempts on limits.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Limits, reference, success, move |_| deed())
    };
    vec![
        new("rlimit_raise", "setrlimit(2)", "a hard limit is raised", || {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: `limit` lives through both calls.
            let result = unsafe {
                libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
                limit.rlim_max += 1;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
            };
            if result == 0 {
                Verdict::through("nofile was raised")
            } else {
                Verdict::refused(errno(), describe(errno()))
            }
        })
        .unless(libc::EPERM, NO_RESOURCE),
        new("prlimit_init", "prlimit(2)", "pid 1's limits are read", || {
            let mut limit = [0u64; 2];
            let arguments = [1, libc::RLIMIT_NOFILE as usize, 0, limit.as_mut_ptr() as usize];
            succeeded("prlimit64", call(libc::SYS_prlimit64, &arguments))
        }),
        new("nice_raise", "setpriority(2)", "its priority is raised", || {
            succeeded("setpriority", call(libc::SYS_setpriority, &[0, 0, -5isize as usize]))
        }),
        new("realtime", "sched(7)", "a real-time class is taken", || {
            let priority = 1i32;
            let arguments = [0, libc::SCHED_FIFO as usize, &raw const priority as usize];
            succeeded("sched_setscheduler", call(libc::SYS_sched_setscheduler, &arguments))
        })
        .unless(libc::EPERM, "this cpu group has no real-time share"),
        new("io_realtime", "ioprio_set(2)", "the real-time I/O class is taken", || {
            const REALTIME: usize = 1 << 13;
            succeeded("ioprio_set", call(libc::SYS_ioprio_set, &[1, 0, REALTIME | 4]))
        }),
        new("schedule_init", "sched_setaffinity(2)", "pid 1 is moved to another CPU", || {
            let mut mask = [0u64; 16];
            let asked =
                call(libc::SYS_sched_getaffinity, &[1, size_of_val(&mask), mask.as_mut_ptr() as usize]);
            if let Err(errno) = asked {
                return Verdict::refused(errno, format!("sched_getaffinity: {}", describe(errno)));
            }
            let arguments = [1, size_of_val(&mask), mask.as_ptr() as usize];
            succeeded("sched_setaffinity", call(libc::SYS_sched_setaffinity, &arguments))
        }),
        new("lock_memory", "mlock(2)", "256 MiB are locked in memory", lock_memory)
            .unless(libc::ENOMEM, "the runner's own limit on locked memory"),
        new("oom_immunity", "proc_pid_oom_score_adj(5)", "it makes itself the last to be killed", || {
            match fs::write("/proc/self/oom_score_adj", "-900") {
                Ok(()) => Verdict::through("oom_score_adj is -900"),
                Err(error) => failed("/proc/self/oom_score_adj", &error),
            }
        })
        .unless(libc::EACCES, NO_RESOURCE),
        new("unlimited_tmp", "tmpfs(5)", "nobody has limited /tmp", || unlimited("/tmp")),
        new("unlimited_shm", "tmpfs(5)", "nobody has limited /dev/shm", || unlimited("/dev/shm")),
        new("fork_bomb", "cgroup pids", "6000 processes run at once", fork_many)
            .unless(libc::EAGAIN, "the machine's own limit on processes"),
        new("many_descriptors", "setrlimit(2)", "more than 100000 descriptors may be open", || {
            match fs::read_to_string("/proc/self/limits") {
                Ok(limits) => {
                    let hard = limits
                        .lines()
                        .find(|line| line.starts_with("Max open files"))
                        .and_then(|line| line.split_whitespace().rev().nth(1)?.parse::<u64>().ok());
                    match hard {
                        Some(hard) => Verdict::when(hard > 100_000, format!("at most {hard}")),
                        None => Verdict::through("unlimited"),
                    }
                }
                Err(error) => Verdict::Broken(format!("/proc/self/limits: {error}")),
            }
        })
        .unless_absent("the machine's own limit is lower"),
    ]
}

fn lock_memory() -> Verdict {
    const SIZE: usize = 256 << 20;
    // SAFETY: asks for fresh memory; nothing existing is touched.
    let memory = unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        libc::mmap(std::ptr::null_mut(), SIZE, access, kind, -1, 0)
    };
    if memory == libc::MAP_FAILED {
        return Verdict::refused(errno(), "mmap");
    }
    succeeded("mlock", call(libc::SYS_mlock, &[memory as usize, SIZE]))
}

/// The size of a tmpfs that nobody limited is half of the memory, and not among its options: by its size alone it could not be told
/// from one that somebody allowed as much, on a small machine.
fn unlimited(place: &str) -> Verdict {
    let path = text(place);
    // SAFETY: statvfs and sysinfo are plain data; all zeroes is a value of them.
    let (mut about, mut machine): (libc::statvfs, libc::sysinfo) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: the path is a C string, and both structures live through the calls.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut about) != 0 || libc::sysinfo(&raw mut machine) != 0 } {
        return Verdict::refused(errno(), describe(errno()));
    }
    let (size, memory) = (about.f_blocks * about.f_frsize, machine.totalram * u64::from(machine.mem_unit));
    let detail = format!("{} MiB of {} MiB", size >> 20, memory >> 20);
    match size_option(place) {
        Some(option) => Verdict::absent(format!("{detail}, {option}")),
        None => Verdict::when(size >= memory / 2 - memory / 100, detail),
    }
}

/// The option `size=…` of what is mounted at `place`, topmost (proc_pid_mountinfo(5)); none where nobody can look.
fn size_option(place: &str) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = table.lines().rfind(|line| line.split(' ').nth(4) == Some(place))?;
    let options = mount.rsplit(' ').next()?;
    options.split(',').find(|option| option.starts_with("size=")).map(str::to_owned)
}

/// Children that do nothing but wait, all killed again; they share their memory with this process.
fn fork_many() -> Verdict {
    let mut children = Vec::with_capacity(MANY_PROCESSES);
    let mut refusal = None;
    while children.len() < MANY_PROCESSES {
        // SAFETY: single-threaded process; the child only pauses, and dies with its parent.
        match unsafe { libc::fork() } {
            -1 => {
                refusal = Some(errno());
                break;
            }
            0 => loop {
                // SAFETY: no memory is touched.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::pause();
                }
            },
            child => children.push(child),
        }
    }
    for &child in &children {
        // SAFETY: our own children, not yet waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    match refusal {
        None => Verdict::through(format!("{} at once", children.len())),
        Some(errno) => Verdict::refused(errno, format!("after {}: {}", children.len(), describe(errno))),
    }
}
