//! What the compiled filter says to every number, on every architecture that an x86-64 kernel can run.

use std::collections::{BTreeMap, BTreeSet};

use stockade::plan::seccomp::compile::{ALLOW, ERRNO, KILL, NOTIFY};
use stockade::plan::seccomp::groups::{Class, GROUPS};
use stockade::plan::seccomp::simulate::{self, Call, Outcome};
use stockade::plan::seccomp::{arguments, filter, table};
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
fn a_program_is_small_and_quick() {
    for policy in policies() {
        let program = compiled(&policy, true);
        let worst =
            interesting_numbers().map(|number| ask(&program, X86_64, number, [u64::MAX; 6]).executed).max();
        println!("{} instructions, at most {worst:?} executed", program.len());
        assert!(program.len() < 500, "{} instructions", program.len());
    }
}
