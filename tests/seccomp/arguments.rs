//! Rules about arguments, at their boundaries.

use std::collections::BTreeSet;

use stockade::plan::seccomp::arguments;
use stockade::plan::seccomp::compile::ALLOW;

use crate::*;

/// Arguments of `call`, then whether they are allowed; the constants come from the C headers, not from the rules.
pub fn cases() -> Vec<(&'static str, &'static [u32], bool)> {
    const BAD_FD: u32 = u32::MAX;
    const HERE: u32 = libc::AT_FDCWD as u32;
    const RDWR_CREAT: u32 = (libc::O_RDWR | libc::O_CREAT) as u32;
    const TMPFILE: u32 = (libc::O_RDWR | libc::O_TMPFILE) as u32;
    const DIRECTORY: u32 = (libc::O_DIRECTORY | libc::O_CLOEXEC) as u32;
    const THREAD: u32 =
        (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_THREAD | libc::CLONE_SIGHAND)
            as u32;
    const FLAGS: u32 = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;
    const NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    const TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;
    vec![
        ("clone", &[libc::SIGCHLD as u32], true),
        ("clone", &[THREAD], true),
        ("clone", &[0xff | libc::CLONE_IO as u32 | libc::CLONE_PARENT as u32], true),
        ("clone", &[libc::CLONE_NEWUSER as u32], false),
        ("clone", &[libc::CLONE_NEWNS as u32 | THREAD], false),
        ("clone", &[libc::CLONE_NEWCGROUP as u32], false),
        ("clone", &[libc::CLONE_NEWUTS as u32], false),
        ("clone", &[libc::CLONE_NEWIPC as u32], false),
        ("clone", &[libc::CLONE_NEWPID as u32 | libc::SIGCHLD as u32], false),
        ("clone", &[libc::CLONE_NEWNET as u32], false),
        ("clone", &[u32::MAX], false),
        ("socket", &[libc::AF_UNIX as u32, libc::SOCK_STREAM as u32 | FLAGS, 0], true),
        ("socket", &[libc::AF_UNIX as u32, libc::SOCK_SEQPACKET as u32, 0], true),
        ("socket", &[libc::AF_UNIX as u32, libc::SOCK_RAW as u32, 0], false),
        ("socket", &[libc::AF_UNIX as u32, libc::SOCK_STREAM as u32, 1], false),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_STREAM as u32 | FLAGS, 0], true),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_STREAM as u32, libc::IPPROTO_TCP as u32], true),
        ("socket", &[libc::AF_INET6 as u32, libc::SOCK_DGRAM as u32, libc::IPPROTO_UDP as u32], true),
        ("socket", &[libc::AF_INET6 as u32, libc::SOCK_STREAM as u32, libc::IPPROTO_MPTCP as u32], false),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_STREAM as u32, libc::IPPROTO_SCTP as u32], false),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_SEQPACKET as u32, libc::IPPROTO_SCTP as u32], false),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_DCCP as u32, libc::IPPROTO_DCCP as u32], false),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_DGRAM as u32, libc::IPPROTO_UDPLITE as u32], false),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_DGRAM as u32, libc::IPPROTO_ICMP as u32], false),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_DGRAM as u32, libc::IPPROTO_TCP as u32], false),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_RAW as u32, libc::IPPROTO_TCP as u32], false),
        ("socket", &[libc::AF_INET as u32, libc::SOCK_RAW as u32, 0], false),
        ("socket", &[libc::AF_NETLINK as u32, libc::SOCK_RAW as u32, libc::NETLINK_ROUTE as u32], true),
        ("socket", &[libc::AF_NETLINK as u32, libc::SOCK_DGRAM as u32 | FLAGS, 0], true),
        ("socket", &[libc::AF_NETLINK as u32, libc::SOCK_RAW as u32, libc::NETLINK_AUDIT as u32], false),
        ("socket", &[libc::AF_NETLINK as u32, libc::SOCK_RAW as u32, libc::NETLINK_NETFILTER as u32], false),
        ("socket", &[libc::AF_ALG as u32, libc::SOCK_SEQPACKET as u32, 0], false),
        ("socket", &[libc::AF_VSOCK as u32, libc::SOCK_STREAM as u32, 0], false),
        ("socket", &[libc::AF_PACKET as u32, libc::SOCK_RAW as u32, 0], false),
        ("socket", &[libc::AF_XDP as u32, libc::SOCK_RAW as u32, 0], false),
        ("socket", &[libc::AF_KEY as u32, libc::SOCK_RAW as u32, 2], false),
        ("socket", &[0, libc::SOCK_STREAM as u32, 0], false),
        ("socket", &[u32::MAX, u32::MAX, u32::MAX], false),
        ("socketpair", &[libc::AF_UNIX as u32, libc::SOCK_DGRAM as u32 | FLAGS, 0], true),
        ("socketpair", &[libc::AF_INET as u32, libc::SOCK_STREAM as u32, 0], false),
        ("socketpair", &[libc::AF_TIPC as u32, libc::SOCK_STREAM as u32, 0], false),
        ("ioctl", &[0, libc::TCGETS as u32], true),
        ("ioctl", &[0, libc::TIOCGWINSZ as u32], true),
        ("ioctl", &[0, libc::TIOCSCTTY as u32], true),
        ("ioctl", &[0, libc::FIONREAD as u32], true),
        ("ioctl", &[0, libc::FICLONE as u32], true),
        ("ioctl", &[0, libc::TIOCSTI as u32], false),
        ("ioctl", &[BAD_FD, libc::TIOCSTI as u32], false),
        ("ioctl", &[0, libc::TIOCLINUX as u32], false),
        ("ioctl", &[0, libc::TIOCCONS as u32], false),
        ("ioctl", &[0, 0x5423], false), // TIOCSETD
        ("ioctl", &[0, 0x4b33], false), // KDSKBSENT-like
        ("ioctl", &[0, 0x4b00], false),
        ("ioctl", &[0, 0x5606], false), // VT_ACTIVATE
        ("ioctl", &[0, 0x56ff], false),
        ("ioctl", &[0, 0x5700], true),
        ("ioctl", &[0, 0x4aff], true),
        ("prctl", &[libc::PR_SET_NAME as u32], true),
        ("prctl", &[libc::PR_SET_PDEATHSIG as u32], true),
        ("prctl", &[libc::PR_SET_NO_NEW_PRIVS as u32], true),
        ("prctl", &[libc::PR_SET_SECCOMP as u32], true),
        ("prctl", &[libc::PR_SET_VMA as u32], true),
        ("prctl", &[libc::PR_SET_PTRACER as u32], true),
        ("prctl", &[libc::PR_SET_MM as u32], false),
        ("prctl", &[libc::PR_SCHED_CORE as u32], false),
        ("prctl", &[67], false), // PR_SET_MEMORY_MERGE
        ("prctl", &[0], false),
        ("prctl", &[u32::MAX], false),
        ("personality", &[0], true),
        ("personality", &[u32::MAX], true),
        ("personality", &[libc::READ_IMPLIES_EXEC as u32], false),
        ("personality", &[libc::ADDR_NO_RANDOMIZE as u32], false),
        ("personality", &[8], false),
        ("seccomp", &[libc::SECCOMP_SET_MODE_FILTER, 0], true),
        ("seccomp", &[libc::SECCOMP_SET_MODE_FILTER, TSYNC], true),
        ("seccomp", &[libc::SECCOMP_GET_ACTION_AVAIL, 0], true),
        ("seccomp", &[libc::SECCOMP_SET_MODE_FILTER, NEW_LISTENER], false),
        ("seccomp", &[libc::SECCOMP_SET_MODE_FILTER, NEW_LISTENER | TSYNC | 1 << 4], false),
        ("seccomp", &[4, 0], false),
        ("memfd_create", &[0, libc::MFD_NOEXEC_SEAL | libc::MFD_CLOEXEC], true),
        ("memfd_create", &[0, libc::MFD_NOEXEC_SEAL], true),
        ("memfd_create", &[0, 0], false),
        ("memfd_create", &[0, libc::MFD_EXEC], false),
        ("memfd_create", &[0, libc::MFD_EXEC | libc::MFD_NOEXEC_SEAL], false),
        ("open", &[0, DIRECTORY, 0o6777], true),
        ("open", &[0, RDWR_CREAT, 0o1777], true),
        ("open", &[0, RDWR_CREAT, 0o4755], false),
        ("open", &[0, TMPFILE, 0o2755], false),
        ("openat", &[HERE, 0, DIRECTORY, 0o6777], true),
        ("openat", &[HERE, 0, RDWR_CREAT, 0o644], true),
        ("openat", &[HERE, 0, TMPFILE, 0o600], true),
        ("openat", &[HERE, 0, RDWR_CREAT, 0o4755], false),
        ("openat", &[HERE, 0, RDWR_CREAT, 0o2755], false),
        ("openat", &[HERE, 0, TMPFILE, 0o4000], false),
        ("creat", &[0, 0o777], true),
        ("creat", &[0, 0o4777], false),
        ("chmod", &[0, 0o1777], true),
        ("chmod", &[0, 0o4000], false),
        ("chmod", &[0, u32::MAX], false),
        ("fchmod", &[0, 0o755], true),
        ("fchmod", &[0, 0o2755], false),
        ("fchmodat", &[HERE, 0, 0o755], true),
        ("fchmodat", &[HERE, 0, 0o6755], false),
        ("fchmodat2", &[HERE, 0, 0o755, 0x100], true),
        ("fchmodat2", &[HERE, 0, 0o4755, 0x100], false),
        ("mknod", &[0, libc::S_IFIFO | 0o600, 0], true),
        ("mknod", &[0, 0o600, 0], true),
        ("mknod", &[0, libc::S_IFSOCK | 0o600, 0], true),
        ("mknod", &[0, libc::S_IFREG | 0o4600, 0], false),
        ("mknod", &[0, libc::S_IFCHR | 0o600, 0x103], false),
        ("mknod", &[0, libc::S_IFBLK | 0o600, 0x800], false),
        ("mknodat", &[HERE, 0, libc::S_IFIFO | 0o600, 0], true),
        ("mknodat", &[HERE, 0, libc::S_IFCHR, 0], false),
        ("mknodat", &[HERE, 0, libc::S_IFBLK | 0o600, 0x800], false),
        ("mknodat", &[HERE, 0, libc::S_IFIFO | 0o2600, 0], false),
    ]
}

