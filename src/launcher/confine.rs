//! What the launcher gives up before it listens to anybody, and with it every shim, gateway and agent.
//!
//! The filter is not a second one for agents, whose own allows far less: it takes from root what no part of the service ever
//! needs. It refuses by `SECCOMP_RET_TRACE` with nobody tracing, which is ENOSYS: that ranks below a notification
//! (seccomp(2)), so that what an agent's own filter reports is still reported.

use std::collections::HashSet;
use std::io;

use caps::{CapSet, Capability};

use crate::host::{NEEDED, NEEDED_FOR_NETWORK};
use crate::sys::seccomp;

/// Used where they are there: reading back from /proc what a process is that nobody else may look at (ptrace(2), "Ptrace
/// access mode checking"; the call itself is refused below), directories whose group goes on to what is made in them, devices of an agent's own, limits above the inherited ones, what Landlock reports to audit, and
/// a workspace that belongs to root (user_namespaces(7)).
const USEFUL: [Capability; 7] = [
    Capability::CAP_FSETID,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_MKNOD,
    Capability::CAP_SYS_RESOURCE,
    Capability::CAP_AUDIT_CONTROL,
    Capability::CAP_AUDIT_READ,
    Capability::CAP_SETFCAP,
];

/// Nobody here loads code into the kernel, sets the clock, reads another process's memory or opens a file by its handle.
const REFUSED: &[i64] = &[
    // Code in the kernel, or another kernel.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    // The machine as a whole.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Around what a path or a filter would decide.
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Where the kernel's mistakes were.
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS__sysctl,
];

/// Sockets between processes, to the network (the gateway), to the kernel's routes and audit, and of the gateway's view of what
/// it was not asked for.
const FAMILIES: [i32; 5] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// Keeps what the launcher and its shims need, and no way to anything else.
pub fn confine() -> io::Result<()> {
    keep_capabilities()?;
    rustix::thread::set_no_new_privs(true)?;
    seccomp::install(&program(), false).map(drop)
}

fn keep_capabilities() -> io::Result<()> {
    let failed = |error: caps::errors::CapsError| io::Error::other(error.to_string());
    let wanted: HashSet<Capability> = NEEDED.into_iter().chain(NEEDED_FOR_NETWORK).chain(USEFUL).collect();
    for capability in caps::read(None, CapSet::Bounding).map_err(failed)?.difference(&wanted) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(failed)?;
    }
    let held = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let kept = held.intersection(&wanted).copied().collect();
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    caps::set(None, CapSet::Inheritable, &HashSet::new()).map_err(failed)?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed)
}

/// `AUDIT_ARCH_X86_64`
const ARCHITECTURE: u32 = 0xC000_003E;
/// Where the numbers of x32 begin: the same calls by other names.
const X32: u32 = 0x4000_0000;

/// `struct seccomp_data`: where a number, the architecture and the first argument's lower half lie.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

type Instruction = (u16, u8, u8, u32);

/// As classic BPF: each refusal returns where it is found, so that no jump is long.
fn program() -> Vec<Instruction> {
    let refuse = (RETURN, 0, 0, libc::SECCOMP_RET_TRACE);
    let mut code: Vec<Instruction> = vec![
        (LOAD, 0, 0, ARCH),
        (EQUAL, 1, 0, ARCHITECTURE),
        (RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, X32),
        refuse,
    ];
    for number in REFUSED {
        code.extend([(EQUAL, 0, 1, *number as u32), refuse]);
    }
    // The first argument of socket(2) is an int: the kernel, too, looks at its lower half only.
    let families = FAMILIES.len() as u8;
    code.extend([(EQUAL, 0, families + 2, libc::SYS_socket as u32), (LOAD, 0, 0, FIRST)]);
    for (left, family) in (1..=families).rev().zip(FAMILIES) {
        code.push((EQUAL, left, 0, family as u32));
    }
    code.extend([refuse, (RETURN, 0, 0, libc::SECCOMP_RET_ALLOW)]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter decides, by walking through it as the kernel does.
    fn decide(arch: u32, number: u32, first: u32) -> u32 {
        let (program, mut at, mut register) = (program(), 0, 0);
        loop {
            let (code, yes, no, value) = program[at];
            at += 1;
            match code {
                LOAD => {
                    register = match value {
                        ARCH => arch,
                        NUMBER => number,
                        FIRST => first,
                        other => panic!("loads {other}"),
                    }
                }
                EQUAL => at += usize::from(if register == value { yes } else { no }),
                AT_LEAST => at += usize::from(if register >= value { yes } else { no }),
                RETURN => return value,
                other => panic!("instruction {other}"),
            }
        }
    }

    #[test]
    fn what_is_refused_is_refused_and_everything_else_is_allowed() {
        for number in 0..600 {
            let expected = match REFUSED.contains(&i64::from(number)) {
                true => libc::SECCOMP_RET_TRACE,
                false => libc::SECCOMP_RET_ALLOW,
            };
            assert_eq!(decide(ARCHITECTURE, number, libc::AF_UNIX as u32), expected, "call {number}");
            assert_eq!(decide(ARCHITECTURE, X32 | number, 1), libc::SECCOMP_RET_TRACE, "x32 {number}");
            assert_eq!(decide(0x4000_0003, number, 1), libc::SECCOMP_RET_KILL_PROCESS, "32 bits {number}");
        }
        assert_eq!(decide(ARCHITECTURE, u32::MAX, 1), libc::SECCOMP_RET_TRACE);
    }

    #[test]
    fn only_the_families_that_are_needed_have_sockets() {
        for family in 0..64 {
            let expected = match FAMILIES.contains(&(family as i32)) {
                true => libc::SECCOMP_RET_ALLOW,
                false => libc::SECCOMP_RET_TRACE,
            };
            assert_eq!(decide(ARCHITECTURE, libc::SYS_socket as u32, family), expected, "family {family}");
        }
    }
}
