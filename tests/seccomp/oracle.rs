//! The same allow-list compiled by an independent compiler must say the same: ours is a tree over ranges, theirs a
//! list of comparisons.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use stockade::plan::seccomp::arguments::{Check, Is, RULES, Rule};
use stockade::plan::seccomp::compile::ALLOW;
use stockade::plan::seccomp::simulate::{self, Call};
use stockade::plan::seccomp::{filter, table};
use stockade::policy::Syscalls;

use crate::Program;

fn ours(syscalls: &Syscalls) -> Program {
    filter(syscalls, false).expect("a policy of known names").program
}

/// Allows what `syscalls` allows outright, and `rules`.
fn theirs(syscalls: &Syscalls, rules: &[&Rule]) -> Program {
    let mut all: BTreeMap<i64, Vec<SeccompRule>> = table::calls()
        .into_iter()
        .filter(|(_, name)| table::verdict(name, syscalls) == table::Verdict::Allow)
        .map(|(number, _)| (i64::from(number), Vec::new()))
        .collect();
    for rule in rules {
        let lines = rule.any.iter().flat_map(|line| translated(line));
        all.insert(i64::from(number(rule.call)), lines.collect());
    }
    let (mismatch, matching) = (SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow);
    let filter =
        SeccompFilter::new(all, mismatch, matching, TargetArch::x86_64).expect("the oracle takes the rules");
    let program: BpfProgram = filter.try_into().expect("the oracle compiles");
    let program: Program = program.into_iter().map(|step| (step.code, step.jt, step.jf, step.k)).collect();
    simulate::validate(&program).expect("the oracle uses instructions that we can simulate");
    program
}

fn number(name: &str) -> u32 {
    table::calls().into_iter().find(|(_, known)| *known == name).expect("a known call").0
}

/// One line of checks as rules that only know equality: each combination of the allowed values is a rule of its own.
fn translated(line: &[Check]) -> Vec<SeccompRule> {
    let mut combinations: Vec<Vec<SeccompCondition>> = vec![Vec::new()];
    for check in line {
        let alternatives: Vec<(SeccompCmpOp, u32)> = match check.is {
            Is::OneOf(values) => values.iter().map(|value| (SeccompCmpOp::Eq, *value)).collect(),
            Is::Masked { mask, values } => {
                values.iter().map(|value| (SeccompCmpOp::MaskedEq(mask.into()), *value)).collect()
            }
            Is::Without(bits) => vec![(SeccompCmpOp::MaskedEq(bits.into()), 0)],
            Is::NotMasked { .. } => panic!("the oracle cannot say it"),
        };
        let extended = combinations.iter().flat_map(|combination| {
            alternatives.iter().map(|(operator, value)| {
                let word = SeccompCmpArgLen::Dword;
                let condition =
                    SeccompCondition::new(check.argument, word, operator.clone(), u64::from(*value));
                [combination.clone(), vec![condition.expect("a valid condition")]].concat()
            })
        });
        combinations = extended.collect();
    }
    combinations.into_iter().map(|conditions| SeccompRule::new(conditions).expect("a valid rule")).collect()
}

fn allows(program: &Program, number: u32, arguments: [u64; 6]) -> bool {
    let call = Call { number, architecture: table::ARCH, instruction_pointer: 0, arguments };
    simulate::run(program, &call).verdict == ALLOW
}

#[test]
fn the_oracle_agrees_on_every_number() {
    let everything_unconditional: BTreeSet<String> = RULES.iter().map(|rule| rule.call.to_owned()).collect();
    let policies = [
        Syscalls { allow: everything_unconditional.clone(), ..Syscalls::default() },
        Syscalls { deny: everything_unconditional.clone(), ..Syscalls::default() },
        Syscalls { allow: everything_unconditional, nested_namespaces: true, ..Syscalls::default() },
    ];
    for policy in policies {
        let (ours, theirs) = (ours(&policy), theirs(&policy, &[]));
        // x32 numbers, from 2^30 on, are where the two are meant to differ: the oracle has no guard.
        for number in (0..=2048).chain([0xffff, 0x1_0000, 0x3fff_ffff]) {
            assert_eq!(allows(&ours, number, [0; 6]), allows(&theirs, number, [0; 6]), "number {number}");
        }
        assert!((0..=2048).filter(|number| allows(&theirs, *number, [0; 6])).count() > 200);
    }
}

fn expressible() -> Vec<&'static Rule> {
    // ioctl's is a list of what is refused, which equalities cannot say; its cases are tested by hand.
    RULES.iter().filter(|rule| rule.call != "ioctl").collect()
}

/// Words that rules speak of, their neighbours, and any other.
fn argument() -> impl Strategy<Value = u64> {
    let mut telling = vec![0_u32];
    for check in RULES.iter().flat_map(|rule| rule.any.iter().copied().flatten()) {
        match check.is {
            Is::OneOf(values) | Is::Masked { values, .. } | Is::NotMasked { values, .. } => {
                telling.extend(values)
            }
            Is::Without(bits) => telling.extend((0..32).map(|bit| 1 << bit).filter(|bit| bits & bit != 0)),
        }
    }
    let telling = telling.into_iter().map(u64::from).collect::<Vec<u64>>();
    let near = (prop::sample::select(telling), -1..=1_i64, prop_oneof![Just(0), any::<u32>()])
        .prop_map(|(word, step, high)| word.wrapping_add_signed(step) ^ u64::from(high) << 32);
    prop_oneof![4 => near, 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn the_oracle_agrees_on_every_rule(sets in prop::collection::vec(prop::array::uniform6(argument()), 200)) {
        let (ours, theirs) = (ours(&Syscalls::default()), theirs(&Syscalls::default(), &expressible()));
        for rule in expressible() {
            let number = number(rule.call);
            for arguments in &sets {
                prop_assert_eq!(
                    allows(&ours, number, *arguments), allows(&theirs, number, *arguments), "{} {:x?}", rule.call, arguments
                );
            }
        }
    }
}
