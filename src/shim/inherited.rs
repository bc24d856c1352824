//! What the caller's own process passes on that only a process with the host's rights can put right.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// System-call filters that this process was started under, and that everything it starts is under, too.
static FILTERS: AtomicU32 = AtomicU32::new(0);

/// Looks how many there are: whoever is started under some has to show one more than those.
pub fn count_filters() -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let count = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    // Before Linux 5.9 there is no such line.
    FILTERS.store(count.and_then(|count| count.trim().parse().ok()).unwrap_or(0), Ordering::Relaxed);
    Ok(())
}

/// What [`count_filters`] has found; 0 for `stockade run`, which is started under none that it knows of.
pub fn filters() -> u32 {
    FILTERS.load(Ordering::Relaxed)
}

/// Makes room for the agent's core limit of 1, which stops a program that the kernel would start as root for each crash
/// (core(5)): where the caller's hard limit is 0, as many hardening guides have it, the kernel runs that program.
pub fn make_room_for_core_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    if hard >= 1 || setrlimit(Resource::RLIMIT_CORE, soft, 1).is_ok() {
        return Ok(());
    }
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    match pattern.starts_with('|') {
        false => Ok(()), // to a file, a limit of 0 writes nothing either
        true => Err(io::Error::other(
            "a core limit of 0 lets kernel.core_pattern start a program as root for each crash: start stockade with \
             `ulimit -Hc 1` or more",
        )),
    }
}

/// As many open files as `wanted` for a child, or as many as this process may give (CAP_SYS_RESOURCE raises a limit).
pub fn make_room_for_open_files(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let enough = hard >= wanted || setrlimit(Resource::RLIMIT_NOFILE, soft, wanted).is_ok();
    Ok(if enough { wanted } else { hard })
}

/// A service that the kernel is told to spare (OOMScoreAdjust= of systemd.exec(5)) must not have an agent that is
/// spared, too: its memory limit would find nobody to end. Written from outside, so that the agent cannot go back.
pub fn take_oom_protection(pid: u32) -> io::Result<()> {
    let own = fs::read_to_string("/proc/self/oom_score_adj")?;
    match own.trim_start().starts_with('-') {
        true => fs::write(format!("/proc/{pid}/oom_score_adj"), "0"),
        false => Ok(()),
    }
}
