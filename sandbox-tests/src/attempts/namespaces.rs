//! Namespaces: new ones bring fresh capabilities and with them most of the kernel; old ones belong to somebody.

use std::fs;
use std::os::fd::AsRawFd;

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{call, describe, failed, own, succeeded};

/// Name in `/proc/self/ns`, flag of clone(2).
const KINDS: [(&str, usize); 8] = [
    ("user", 0x1000_0000),
    ("mnt", 0x0002_0000),
    ("pid", 0x2000_0000),
    ("net", 0x4000_0000),
    ("ipc", 0x0800_0000),
    ("uts", 0x0400_0000),
    ("cgroup", 0x0200_0000),
    ("time", 0x80),
];
const NEW_USER: usize = KINDS[0].1;
const NEW_MOUNT: usize = KINDS[1].1;

/// Attempts on namespaces.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Namespaces, reference, success, move |_| deed())
    };
    let mut all: Vec<_> = KINDS.iter().copied().map(|(name, flag)| unshare(name, flag)).collect();
    all.extend(["mnt", "net", "pid", "user"].map(join));
    all.extend([
        new("clone_user", "CVE-2022-0185 class", "clone makes a user namespace", || clone(NEW_USER)),
        new("clone_user_high_bits", "clone(2)", "clone with high bits makes a user namespace", || {
            clone((1 << 33) | NEW_USER)
        }),
        new("clone3_user", "CVE-2022-0185 class", "clone3 makes a user namespace", || {
            let mut arguments = [0u64; 11];
            (arguments[0], arguments[4]) = (NEW_USER as u64, libc::SIGCHLD as u64);
            ended(call(libc::SYS_clone3, &[arguments.as_ptr() as usize, size_of_val(&arguments)]))
        }),
        new(
            "user_and_mount",
            "CVE-2022-0185, CVE-2023-0386",
            "a new user namespace mounts a tmpfs",
            user_and_mount,
        ),
        new("user_root", "user_namespaces(7)", "a new user namespace makes its maker uid 0", user_root),
        new("setns_pidfd", "setns(2)", "all of pid 1's namespaces are joined by its pidfd", || {
            match call(libc::SYS_pidfd_open, &[1, 0]) {
                Ok(init) => {
                    let init = own(init);
                    succeeded("setns", call(libc::SYS_setns, &[init.as_raw_fd() as usize, NEW_MOUNT]))
                }
                Err(errno) => Verdict::refused(errno, format!("pidfd_open: {}", describe(errno))),
            }
        }),
    ]);
    all
}

fn unshare(name: &'static str, flag: usize) -> Attempt {
    Attempt::new(
        format!("unshare_{name}"),
        Class::Namespaces,
        "unshare(2)",
        format!("a {name} namespace is made"),
        move |_| succeeded("unshare", call(libc::SYS_unshare, &[flag])),
    )
    .unless(libc::EINVAL, "this kernel has no such namespace")
}

fn join(name: &'static str) -> Attempt {
    let path = format!("/proc/1/ns/{name}");
    let success = format!("pid 1's {name} namespace is opened");
    let attempt = Attempt::new(format!("setns_{name}"), Class::Namespaces, "setns(2)", success, move |_| {
        let namespace = match fs::File::open(&path) {
            Ok(namespace) => namespace,
            Err(error) => return failed(&path, &error),
        };
        succeeded("setns", call(libc::SYS_setns, &[namespace.as_raw_fd() as usize, 0]))
    });
    attempt.unless(libc::EINVAL, "nobody joins the user namespace that it is in")
}

fn clone(flag: usize) -> Verdict {
    ended(call(libc::SYS_clone, &[flag | libc::SIGCHLD as usize, 0, 0, 0, 0]))
}

/// In the child of a clone: ends it. In the parent: the verdict.
fn ended(result: Result<i64, i32>) -> Verdict {
    match result {
        // SAFETY: the child has copied everything it needs, which is nothing, and ends at once.
        Ok(0) => unsafe { libc::_exit(0) },
        result => succeeded("clone", result),
    }
}

fn user_and_mount() -> Verdict {
    if let Err(errno) = call(libc::SYS_unshare, &[NEW_USER | NEW_MOUNT]) {
        return Verdict::refused(errno, format!("unshare: {}", describe(errno)));
    }
    let (kind, target) = (c"tmpfs".as_ptr() as usize, c"/tmp".as_ptr() as usize);
    succeeded("mount", call(libc::SYS_mount, &[kind, target, kind, 0, 0]))
}

fn user_root() -> Verdict {
    // SAFETY: geteuid(2) always succeeds.
    let uid = unsafe { libc::geteuid() };
    if let Err(errno) = call(libc::SYS_unshare, &[NEW_USER]) {
        return Verdict::refused(errno, format!("unshare: {}", describe(errno)));
    }
    if let Err(error) = fs::write("/proc/self/uid_map", format!("0 {uid} 1")) {
        return failed("/proc/self/uid_map", &error);
    }
    // SAFETY: as above.
    Verdict::when(unsafe { libc::geteuid() } == 0, "uid 0 in a namespace of one's own")
}
