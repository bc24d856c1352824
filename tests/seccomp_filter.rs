//! What the compiled filter says to every number, on every architecture that an x86-64 kernel can run.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use stockade::plan::seccomp::compile::{ALLOW, ERRNO, KILL, NOTIFY};
use stockade::plan::seccomp::groups::{Class, GROUPS};
use stockade::plan::seccomp::simulate::{self, Call, Outcome};
use stockade::plan::seccomp::{FilterError, arguments, explain, filter, table};
use stockade::policy::Syscalls;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;
const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;
const EOPNOTSUPP: u32 = ERRNO | libc::EOPNOTSUPP as u32;
const EPERM: u32 = ERRNO | libc::EPERM as u32;

type Program = Vec<(u16, u8, u8, u32)>;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn syscalls(allow: &[&str], deny: &[&str], nested_namespaces: bool) -> Syscalls {
    Syscalls { allow: names(allow), deny: names(deny), nested_namespaces }
}

fn compiled(syscalls: &Syscalls, notify: bool) -> Program {
    let program = filter(syscalls, notify).expect("a policy of known names").program;
    simulate::validate(&program).expect("a program that the kernel accepts");
    program
}

fn strict() -> Program {
    compiled(&Syscalls::default(), false)
}

fn says(program: &Program, name: &str, arguments: [u64; 6]) -> u32 {
    ask(program, X86_64, numbers()[name], arguments).verdict
}

fn numbers() -> BTreeMap<&'static str, u32> {
    table::calls().into_iter().map(|(number, name)| (name, number)).collect()
}

fn ask(program: &Program, architecture: u32, number: u32, arguments: [u64; 6]) -> Outcome {
    simulate::run(
        program,
        &Call { number, architecture, instruction_pointer: 0x7fff_dead_beef_0123, arguments },
    )
}

/// Numbers around every boundary that the kernel or the filter knows.
fn interesting_numbers() -> impl Iterator<Item = u32> {
    let around = |middle: u32| (0..9).map(move |step| middle.wrapping_sub(4).wrapping_add(step));
    (0..=1023)
        .chain((0..=1023).map(|number| X32_BIT | number))
        .chain([1 << 15, 1 << 16, X32_BIT, 1 << 31, X32_BIT | 1 << 31, 0].into_iter().flat_map(around))
}

/// Policies that differ in everything that the compiler looks at.
fn policies() -> Vec<Syscalls> {
    vec![
        Syscalls::default(),
        syscalls(&[], &[], true),
        syscalls(&["ptrace", "socket", "clone3", "bpf"], &["getppid", "ioctl", "clone3"], false),
        syscalls(&["ptrace", "openat2", "setxattr"], &["unshare", "chmod"], true),
    ]
}

