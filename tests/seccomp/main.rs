//! The system-call filter: simulated for every number, compared with another compiler's, run on this kernel.

mod arguments;
mod document;
mod kernel;
mod numbers;
mod oracle;
mod policy;

use std::collections::{BTreeMap, BTreeSet};

use stockade::plan::seccomp::compile::ERRNO;
use stockade::plan::seccomp::simulate::{self, Call, Outcome};
use stockade::plan::seccomp::{filter, table};
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
