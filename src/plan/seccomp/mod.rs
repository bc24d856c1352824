//! The system-call filter: an allow-list, compiled for the kernel, explained to people.
//!
//! ```text
//!  groups (every call, decided) ─┐
//!  arguments (rules)            ─┼─▶ table (verdict per number) ──▶ compile ──▶ plan::Seccomp
//!  policy [syscalls]            ─┘          └──▶ explain
//! ```

pub mod arguments;
mod assembler;
pub mod compile;
mod explain;
pub mod groups;
#[doc(hidden)]
pub mod simulate;
pub mod table;

use std::fmt::Write as _;

use serde::Serializer;
use sha2::{Digest, Sha256};

pub use explain::{Cause, Explanation, explain, explain_under, name_of};

use super::Seccomp;
use crate::policy::{Policy, Syscalls};
use assembler::Instruction;
use compile::{ERRNO, NOTIFY};
use table::Verdict;

/// Calls without which no agent starts or ends; a policy cannot deny them.
const INDISPENSABLE: &[&str] = &["execve", "exit", "exit_group", "rt_sigreturn"];

/// Why a policy's `[syscalls]` cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A name that no system call has.
    #[error("[syscalls] {list} names {name:?}, which is no system call{}", suggestion(.similar))]
    Unknown {
        /// `allow` or `deny`.
        list: &'static str,
        /// As written.
        name: String,
        /// A call with a similar name.
        similar: Option<&'static str>,
    },
    /// A call that starting or ending the agent needs.
    #[error("[syscalls] deny names {name:?}, without which nothing can be started or ended: remove it")]
    Indispensable {
        /// As written.
        name: String,
    },
}

fn suggestion(similar: &Option<&'static str>) -> String {
    similar.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

/// Makes a server of a socket, and takes a port for it where it has none.
const LISTEN: &str = "listen";

/// What the whole of a policy says about calls: where its processes may not reach each other but may connect, they do not
/// listen. Landlock refuses bind(2), and is not asked when listen(2) takes a port by itself; which family a socket has, a
/// filter cannot see, so that servers on Unix sockets are refused as well.
pub fn asked(policy: &Policy) -> Syscalls {
    let mut syscalls = policy.syscalls.clone();
    if refuses_listening(policy) {
        syscalls.deny.insert(LISTEN.to_owned());
    }
    syscalls
}

fn refuses_listening(policy: &Policy) -> bool {
    policy.network.has_destinations() && !policy.network.loopback
}

/// Compiles the allow-list, changed by `syscalls`.
///
/// A refused call is reported through a user notification if `notify`, and fails with EPERM otherwise. The filter
/// must be installed under `no_new_privs`; nothing that it lets through depends on who answers notifications.
pub fn filter(syscalls: &Syscalls, notify: bool) -> Result<Seccomp, FilterError> {
    check_names(syscalls)?;
    let refuse = if notify { NOTIFY } else { ERRNO | libc::EPERM as u32 };
    let program = compile::program(table::ARCH, &verdicts(syscalls), refuse);
    Ok(Seccomp { program, notify })
}

/// Makes what every filter of this process is made of: for when nobody waits for one.
pub fn prepare() {
    drop(filter(&Syscalls::default(), true));
}

/// The verdict from each number on. Numbers that no kernel has given out are answered as such a kernel would.
fn verdicts(syscalls: &Syscalls) -> Vec<(u32, Verdict)> {
    let unknown = Verdict::Answer(libc::ENOSYS as u16);
    let mut verdicts = Vec::new();
    let mut next = 0;
    for (number, verdict) in table::verdicts(syscalls) {
        if number > next {
            verdicts.push((next, unknown));
        }
        verdicts.push((number, verdict));
        next = number + 1;
    }
    verdicts.push((next, unknown));
    verdicts
}

fn check_names(syscalls: &Syscalls) -> Result<(), FilterError> {
    if syscalls.allow.is_empty() && syscalls.deny.is_empty() {
        return Ok(());
    }
    let calls = table::calls();
    let known = |name: &String| calls.iter().any(|(_, call)| call == name);
    for (list, names) in [("allow", &syscalls.allow), ("deny", &syscalls.deny)] {
        if let Some(name) = names.iter().find(|name| !known(name)) {
            return Err(FilterError::Unknown { list, name: name.clone(), similar: similar(name) });
        }
    }
    match syscalls.deny.iter().find(|name| INDISPENSABLE.contains(&name.as_str())) {
        Some(name) => Err(FilterError::Indispensable { name: name.clone() }),
        None => Ok(()),
    }
}

fn similar(name: &str) -> Option<&'static str> {
    let likeness = |call: &str| strsim::jaro_winkler(name, call);
    let best = table::calls()
        .into_iter()
        .map(|(_, call)| call)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.85).then_some(best)
}

impl Seccomp {
    /// SHA-256 over the program as the kernel is given it (`struct sock_filter`, little endian). Made when it is asked for: no
    /// start without a report needs it.
    pub fn hash(&self) -> String {
        hash(&self.program)
    }
}

/// For a plan that is shown.
pub fn serialize_hash<S: Serializer>(program: &[Instruction], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hash(program))
}

fn hash(program: &[Instruction]) -> String {
    let mut sha = Sha256::new();
    for (code, jt, jf, operand) in program {
        sha.update(code.to_le_bytes());
        sha.update([*jt, *jf]);
        sha.update(operand.to_le_bytes());
    }
    sha.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    })
}
