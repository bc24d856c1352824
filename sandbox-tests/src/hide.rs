//! The `hide` command: starts a program on a kernel that seems to lack a feature.
//!
//! `hide FEATURE… -- COMMAND…` answers the feature's system calls with ENOSYS, for the command and all its children, as a
//! kernel does that was built without it. `hide --list` names the features.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::kernel::{call, describe};

/// What can be hidden, and the system calls that it consists of.
pub const FEATURES: &[(&str, &[i64])] = &[
    ("landlock", &[444, 445, 446]),
    ("mount-setattr", &[442]),
    ("mount-api", &[428, 429, 430, 431, 432, 433]),
    ("open-tree", &[428]),
    ("move-mount", &[429]),
    ("fsopen", &[430]),
    ("fsmount", &[432]),
    ("pidfd-open", &[434]),
    ("pidfd-send-signal", &[424]),
    ("openat2", &[437]),
    ("clone3", &[435]),
    ("pidfd", &[424, 434, 438]),
    ("seccomp", &[317]),
    ("pivot-root", &[155]),
    ("setns", &[308]),
    ("memfd", &[319]),
    ("close-range", &[436]),
];

/// The `seccomp` feature cannot be hidden from a filter that is installed later, so that its own number is what is hidden.
const SECCOMP_MODE_FILTER: usize = 2;
const RETURN_ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;
const RETURN_ALLOW: u32 = 0x7fff_0000;

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--list") {
        FEATURES.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let Some(split) = arguments.iter().position(|argument| argument == "--") else { return usage() };
    let (features, command) = (&arguments[..split], &arguments[split + 1..]);
    let mut numbers = Vec::new();
    for wanted in features {
        match FEATURES.iter().find(|(name, _)| wanted == name) {
            Some((_, calls)) => numbers.extend_from_slice(calls),
            None => return usage(),
        }
    }
    let Some((program, rest)) = command.split_first() else { return usage() };
    if let Err(errno) = install(&program_for(&numbers)) {
        eprintln!("hide: no filter: {}", describe(errno));
        return ExitCode::from(2);
    }
    let error = Command::new(program).args(rest).exec();
    eprintln!("hide: {}: {error}", program.to_string_lossy());
    ExitCode::from(2)
}

fn usage() -> ExitCode {
    eprintln!("usage: hide FEATURE… -- COMMAND…   (hide --list names the features)");
    ExitCode::from(2)
}

/// Loads the number, compares it with each hidden one, allows the rest.
fn program_for(numbers: &[i64]) -> Vec<libc::sock_filter> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let mut program = vec![libc::sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 }];
    for &number in numbers {
        program.push(libc::sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: number as u32 });
        program.push(libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: RETURN_ENOSYS });
    }
    program.push(libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: RETURN_ALLOW });
    program
}

/// Installs it by prctl(2), without no_new_privs: the caller is root, and the command is to notice nothing else.
fn install(program: &[libc::sock_filter]) -> Result<(), i32> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let arguments = [libc::PR_SET_SECCOMP as usize, SECCOMP_MODE_FILTER, &raw const filter as usize];
    call(libc::SYS_prctl, &arguments).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hidden_call_is_answered_and_the_rest_allowed() {
        let program = program_for(&[444, 445]);
        let answers: Vec<u32> = program.iter().filter(|step| step.code == 0x06).map(|step| step.k).collect();
        assert_eq!(answers, [RETURN_ENOSYS, RETURN_ENOSYS, RETURN_ALLOW]);
        assert_eq!(
            program.iter().filter(|step| step.code == 0x15).map(|step| step.k).collect::<Vec<_>>(),
            [444, 445]
        );
    }
}
