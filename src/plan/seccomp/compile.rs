//! Verdicts → classic BPF: a balanced tree over ranges of numbers, argument rules at its leaves.
//!
//! ```text
//!  architecture? ──no──▶ kill          number ≥ 2³⁰ (x32)? ──yes──▶ kill
//!       │                                    │
//!       └──▶ number < …? ──▶ number < …? ──▶ verdict │ rule over arguments ──▶ verdict
//! ```
//! The kernel runs a new filter once per number and remembers where it allows without having looked at an argument
//! (Linux 5.11); those calls never run the filter again. So numbers are told apart first and arguments loaded last.

use super::arguments::{Check, Is, Rule};
use super::assembler::{AND, ANY_OF, AT_LEAST, Assembler, EQUAL, Instruction, LOAD, Label};
use super::table::Verdict;

/// `SECCOMP_RET_KILL_PROCESS`
pub const KILL: u32 = 0x8000_0000;
/// `SECCOMP_RET_ERRNO`, with the errno in the low 16 bits.
pub const ERRNO: u32 = 0x0005_0000;
/// `SECCOMP_RET_USER_NOTIF`
pub const NOTIFY: u32 = 0x7fc0_0000;
/// `SECCOMP_RET_ALLOW`
pub const ALLOW: u32 = 0x7fff_0000;

/// Numbers from here on are x32's, or nobody's (`__X32_SYSCALL_BIT`).
pub const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Compiles `verdicts`: each holds from its number up to the next; the first is number 0.
pub fn program(architecture: u32, verdicts: &[(u32, Verdict)], refuse: u32) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let mut rules = Vec::new();
    let leaves: Vec<(u32, Leaf)> = ranges(verdicts)
        .into_iter()
        .map(|(start, verdict)| (start, leaf(&mut code, &mut rules, verdict, refuse)))
        .collect();
    let tree = tree(&mut code, &leaves);
    let kill = code.end(KILL);
    let not_x32 = code.branch(AT_LEAST, X32, kill, tree);
    let number = code.then(LOAD, NUMBER, not_x32);
    let ours = code.branch(EQUAL, architecture, number, kill);
    code.then(LOAD, ARCHITECTURE, ours);
    code.finish()
}

/// Where a range of numbers ends up.
#[derive(Clone, Copy)]
enum Leaf {
    /// At this verdict, wherever it is next returned.
    Verdict(u32),
    /// At code that is already there.
    At(Label),
}

/// `verdicts` without those that repeat their predecessor.
fn ranges(verdicts: &[(u32, Verdict)]) -> Vec<(u32, Verdict)> {
    let mut ranges = verdicts.to_vec();
    ranges.dedup_by_key(|(_, verdict)| *verdict);
    ranges
}

fn leaf(
    code: &mut Assembler,
    rules: &mut Vec<(&'static Rule, Label)>,
    verdict: Verdict,
    refuse: u32,
) -> Leaf {
    match verdict {
        Verdict::Allow => Leaf::Verdict(ALLOW),
        Verdict::Answer(errno) => Leaf::Verdict(ERRNO | u32::from(errno)),
        Verdict::Refuse => Leaf::Verdict(refuse),
        // Rules that say the same share their code (chmod and fchmod …).
        Verdict::Check(rule) => match rules.iter().find(|(known, _)| known.any == rule.any) {
            Some((_, label)) => Leaf::At(*label),
            None => {
                let label = any(code, rule, refuse);
                rules.push((rule, label));
                Leaf::At(label)
            }
        },
    }
}

fn tree(code: &mut Assembler, leaves: &[(u32, Leaf)]) -> Label {
    if let [(_, leaf)] = leaves {
        return match leaf {
            Leaf::Verdict(verdict) => code.end(*verdict),
            Leaf::At(label) => *label,
        };
    }
    let (low, high) = leaves.split_at(leaves.len() / 2);
    let start = high[0].0;
    let high = tree(code, high);
    let low = tree(code, low);
    code.branch(AT_LEAST, start, high, low)
}

/// Allows if all checks of any line hold.
fn any(code: &mut Assembler, rule: &Rule, refuse: u32) -> Label {
    let mut otherwise = code.end(refuse);
    for line in rule.any.iter().rev() {
        let mut then = code.end(ALLOW);
        for check in line.iter().rev() {
            then = compare(code, check, then, otherwise);
        }
        otherwise = then;
    }
    otherwise
}

fn compare(code: &mut Assembler, check: &Check, then: Label, otherwise: Label) -> Label {
    let low_half = ARGUMENTS + 8 * u32::from(check.argument);
    let (mask, first) = match check.is {
        Is::OneOf(values) => (None, search(code, values, then, otherwise)),
        Is::Masked { mask, values } => (Some(mask), search(code, values, then, otherwise)),
        Is::NotMasked { mask, values } => (Some(mask), search(code, values, otherwise, then)),
        Is::Without(bits) => (None, code.branch(ANY_OF, bits, otherwise, then)),
    };
    let masked = match mask {
        Some(mask) if mask != u32::MAX => code.then(AND, mask, first),
        _ => first,
    };
    code.then(LOAD, low_half, masked)
}

/// Goes to `found` if the accumulator is one of `values`.
fn search(code: &mut Assembler, values: &[u32], found: Label, missing: Label) -> Label {
    const FEW: usize = 4;
    if values.len() <= FEW {
        return values.iter().rev().fold(missing, |next, value| code.branch(EQUAL, *value, found, next));
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let mut ranges = vec![(0, Leaf::At(missing))];
    for run in sorted.chunk_by(|a, b| a + 1 == *b) {
        ranges.retain(|(start, _)| *start != run[0]);
        ranges.push((run[0], Leaf::At(found)));
        ranges.extend(run[run.len() - 1].checked_add(1).map(|after| (after, Leaf::At(missing))));
    }
    tree(code, &ranges)
}