#[test]
fn rules_see_what_the_kernel_sees_whatever_the_high_halves_hold() {
    let program = strict();
    for (call, low, allowed) in cases() {
        for high in [0, 1, 0x8000_0000, u64::from(u32::MAX)] {
            let mut arguments = [high << 32; 6];
            for (argument, low) in arguments.iter_mut().zip(low) {
                *argument |= u64::from(*low);
            }
            let expected = if allowed { ALLOW } else { EPERM };
            assert_eq!(says(&program, call, arguments), expected, "{call} {low:x?} with {high:#x} above");
        }
    }
}

#[test]
fn every_rule_has_cases_on_both_sides() {
    for rule in arguments::RULES {
        let outcomes: BTreeSet<bool> =
            cases().iter().filter(|(call, ..)| *call == rule.call).map(|(.., allowed)| *allowed).collect();
        assert_eq!(outcomes.len(), 2, "{}", rule.call);
    }
}

#[test]
fn nested_namespaces_lift_the_rule_of_clone_and_no_other() {
    let program = compiled(&syscalls(&[], &[], true), false);
    for (call, low, allowed) in cases() {
        let mut arguments = [0; 6];
        arguments.iter_mut().zip(low).for_each(|(argument, low)| *argument = u64::from(*low));
        let expected = if allowed || call == "clone" { ALLOW } else { EPERM };
        assert_eq!(says(&program, call, arguments), expected, "{call} {low:x?}");
    }
}