#[test]
fn every_known_call_stands_in_exactly_one_group() {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for call in GROUPS.iter().flat_map(|group| group.calls) {
        *groups.entry(call).or_default() += 1;
    }
    let known: BTreeSet<&str> = numbers().into_keys().collect();

    assert!(known.len() > 380, "only {} calls known", known.len());
    assert_eq!(groups.keys().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(groups.into_iter().filter(|(_, times)| *times != 1).collect::<Vec<_>>(), []);
}

#[test]
fn a_call_has_a_rule_if_and_only_if_its_group_is_checked() {
    let checked: BTreeSet<&str> = GROUPS
        .iter()
        .filter(|group| group.class == Class::Checked)
        .flat_map(|group| group.calls)
        .copied()
        .collect();
    let ruled: Vec<&str> = arguments::RULES.iter().map(|rule| rule.call).collect();

    assert_eq!(ruled.iter().copied().collect::<BTreeSet<_>>(), checked);
    assert_eq!(ruled.len(), checked.len(), "a call has two rules");
}

#[test]
fn nothing_of_another_architecture_or_of_x32_is_let_through_or_answered() {
    for policy in policies() {
        for notify in [false, true] {
            let program = compiled(&policy, notify);
            for number in interesting_numbers() {
                for architecture in [I386, AARCH64, 0, u32::MAX, X86_64 ^ 1] {
                    assert_eq!(
                        ask(&program, architecture, number, [0; 6]).verdict,
                        KILL,
                        "{architecture:#x} {number:#x}"
                    );
                }
                if number >= X32_BIT {
                    assert_eq!(ask(&program, X86_64, number, [0; 6]).verdict, KILL, "x32 {number:#x}");
                }
            }
        }
    }
}

#[test]
fn every_number_gets_the_verdict_of_its_group() {
    let by_number: BTreeMap<u32, &str> = table::calls().into_iter().collect();
    for (nested, notify) in [(false, false), (false, true), (true, false), (true, true)] {
        let program = compiled(&syscalls(&[], &[], nested), notify);
        let refused = if notify { NOTIFY } else { EPERM };
        for number in interesting_numbers().filter(|number| *number < X32_BIT) {
            let verdict = ask(&program, X86_64, number, [0; 6]).verdict;
            let Some(name) = by_number.get(&number) else {
                assert_eq!(verdict, ENOSYS, "unassigned number {number}");
                continue;
            };
            let group =
                GROUPS.iter().find(|group| group.calls.contains(name)).expect("every call has a group");
            let expected = match (group.class, nested) {
                (Class::Checked, _) => continue,
                (Class::Allowed, _) | (Class::Unnested, false) => ALLOW,
                (Class::Nested | Class::NestedElseAbsent, true) => ALLOW,
                (Class::Absent, _) | (Class::NestedElseAbsent, false) => ENOSYS,
                (Class::Unnested, true) => EOPNOTSUPP,
                (Class::Refused, _) | (Class::Nested, false) => refused,
            };
            assert_eq!(verdict, expected, "{name} with nested {nested}, notify {notify}");
        }
    }
}

#[test]
fn a_program_is_small_and_quick_and_ends_whatever_the_arguments() {
    for policy in policies() {
        let program = compiled(&policy, true);
        assert!(program.len() < 300, "{} instructions", program.len());
        for number in interesting_numbers() {
            for argument in [0, 1, 2, 10, 16, 0o6777, u64::MAX] {
                let executed = ask(&program, X86_64, number, [argument; 6]).executed;
                assert!(executed < 40, "call {number:#x} takes {executed} instructions");
            }
        }
    }
}

/// Calls whose cost a user would notice.
const HOT: &[&str] = &[
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "close",
    "lseek",
    "stat",
    "fstat",
    "lstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat2",
    "readlink",
    "getdents64",
    "mmap",
    "munmap",
    "mprotect",
    "madvise",
    "brk",
    "futex",
    "poll",
    "ppoll",
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "select",
    "pselect6",
    "fcntl",
    "dup2",
    "pipe2",
    "getpid",
    "gettid",
    "getppid",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "clock_gettime",
    "nanosleep",
    "clock_nanosleep",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "connect",
    "accept4",
    "getrandom",
    "execve",
    "fork",
    "vfork",
    "wait4",
    "exit_group",
    "unlink",
    "rename",
    "mkdir",
    "getcwd",
    "rseq",
];

#[test]
fn hot_calls_are_decided_without_a_look_at_arguments() {
    for policy in [Syscalls::default(), syscalls(&[], &[], true)] {
        let program = compiled(&policy, true);
        for (number, name) in table::calls() {
            let outcome = ask(&program, X86_64, number, [u64::MAX; 6]);
            let allowed_outright = table::verdict(name, &policy) == table::Verdict::Allow;
            assert_eq!(outcome.verdict == ALLOW && outcome.cacheable, allowed_outright, "{name}");
            assert!(allowed_outright || !HOT.contains(&name), "{name}");
        }
    }
    assert!(HOT.iter().all(|name| numbers().contains_key(name)));
}

#[test]
fn what_the_simulator_calls_cacheable_has_never_seen_an_argument() {
    let program = strict();
    let numbers = numbers();
    let ioctl = ask(&program, X86_64, numbers["ioctl"], [0; 6]);
    let openat = ask(&program, X86_64, numbers["openat"], [0; 6]);
    let read = ask(&program, X86_64, numbers["read"], [0; 6]);

    assert!(!ioctl.cacheable && !openat.cacheable, "their arguments decide");
    assert!(read.cacheable);
    let looks_at_code =
        program.iter().any(|(code, _, _, operand)| *code == 0x20 && (8..16).contains(operand));
    assert!(!looks_at_code, "a verdict depends on the instruction pointer");
}

/// Arguments of `call`, then whether they are allowed; the constants come from the C headers, not from the rules.
fn cases() -> Vec<(&'static str, &'static [u32], bool)> {
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

#[test]
fn a_policy_allows_and_denies_by_name() {
    let program =
        compiled(&syscalls(&["ptrace", "socket", "io_uring_setup"], &["socket", "getppid"], false), false);

    assert_eq!(says(&program, "ptrace", [0; 6]), ALLOW);
    assert_eq!(says(&program, "io_uring_setup", [0; 6]), ALLOW);
    assert_eq!(says(&program, "socket", [1, 1, 0, 0, 0, 0]), EPERM, "deny is the last word");
    assert_eq!(says(&program, "getppid", [0; 6]), EPERM);
    let denied = compiled(&syscalls(&["clone3"], &["clone3"], false), true);
    assert_eq!(says(&denied, "clone3", [0; 6]), ENOSYS, "libc falls back from ENOSYS only");
}

#[test]
fn a_name_that_is_no_call_is_an_error_that_suggests_one() {
    let error = filter(&syscalls(&["ptrase"], &[], false), false).expect_err("no such call");
    assert_eq!(
        error.to_string(),
        r#"[syscalls] allow names "ptrase", which is no system call; did you mean "ptrace"?"#
    );
    let error = filter(&syscalls(&[], &["!"], false), false).expect_err("no such call");
    assert_eq!(error.to_string(), r#"[syscalls] deny names "!", which is no system call"#);
    let error = filter(&syscalls(&[], &["execve"], false), false).expect_err("nothing could be started");
    assert_eq!(error, FilterError::Indispensable { name: "execve".to_owned() });
}

#[test]
fn equal_policies_have_equal_hashes_and_others_do_not() {
    let hash = |syscalls: &Syscalls, notify| filter(syscalls, notify).expect("known names").hash;
    let hashes: BTreeSet<String> =
        policies().iter().flat_map(|policy| [hash(policy, false), hash(policy, true)]).collect();

    assert_eq!(hashes.len(), 8);
    assert_eq!(hash(&Syscalls::default(), true), hash(&Syscalls::default(), true));
    assert!(hashes.iter().all(|hash| hash.len() == 64));
}

#[test]
fn a_refusal_is_explained_with_the_line_that_would_lift_it() {
    let numbers = numbers();
    let explained = |name: &str, syscalls: &Syscalls| explain(numbers[name], syscalls).to_string();
    let strict = Syscalls::default();

    assert!(explained("ptrace", &strict).ends_with(r#"to allow it: [syscalls] allow = ["ptrace"]"#));
    assert!(explained("mount", &strict).ends_with("to allow it: [syscalls] nested-namespaces = true"));
    assert!(explained("clone", &strict).contains("allowed only if no CLONE_NEW* flag"));
    assert!(explained("clone", &strict).ends_with("[syscalls] nested-namespaces = true"));
    assert!(explained("socket", &strict).contains("TCP or UDP over IPv4 or IPv6"));
    assert!(explained("setxattr", &syscalls(&[], &[], true)).ends_with(r#"allow = ["setxattr"]"#));
    assert!(
        explained("read", &syscalls(&[], &["read"], false))
            .ends_with(r#"remove "read" from [syscalls] deny"#)
    );
    assert_eq!(explained("read", &strict), "system call read: allowed by the filter");
    assert_eq!(explain(9999, &strict).to_string(), "system call #9999: unknown");
}

#[test]
fn every_remedy_lifts_its_refusal() {
    for (number, name) in table::calls() {
        for nested in [false, true] {
            let before = syscalls(&[], &[], nested);
            let Some(remedy) = explain(number, &before).remedy else {
                assert_eq!(table::verdict(name, &before), table::Verdict::Allow, "{name} has no remedy");
                continue;
            };
            let after = match remedy.as_str() {
                "[syscalls] nested-namespaces = true" => syscalls(&[], &[], true),
                line => {
                    assert_eq!(line, format!("[syscalls] allow = [{name:?}]"));
                    syscalls(&[name], &[], nested)
                }
            };
            assert_eq!(table::verdict(name, &after), table::Verdict::Allow, "{name}: {remedy}");
        }
    }
}

fn some_calls() -> impl Strategy<Value = BTreeSet<String>> {
    let names: Vec<String> = table::calls().into_iter().map(|(_, name)| name.to_owned()).collect();
    let deniable = names
        .into_iter()
        .filter(|name| !["execve", "exit", "exit_group", "rt_sigreturn"].contains(&name.as_str()));
    prop::collection::btree_set(prop::sample::select(deniable.collect::<Vec<_>>()), 0..12)
}

fn argument() -> impl Strategy<Value = u64> {
    let telling: Vec<u64> =
        cases().iter().flat_map(|(_, low, _)| low.iter().map(|word| u64::from(*word))).collect();
    prop_oneof![prop::sample::select(telling), any::<u64>(), 0..64_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn denying_more_never_allows_more_and_allowing_more_never_allows_less(
        allow in some_calls(), deny in some_calls(), more in some_calls(), nested: bool, notify: bool,
        arguments in prop::array::uniform6(argument()),
    ) {
        let with = |allow: &BTreeSet<String>, deny: &BTreeSet<String>| {
            compiled(&Syscalls { allow: allow.clone(), deny: deny.clone(), nested_namespaces: nested }, notify)
        };
        let both = |a: &BTreeSet<String>| a.union(&more).cloned().collect::<BTreeSet<_>>();
        let (before, denied, allowed) = (with(&allow, &deny), with(&allow, &both(&deny)), with(&both(&allow), &deny));
        for (number, name) in table::calls() {
            let let_through = |program| ask(program, X86_64, number, arguments).verdict == ALLOW;
            prop_assert!(let_through(&before) || !let_through(&denied), "denying {more:?} allowed {name}");
            prop_assert!(let_through(&allowed) || !let_through(&before), "allowing {more:?} refused {name}");
            let touched = more.contains(name);
            prop_assert!(touched || let_through(&before) == let_through(&allowed), "allowing {more:?} changed {name}");
            prop_assert!(touched || let_through(&before) == let_through(&denied), "denying {more:?} changed {name}");
        }
    }
}
