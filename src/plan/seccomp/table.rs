//! System calls by number, name and verdict, for one architecture.

use std::collections::HashMap;
use std::sync::LazyLock;

use syscalls::x86_64::Sysno;

use super::arguments::{self, Rule};
use super::groups::{Class, GROUPS, Group};
use crate::policy::Syscalls;

/// `AUDIT_ARCH_X86_64`: what the kernel calls the only architecture that is let in.
pub const ARCH: u32 = 0xc000_003e;

/// Newer than the table of the `syscalls` crate.
const NEWER: &[(u32, &str)] = &[(470, "listns")];

/// What is done about one call under one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, whatever its arguments.
    Allow,
    /// Allowed if the rule holds, refused otherwise.
    Check(&'static Rule),
    /// Answered with this errno, without a report.
    Answer(u16),
    /// Refused: reported where the kernel can, EPERM elsewhere.
    Refuse,
}

/// Every call that we know: number and name, by number.
pub fn calls() -> Vec<(u32, &'static str)> {
    // One by one: `Sysno::iter` leaves out the last.
    let last = Sysno::last().id() as u32;
    let known = (0..=last).filter_map(|number| Some((number, Sysno::new(number as usize)?.name())));
    known.chain(NEWER.iter().copied().filter(|(number, _)| *number > last)).collect()
}

/// What is done about `call` under `syscalls`.
pub fn verdict(call: &str, syscalls: &Syscalls) -> Verdict {
    let denied = syscalls.deny.contains(call);
    if !denied && syscalls.allow.contains(call) {
        return Verdict::Allow;
    }
    // A call in no group is one that a newer table knows and nobody has decided about.
    let class = group(call).map_or(Class::Refused, |group| group.class);
    match (class, syscalls.nested_namespaces) {
        (Class::Absent, _) | (Class::NestedElseAbsent, false) => Verdict::Answer(libc::ENOSYS as u16),
        (Class::Unnested, true) => Verdict::Answer(libc::EOPNOTSUPP as u16),
        _ if denied => Verdict::Refuse,
        (Class::Allowed, _) | (Class::Unnested, false) => Verdict::Allow,
        (Class::Nested | Class::NestedElseAbsent, true) => Verdict::Allow,
        (Class::Checked, nested) => checked(call, nested),
        (Class::Refused, _) | (Class::Nested, false) => Verdict::Refuse,
    }
}

/// The group that decides about `call`.
pub fn group(call: &str) -> Option<&'static Group> {
    static BY_CALL: LazyLock<HashMap<&str, &Group>> = LazyLock::new(|| {
        GROUPS.iter().flat_map(|group| group.calls.iter().map(move |call| (*call, group))).collect()
    });
    BY_CALL.get(call).copied()
}

fn checked(call: &str, nested: bool) -> Verdict {
    match arguments::rule(call) {
        Some(rule) if nested && rule.nested_lifts => Verdict::Allow,
        Some(rule) => Verdict::Check(rule),
        None => Verdict::Refuse,
    }
}
