//! The gateway's own system-call filter: what it needs to carry bytes, and nothing that starts, traces or changes a thing.

use syscalls::Sysno;

type Instruction = (u16, u8, u8, u32);

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_OF: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;

/// `AUDIT_ARCH_X86_64`
const ARCHITECTURE: u32 = 0xc000_003e;
/// `__X32_SYSCALL_BIT`
const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const fn argument_at(argument: u32) -> u32 {
    16 + 8 * argument
}

/// Calls without conditions.
const PLAIN: &[Sysno] = &[
    Sysno::accept4,
    Sysno::bind,
    Sysno::brk,
    Sysno::clock_gettime,
    Sysno::clock_nanosleep,
    Sysno::close,
    Sysno::connect,
    Sysno::epoll_create1,
    Sysno::epoll_ctl,
    Sysno::epoll_pwait,
    Sysno::epoll_wait,
    Sysno::eventfd2,
    Sysno::exit,
    Sysno::exit_group,
    Sysno::fcntl,
    Sysno::fstat,
    Sysno::futex,
    Sysno::getpeername,
    Sysno::getpid,
    Sysno::getrandom,
    Sysno::getsockname,
    Sysno::getsockopt,
    Sysno::gettid,
    Sysno::gettimeofday,
    Sysno::lseek,
    Sysno::madvise,
    Sysno::mremap,
    Sysno::munmap,
    Sysno::newfstatat,
    // What can be opened is Landlock's to say.
    Sysno::openat,
    Sysno::pipe2,
    Sysno::poll,
    // The tally.
    Sysno::pwrite64,
    Sysno::read,
    Sysno::readv,
    Sysno::recvfrom,
    Sysno::recvmsg,
    Sysno::restart_syscall,
    Sysno::rt_sigaction,
    Sysno::rt_sigprocmask,
    Sysno::rt_sigreturn,
    Sysno::sched_getaffinity,
    Sysno::sched_yield,
    Sysno::setsockopt,
    Sysno::shutdown,
    Sysno::sigaltstack,
    Sysno::splice,
    Sysno::statx,
    Sysno::tgkill,
    Sysno::write,
    Sysno::writev,
];

/// Calls with arguments that must each be one of these, looking only at the bits of a mask. TCP and UDP, and no other protocol
/// that a socket of such a type may be made for: Landlock's rules about ports know nothing of MPTCP.
const ONE_OF: &[(Sysno, &[OneOf])] = &[
    (
        Sysno::socket,
        &[
            (0, u32::MAX, &[libc::AF_INET as u32, libc::AF_INET6 as u32]),
            (1, !FLAGS, &[libc::SOCK_STREAM as u32, libc::SOCK_DGRAM as u32]),
            (2, u32::MAX, &[0, libc::IPPROTO_TCP as u32, libc::IPPROTO_UDP as u32]),
        ],
    ),
    // tokio has a pair of its own wherever another program of this package listens to signals (cargo unites features). It
    // leads from this process to itself.
    (Sysno::socketpair, &[(0, u32::MAX, &[libc::AF_UNIX as u32])]),
    (Sysno::ioctl, &[(1, u32::MAX, &[libc::FIONBIO as u32])]),
];
/// An argument, the bits of it that matter, and what they may be.
type OneOf = (u32, u32, &'static [u32]);
const FLAGS: u32 = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;

/// Calls with one argument that must not have these bits: no memory becomes a program, and nothing is connected by sending,
/// which Landlock is not asked about.
const WITHOUT: &[(Sysno, u32, u32)] = &[
    (Sysno::mmap, 2, libc::PROT_EXEC as u32),
    (Sysno::mprotect, 2, libc::PROT_EXEC as u32),
    (Sysno::sendto, 3, libc::MSG_FASTOPEN as u32),
    (Sysno::sendmsg, 2, libc::MSG_FASTOPEN as u32),
];

/// The program.
pub fn program() -> Vec<Instruction> {
    let mut code = vec![
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, ARCHITECTURE),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, KILL),
    ];
    for call in PLAIN {
        code.extend([(EQUAL, 0, 1, call.id() as u32), (RETURN, 0, 0, ALLOW)]);
    }
    for (call, arguments) in ONE_OF {
        let checks: Vec<Instruction> = arguments.iter().flat_map(one_of).collect();
        let skip = short(checks.len() + 1);
        code.push((EQUAL, 0, skip, call.id() as u32));
        code.extend(checks);
        code.push((RETURN, 0, 0, ALLOW));
    }
    for (call, argument, bits) in WITHOUT {
        code.extend([
            (EQUAL, 0, 4, call.id() as u32),
            (LOAD, 0, 0, argument_at(*argument)),
            (ANY_OF, 1, 0, *bits),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, REFUSE),
        ]);
    }
    code.push((RETURN, 0, 0, REFUSE));
    code
}

/// Refuses, or goes on behind itself.
fn one_of((argument, mask, values): &OneOf) -> Vec<Instruction> {
    let mut code = vec![(LOAD, 0, 0, argument_at(*argument)), (AND, 0, 0, *mask)];
    for (at, value) in values.iter().enumerate() {
        code.push((EQUAL, short(values.len() - at), 0, *value));
    }
    code.push((RETURN, 0, 0, REFUSE));
    code
}

