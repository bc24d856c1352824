//! The process itself: its uids, its capabilities, the flags and filters that it cannot shed.

use std::fs;

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{call, describe, failed, succeeded};

/// Every flag of securebits that matters, with its lock (capabilities(7)).
const LOCKED_SECUREBITS: i64 = 0b1110_1111;
const SYS_LANDLOCK_CREATE_RULESET: i64 = 444;
const SYS_LANDLOCK_RESTRICT_SELF: i64 = 446;
/// How many Landlock domains can be stacked (landlock(7)).
const LANDLOCK_LAYERS: usize = 16;

/// Attempts on the process's own identity.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Identity, reference, success, move |_| deed())
    };
    vec![
        new("setuid_root", "setresuid(2)", "uid 0 is assumed", || {
            succeeded("setresuid", call(libc::SYS_setresuid, &[0, 0, 0]))
        }),
        new("setuid_other", "setresuid(2)", "another uid is assumed", || {
            succeeded("setresuid", call(libc::SYS_setresuid, &[4242, 4242, 4242]))
        }),
        new("setgid_other", "setresgid(2)", "another gid is assumed", || {
            succeeded("setresgid", call(libc::SYS_setresgid, &[4242, 4242, 4242]))
        }),
        new("setgroups", "CVE-2014-8989", "supplementary groups are dropped", || {
            succeeded("setgroups", call(libc::SYS_setgroups, &[0, 0]))
        }),
        new("uid_zero", "uid 0 inside", "the attempt runs as uid 0", || {
            // SAFETY: geteuid(2) always succeeds.
            let uid = unsafe { libc::geteuid() };
            Verdict::when(uid == 0, format!("uid {uid}"))
        }),
        new("uid_map_host", "user_namespaces(7)", "uid 0 of the host is mapped inside", uid_map_host),
        new("groups_kept", "CVE-2014-8989", "a group that is nobody's inside is kept", groups_kept)
            .unless_absent("the runner has no other group"),
        new("capabilities", "capabilities(7)", "one of the five sets is not empty", || {
            capabilities(&["Inh", "Prm", "Eff", "Bnd", "Amb"])
        }),
        new("capability_bounding", "capabilities(7)", "the bounding set is not empty", || {
            capabilities(&["Bnd"])
        }),
        new("capset", "capabilities(7)", "a capability is raised", capset),
        new("securebits", "capabilities(7)", "securebits are not locked", || {
            match call(libc::SYS_prctl, &[libc::PR_GET_SECUREBITS as usize]) {
                Ok(bits) => Verdict::when(
                    bits & LOCKED_SECUREBITS != LOCKED_SECUREBITS,
                    format!("securebits {bits:#x}"),
                ),
                Err(errno) => Verdict::Broken(format!("PR_GET_SECUREBITS: {}", describe(errno))),
            }
        }),
        new("new_privileges", "prctl(2), PR_SET_NO_NEW_PRIVS", "exec may still gain privileges", || {
            status("NoNewPrivs", "1")
        }),
        new("seccomp_absent", "seccomp(2)", "there is no filter", || status("Seccomp", "2")),
        new("landlock_absent", "landlock(7)", "there is no Landlock domain", landlock_absent)
            .unless(libc::ENOSYS, "CONFIG_SECURITY_LANDLOCK is off")
            .unless(libc::EOPNOTSUPP, "Landlock is not enabled at boot"),
        new("core_dump", "core(5)", "a crash writes a core, or feeds a program of the host", core_dump)
            .unless_absent("the machine's limit is 0 and no program gets the core"),
        new("session_outside", "CVE-2017-5226", "its session is led from outside of the sandbox", || {
            // SAFETY: getsid(2) of oneself always succeeds; 0 stands for a leader outside of the pid namespace.
            let session = unsafe { libc::getsid(0) };
            Verdict::when(session == 0, format!("session {session}"))
        })
        .unless_absent("the belt's pid namespace holds the session's leader"),
    ]
}

