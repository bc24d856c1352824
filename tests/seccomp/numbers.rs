//! What the compiled filter says to every number, on every architecture that an x86-64 kernel can run.

use std::collections::{BTreeMap, BTreeSet};

use stockade::plan::seccomp::compile::{ALLOW, KILL, NOTIFY};
use stockade::plan::seccomp::groups::{Class, GROUPS};
use stockade::plan::seccomp::{arguments, table};
use stockade::policy::Syscalls;

use crate::*;

#[test]
fn every_known_call_stands_in_exactly_one_group() {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for call in GROUPS.iter().flat_map(|group| group.calls()) {
        *groups.entry(call).or_default() += 1;
    }
    let known: BTreeSet<&str> = numbers().into_keys().collect();

    assert!(known.len() > 380, "only {} calls known", known.len());
    assert_eq!(groups.keys().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(groups.into_iter().filter(|(_, times)| *times != 1).collect::<Vec<_>>(), []);
}

#[test]
fn a_call_has_a_rule_if_and_only_if_its_group_is_checked() {
    let checked: BTreeSet<&str> =
        GROUPS.iter().filter(|group| group.class == Class::Checked).flat_map(|group| group.calls()).collect();
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
            let group = GROUPS
                .iter()
                .find(|group| group.calls().any(|call| call == *name))
                .expect("every call has a group");
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
