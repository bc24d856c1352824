//! Socket families and protocols, one by one, then all that are left.

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{call, describe, own, succeeded};

/// A bit of the type argument that means nothing. The kernel checks it before it looks the family up, so that EINVAL
/// proves that the call got past the filter, on kernels that lack the family too.
const NO_SUCH_FLAG: usize = 1 << 28;
const STREAM: usize = libc::SOCK_STREAM as usize;
const DATAGRAM: usize = libc::SOCK_DGRAM as usize;
const RAW: usize = libc::SOCK_RAW as usize;
const SEQUENCED: usize = libc::SOCK_SEQPACKET as usize;

/// Families of no use to an agent: name, family, type, protocol, why.
const FAMILIES: &[(&str, usize, usize, usize, &str)] = &[
    ("packet", 17, RAW, 0, "CVE-2020-14386"),
    ("packet_dgram", 17, DATAGRAM, 0, "CVE-2017-7308"),
    ("vsock", 40, STREAM, 0, "CVE-2021-26708"),
    ("alg", 38, SEQUENCED, 0, "CVE-2026-31431"),
    ("key", 15, RAW, 2, "CVE-2026-43284"),
    ("rxrpc", 33, DATAGRAM, 2, "CVE-2026-43500"),
    ("xdp", 44, RAW, 0, "CVE-2019-20811 class"),
    ("bluetooth", 31, RAW, 1, "CVE-2021-3573"),
    ("can", 29, RAW, 1, "CVE-2021-32606"),
    ("tipc", 30, STREAM, 0, "CVE-2021-43267"),
    ("pppox", 24, STREAM, 0, "CVE-2015-8543 class"),
    ("smc", 43, STREAM, 0, "CVE-2022-0850 class"),
    ("kcm", 41, SEQUENCED, 0, "CVE-2019-11885 class"),
    ("qipcrtr", 42, DATAGRAM, 0, "CVE-2019-19079"),
    ("nfc", 39, SEQUENCED, 1, "CVE-2021-23134"),
    ("caif", 37, SEQUENCED, 0, "CVE-2023-2166"),
    ("phonet", 35, DATAGRAM, 0, "CVE-2021-45095"),
    ("ieee802154", 36, DATAGRAM, 0, "CVE-2019-17053"),
    ("rds", 21, SEQUENCED, 0, "CVE-2010-3904"),
    ("atm", 20, DATAGRAM, 0, "CVE-2023-1838 class"),
    ("llc", 26, STREAM, 0, "CVE-2018-5703 class"),
    ("x25", 9, SEQUENCED, 0, "CVE-2022-1516"),
    ("ax25", 3, SEQUENCED, 0, "CVE-2022-1199"),
    ("netrom", 6, SEQUENCED, 0, "CVE-2022-1055 class"),
    ("rose", 11, SEQUENCED, 0, "CVE-2022-2318"),
    ("appletalk", 5, DATAGRAM, 0, "CVE-2023-51781"),
    ("ipx", 4, DATAGRAM, 0, "CVE-2010-4160 class"),
    ("isdn", 34, RAW, 0, "CVE-2020-27786 class"),
    ("mctp", 45, DATAGRAM, 0, "CVE-2022-2977 class"),
    ("netlink_audit", 16, RAW, 9, "audit records"),
    ("netlink_netfilter", 16, RAW, 12, "CVE-2024-1086"),
    ("netlink_uevent", 16, RAW, 15, "CVE-2009-1185"),
    ("netlink_xfrm", 16, RAW, 6, "CVE-2026-43284"),
    ("netlink_generic", 16, RAW, 16, "CVE-2022-42721 class"),
    ("netlink_crypto", 16, RAW, 21, "CVE-2018-19854"),
    ("netlink_diag", 16, RAW, 4, "sock_diag(7): everybody's sockets"),
    ("netlink_connector", 16, RAW, 11, "CVE-2023-52522 class"),
    ("netlink_scsi", 16, RAW, 18, "CVE-2021-27364"),
    ("netlink_rdma", 16, RAW, 20, "CVE-2014-8173 class"),
    ("netlink_selinux", 16, RAW, 7, "netlink(7)"),
    ("netlink_fib", 16, RAW, 10, "netlink(7)"),
];