fn line<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// Through unless `/proc/self/status` gives `key` the wanted value.
fn status(key: &str, wanted: &str) -> Verdict {
    match fs::read_to_string("/proc/self/status") {
        Ok(text) => match line(&text, key) {
            Some(value) => Verdict::when(value != wanted, format!("{key} is {value}")),
            None => Verdict::Broken(format!("/proc/self/status does not name {key}")),
        },
        Err(error) => Verdict::Broken(format!("/proc/self/status: {error}")),
    }
}

fn capabilities(sets: &[&str]) -> Verdict {
    let text = match fs::read_to_string("/proc/self/status") {
        Ok(text) => text,
        Err(error) => return Verdict::Broken(format!("/proc/self/status: {error}")),
    };
    let mut held = Vec::new();
    for set in sets {
        match line(&text, &format!("Cap{set}")).and_then(|value| u64::from_str_radix(value, 16).ok()) {
            Some(0) => {}
            Some(value) => held.push(format!("{set}={value:x}")),
            None => return Verdict::Broken(format!("/proc/self/status does not name Cap{set}")),
        }
    }
    Verdict::when(!held.is_empty(), format!("held: {held:?}"))
}

/// Gives every set what the permitted set may hold; through if CAP_CHOWN is effective afterwards.
fn capset() -> Verdict {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable; low words, then high words.
    let chown = [1u32, 1, 0, 0, 0, 0];
    succeeded("capset", call(libc::SYS_capset, &[header.as_ptr() as usize, chown.as_ptr() as usize]))
}

fn uid_map_host() -> Verdict {
    match fs::read_to_string("/proc/self/uid_map") {
        Ok(map) => {
            let shows_root = map.lines().any(|range| range.split_whitespace().nth(1) == Some("0"));
            Verdict::when(shows_root, map.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        Err(error) => failed("/proc/self/uid_map", &error),
    }
}

fn groups_kept() -> Verdict {
    let mut groups = [0u32; 64];
    // SAFETY: room for 64 groups, and the kernel is told so.
    let count = unsafe { libc::getgroups(64, groups.as_mut_ptr()) };
    // SAFETY: getegid(2) always succeeds.
    let own = unsafe { libc::getegid() };
    match usize::try_from(count) {
        Ok(count) => {
            let others: Vec<_> = groups[..count].iter().filter(|&&group| group != own).collect();
            Verdict::when(!others.is_empty(), format!("groups besides {own}: {others:?}"))
        }
        Err(_) => Verdict::Broken("more than 64 groups".into()),
    }
}

/// Domains stack up to sixteen deep: if all sixteen fit on top, there was none below.
fn landlock_absent() -> Verdict {
    if let Err(errno) = call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]) {
        return Verdict::Broken(format!("PR_SET_NO_NEW_PRIVS: {}", describe(errno)));
    }
    // Handles LANDLOCK_ACCESS_FS_MAKE_BLOCK, which nobody here does.
    let handled = [1u64 << 11];
    for layer in 0..LANDLOCK_LAYERS {
        let ruleset = match call(SYS_LANDLOCK_CREATE_RULESET, &[handled.as_ptr() as usize, 8, 0]) {
            Ok(ruleset) => ruleset,
            Err(errno) => {
                return Verdict::refused(errno, format!("landlock_create_ruleset: {}", describe(errno)));
            }
        };
        match call(SYS_LANDLOCK_RESTRICT_SELF, &[ruleset as usize, 0]) {
            Ok(_) => {}
            Err(libc::E2BIG) => {
                return Verdict::absent(format!("{} domains were there", LANDLOCK_LAYERS - layer));
            }
            Err(errno) => {
                return Verdict::refused(errno, format!("landlock_restrict_self: {}", describe(errno)));
            }
        }
    }
    Verdict::through("sixteen domains fit on top of none")
}

/// A piped core ignores the limit, unless it is 1: the kernel takes that for a crash of the piped program itself.
fn core_dump() -> Verdict {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit) } != 0 {
        return Verdict::Broken("getrlimit".into());
    }
    let is_piped =
        fs::read_to_string("/proc/sys/kernel/core_pattern").is_ok_and(|pattern| pattern.starts_with('|'));
    let open = limit.rlim_max > 1 || (is_piped && limit.rlim_cur != 1);
    Verdict::when(open, format!("limit {} of {}, piped: {is_piped}", limit.rlim_cur, limit.rlim_max))
}