fn short(jump: usize) -> u8 {
    u8::try_from(jump).expect("a handful of values")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says to a call.
    fn verdict(architecture: u32, number: u32, arguments: [u32; 6]) -> u32 {
        let program = program();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let (code, jt, jf, operand) = program[at];
            at += 1;
            let jump = |is: bool| usize::from(if is { jt } else { jf });
            match code {
                LOAD if operand == NUMBER_AT => accumulator = number,
                LOAD if operand == ARCHITECTURE_AT => accumulator = architecture,
                LOAD => accumulator = arguments[(operand as usize - 16) / 8],
                AND => accumulator &= operand,
                EQUAL => at += jump(accumulator == operand),
                AT_LEAST => at += jump(accumulator >= operand),
                ANY_OF => at += jump(accumulator & operand != 0),
                RETURN => return operand,
                other => panic!("{other}"),
            }
        }
    }

    fn call(call: Sysno, arguments: [u32; 6]) -> u32 {
        verdict(ARCHITECTURE, call.id() as u32, arguments)
    }

    #[test]
    fn bytes_can_be_carried_and_nothing_can_be_started_traced_or_changed() {
        for allowed in PLAIN {
            assert_eq!(call(*allowed, [0; 6]), ALLOW, "{allowed}");
        }
        for refused in [
            Sysno::execve,
            Sysno::clone,
            Sysno::clone3,
            Sysno::fork,
            Sysno::ptrace,
            Sysno::process_vm_readv,
            Sysno::kill,
            Sysno::unlinkat,
            Sysno::mkdirat,
            Sysno::mount,
            Sysno::setuid,
            Sysno::prctl,
            Sysno::bpf,
            Sysno::io_uring_setup,
            Sysno::setns,
            Sysno::unshare,
            Sysno::keyctl,
            Sysno::listen,
            Sysno::memfd_create,
            Sysno::userfaultfd,
        ] {
            assert_eq!(call(refused, [0; 6]), REFUSE, "{refused}");
        }
    }

    #[test]
    fn arguments_decide_where_they_matter() {
        let argument = |at: usize, value: i32| {
            let mut arguments = [0; 6];
            arguments[at] = value.cast_unsigned();
            arguments
        };
        assert_eq!(call(Sysno::mmap, argument(2, libc::PROT_READ | libc::PROT_WRITE)), ALLOW);
        assert_eq!(call(Sysno::mmap, argument(2, libc::PROT_READ | libc::PROT_EXEC)), REFUSE);
        assert_eq!(call(Sysno::mprotect, argument(2, libc::PROT_EXEC)), REFUSE);
        assert_eq!(call(Sysno::sendto, argument(3, libc::MSG_NOSIGNAL)), ALLOW);
        assert_eq!(call(Sysno::sendto, argument(3, libc::MSG_NOSIGNAL | libc::MSG_FASTOPEN)), REFUSE);
        assert_eq!(call(Sysno::sendmsg, argument(2, libc::MSG_FASTOPEN)), REFUSE);
        assert_eq!(call(Sysno::ioctl, argument(1, libc::FIONBIO as i32)), ALLOW);
        assert_eq!(call(Sysno::ioctl, argument(1, libc::TIOCSTI as i32)), REFUSE);
    }

    #[test]
    fn a_socket_is_one_of_tcp_or_udp() {
        let socket = |family: i32, kind: i32, protocol: i32| {
            let [family, kind, protocol] = [family, kind, protocol].map(i32::cast_unsigned);
            call(Sysno::socket, [family, kind, protocol, 0, 0, 0])
        };
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        for family in [libc::AF_INET, libc::AF_INET6] {
            assert_eq!(socket(family, libc::SOCK_STREAM | flags, 0), ALLOW);
            assert_eq!(socket(family, libc::SOCK_STREAM, libc::IPPROTO_TCP), ALLOW);
            assert_eq!(socket(family, libc::SOCK_DGRAM | flags, libc::IPPROTO_UDP), ALLOW);
            for kind in [libc::SOCK_RAW, libc::SOCK_SEQPACKET, libc::SOCK_RDM, libc::SOCK_STREAM | 0x10] {
                assert_eq!(socket(family, kind, 0), REFUSE, "{kind}");
            }
            for protocol in [
                libc::IPPROTO_MPTCP,
                libc::IPPROTO_SCTP,
                libc::IPPROTO_DCCP,
                libc::IPPROTO_UDPLITE,
                libc::IPPROTO_ICMP,
                256 + libc::IPPROTO_TCP,
            ] {
                assert_eq!(socket(family, libc::SOCK_STREAM, protocol), REFUSE, "{protocol}");
                assert_eq!(socket(family, libc::SOCK_DGRAM, protocol), REFUSE, "{protocol}");
            }
        }
        for family in [libc::AF_UNIX, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG] {
            assert_eq!(socket(family, libc::SOCK_STREAM, 0), REFUSE);
        }
    }

    #[test]
    fn another_architecture_ends_the_process() {
        assert_eq!(verdict(0x4000_0003, 3, [0; 6]), KILL);
        assert_eq!(verdict(ARCHITECTURE, X32 | Sysno::read.id() as u32, [0; 6]), KILL);
    }
}