/// Protocols of families that are allowed: through only if the socket is really made.
const PROTOCOLS: &[(&str, usize, usize, usize, &str)] = &[
    ("raw_ip", 2, RAW, 1, "raw(7)"),
    ("raw_ip6", 10, RAW, 58, "raw(7)"),
    ("type_packet", 2, 10, 0x300, "packet(7): SOCK_PACKET turns AF_INET into AF_PACKET"),
    ("mptcp", 2, STREAM, 262, "landlock issue #54: TCP rules do not see it"),
    ("mptcp6", 10, STREAM, 262, "landlock issue #54"),
    ("sctp", 2, STREAM, 132, "CVE-2021-23133"),
    ("dccp", 2, 6, 33, "CVE-2017-6074"),
    ("udplite", 2, DATAGRAM, 136, "CVE-2019-10639 class"),
    ("l2tp", 2, DATAGRAM, 115, "CVE-2014-4943 class"),
];

/// Attempts on sockets.
pub fn attempts() -> Vec<Attempt> {
    let mut all: Vec<_> = FAMILIES.iter().map(|&family| of_family(family)).collect();
    all.extend(PROTOCOLS.iter().map(|&protocol| of_protocol(protocol)));
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Sockets, reference, success, move |_| deed())
    };
    all.extend([
        new(
            "socket_other_families",
            "seccomp allow-list",
            "a family besides UNIX, INET, INET6, NETLINK is let through",
            || sweep((0..64).filter(|family| ![1, 2, 10, 16].contains(family)).map(|family| (family, 0))),
        ),
        new(
            "socket_other_netlink",
            "seccomp allow-list",
            "a netlink protocol besides ROUTE is let through",
            || sweep((1..32).map(|protocol| (16, protocol))),
        ),
        new("socketpair_other", "socketpair(2)", "a pair of another family is let through", || {
            let mut pair = [0i32; 2];
            let through: Vec<usize> = (0..64)
                .filter(|family| ![1, 2, 10, 16].contains(family))
                .filter(|&family| {
                    let arguments = [family, STREAM | NO_SUCH_FLAG, 0, pair.as_mut_ptr() as usize];
                    call(libc::SYS_socketpair, &arguments) == Err(libc::EINVAL)
                })
                .collect();
            Verdict::when(!through.is_empty(), format!("families: {through:?}"))
        }),
        new("socketpair_unix", "socketpair(2)", "a pair of unix sockets of one's own", || {
            let mut pair = [0i32; 2];
            succeeded("socketpair", call(libc::SYS_socketpair, &[1, STREAM, 0, pair.as_mut_ptr() as usize]))
        }),
    ]);
    all
}

fn of_family(
    (name, family, kind, protocol, reference): (&'static str, usize, usize, usize, &'static str),
) -> Attempt {
    let success = format!("a {name} socket is made, or the kernel asked for one");
    Attempt::new(format!("socket_{name}"), Class::Sockets, reference, success, move |_| {
        match call(libc::SYS_socket, &[family, kind, protocol]) {
            Ok(socket) => {
                drop(own(socket));
                Verdict::through("the socket was made")
            }
            Err(errno) if is_let_through(family, protocol) => {
                Verdict::through(format!("the filter let it through, the kernel said: {}", describe(errno)))
            }
            Err(errno) => Verdict::refused(errno, describe(errno)),
        }
    })
}

fn of_protocol(
    (name, family, kind, protocol, reference): (&'static str, usize, usize, usize, &'static str),
) -> Attempt {
    let success = format!("a {name} socket is made, or the kernel looked for the protocol");
    Attempt::new(format!("socket_{name}"), Class::Sockets, reference, success, move |_| {
        match call(libc::SYS_socket, &[family, kind, protocol]) {
            Err(errno @ (libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT)) => {
                Verdict::through(format!("the kernel looked for the protocol: {}", describe(errno)))
            }
            result => succeeded("socket", result.inspect(|&socket| drop(own(socket)))),
        }
    })
}

fn is_let_through(family: usize, protocol: usize) -> bool {
    call(libc::SYS_socket, &[family, RAW | NO_SUCH_FLAG, protocol]) == Err(libc::EINVAL)
}

fn sweep(wanted: impl Iterator<Item = (usize, usize)>) -> Verdict {
    let through: Vec<_> = wanted.filter(|&(family, protocol)| is_let_through(family, protocol)).collect();
    Verdict::when(!through.is_empty(), format!("family and protocol: {through:?}"))
}
