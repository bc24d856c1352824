//! Rules for calls that are safe with some arguments only.
//!
//! Every argument looked at here is an `int`, `unsigned int` or `umode_t` in the kernel (clone(2) takes an
//! `unsigned long` and keeps its low half). The kernel drops the high 32 bits, so a check of the low 32 bits
//! sees exactly what the kernel sees: `TIOCSTI | 1 << 32` is TIOCSTI to both (CVE-2019-10063).

/// When a call is allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The call.
    pub call: &'static str,
    /// The call is allowed if all checks of any one line hold.
    pub any: &'static [&'static [Check]],
    /// The same in words, for people.
    pub says: &'static str,
    /// Why the rest is refused.
    pub because: &'static str,
    /// Whether `nested-namespaces` lifts the rule.
    pub nested_lifts: bool,
}

/// A claim about the low 32 bits of one argument.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// 0 to 5.
    pub argument: u8,
    /// The claim.
    pub is: Is,
}

/// What a check claims about its 32-bit word.
#[derive(Debug, PartialEq, Eq)]
pub enum Is {
    /// One of these.
    OneOf(&'static [u32]),
    /// One of `values`, looking only at the bits in `mask`.
    Masked {
        /// Bits that matter.
        mask: u32,
        /// What they may be.
        values: &'static [u32],
    },
    /// Not one of `values`, looking only at the bits in `mask`.
    NotMasked {
        /// Bits that matter.
        mask: u32,
        /// What they must not be.
        values: &'static [u32],
    },
    /// None of these bits.
    Without(u32),
}

/// The rule for `call`, if it has one.
pub fn rule(call: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.call == call)
}

const fn check(argument: u8, is: Is) -> Check {
    Check { argument, is }
}

const ANY_BIT: u32 = u32::MAX;

// socket(2): the kernel's SOCK_TYPE_MASK; above it are SOCK_CLOEXEC and SOCK_NONBLOCK.
const TYPE: u32 = 0xf;
const STREAM: u32 = 1;
const DGRAM: u32 = 2;
const SEQPACKET: u32 = 5;
const UNIX: u32 = 1;
const INET: u32 = 2;
const INET6: u32 = 10;
const NETLINK: u32 = 16;
const NETLINK_ROUTE: u32 = 0;
const TCP: u32 = 6;
const UDP: u32 = 17;

// clone(2): every CLONE_NEW* flag that clone knows (CLONE_NEWTIME lies among its exit-signal bits and is for
// clone3 and unshare only).
const NEW_NAMESPACES: u32 = 0x0002_0000 // CLONE_NEWNS
    | 0x0200_0000 // CLONE_NEWCGROUP
    | 0x0400_0000 // CLONE_NEWUTS
    | 0x0800_0000 // CLONE_NEWIPC
    | 0x1000_0000 // CLONE_NEWUSER
    | 0x2000_0000 // CLONE_NEWPID
    | 0x4000_0000; // CLONE_NEWNET

// open(2): O_CREAT and __O_TMPFILE; without either the mode is whatever the register held.
const CREATES: u32 = 0o100 | 0o20_000_000;
const SET_ID: u32 = 0o6000;
const FILE_TYPE: u32 = 0o170_000;
const REGULAR_FIFO_SOCKET: &[u32] = &[0, 0o100_000, 0o010_000, 0o140_000];

const SET_ID_BECAUSE: &str =
    "a set-id file in the workspace would be a set-id file of the workspace's owner on the host";

const fn mode_rule(call: &'static str, any: &'static [&'static [Check]]) -> Rule {
    Rule {
        call,
        any,
        says: "the mode carries no set-user-id and no set-group-id bit",
        because: SET_ID_BECAUSE,
        nested_lifts: false,
    }
}

const fn open_rule(call: &'static str, any: &'static [&'static [Check]]) -> Rule {
    Rule {
        call,
        any,
        says: "the file is not created, or the mode carries no set-user-id and no set-group-id bit",
        because: SET_ID_BECAUSE,
        nested_lifts: false,
    }
}

const fn node_rule(call: &'static str, any: &'static [&'static [Check]]) -> Rule {
    Rule {
        call,
        any,
        says: "the node is a regular file, FIFO or socket without set-id bits",
        because: "device nodes are for the host, and set-id files of the workspace's owner for nobody",
        nested_lifts: false,
    }
}

/// All of them.
pub const RULES: &[Rule] = &[
    Rule {
        call: "clone",
        any: &[&[check(0, Is::Without(NEW_NAMESPACES))]],
        says: "no CLONE_NEW* flag",
        because: "a new user namespace gives capabilities over kernel code that was written for root",
        nested_lifts: true,
    },
    Rule {
        call: "socket",
        any: &[
            &[
                check(0, Is::OneOf(&[INET, INET6])),
                check(1, Is::Masked { mask: TYPE, values: &[STREAM] }),
                check(2, Is::OneOf(&[0, TCP])),
            ],
            &[
                check(0, Is::OneOf(&[INET, INET6])),
                check(1, Is::Masked { mask: TYPE, values: &[DGRAM] }),
                check(2, Is::OneOf(&[0, UDP])),
            ],
            &[
                check(0, Is::OneOf(&[UNIX])),
                check(1, Is::Masked { mask: TYPE, values: &[STREAM, DGRAM, SEQPACKET] }),
                check(2, Is::OneOf(&[0])),
            ],
            &[check(0, Is::OneOf(&[NETLINK])), check(2, Is::OneOf(&[NETLINK_ROUTE]))],
        ],
        says: "TCP or UDP over IPv4 or IPv6, a Unix socket, or netlink's routing family",
        because: "every other family and protocol (packet, vsock, AF_ALG, MPTCP, SCTP …) is kernel code that no agent \
                  needs, and Landlock's TCP rules see only TCP",
        nested_lifts: false,
    },
    Rule {
        call: "socketpair",
        any: &[&[
            check(0, Is::OneOf(&[UNIX])),
            check(1, Is::Masked { mask: TYPE, values: &[STREAM, DGRAM, SEQPACKET] }),
            check(2, Is::OneOf(&[0])),
        ]],
        says: "a Unix socket",
        because: "as for socket",
        nested_lifts: false,
    },
    Rule {
        call: "ioctl",
        any: &[&[
            // TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD.
            check(1, Is::NotMasked { mask: ANY_BIT, values: &[0x5412, 0x541c, 0x541d, 0x5423] }),
            // KD* and VT_*: 0x4bxx and 0x56xx without direction and size.
            check(1, Is::NotMasked { mask: 0xffff_ff00, values: &[0x4b00, 0x5600] }),
        ]],
        says: "neither TIOCSTI, TIOCLINUX, TIOCCONS nor TIOCSETD, nor a request to a virtual console (0x4bxx, 0x56xx)",
        because: "they put words into the mouth of whoever sits at the terminal (CVE-2017-5226, CVE-2019-10063), or load \
                  line disciplines into the kernel",
        nested_lifts: false,
    },
    Rule {
        call: "prctl",
        any: &[&[check(0, Is::OneOf(PRCTL))]],
        says: "an option that describes or narrows the calling process",
        because: "the rest changes memory maps (PR_SET_MM), shares pages with others (PR_SET_MEMORY_MERGE), groups \
                  cores (PR_SCHED_CORE), or is for other machines",
        nested_lifts: false,
    },
    Rule {
        call: "personality",
        any: &[&[check(0, Is::OneOf(&[0, u32::MAX]))]],
        says: "asks (0xffffffff) or sets plain Linux (0)",
        because: "other personalities make memory executable or predictable",
        nested_lifts: false,
    },
    Rule {
        call: "seccomp",
        any: &[
            // SECCOMP_SET_MODE_STRICT, SECCOMP_GET_ACTION_AVAIL, SECCOMP_GET_NOTIF_SIZES.
            &[check(0, Is::OneOf(&[0, 2, 3]))],
            // SECCOMP_SET_MODE_FILTER without SECCOMP_FILTER_FLAG_NEW_LISTENER.
            &[check(0, Is::OneOf(&[1])), check(1, Is::Without(1 << 3))],
        ],
        says: "adds a filter without a listener, or asks",
        because: "a filter can only take away; a listener could answer in the place of ours",
        nested_lifts: false,
    },
    Rule {
        call: "memfd_create",
        // MFD_NOEXEC_SEAL without MFD_EXEC.
        any: &[&[check(1, Is::Masked { mask: 0x18, values: &[0x8] })]],
        says: "with MFD_NOEXEC_SEAL",
        because: "otherwise it runs code that lies under no path, past every rule about paths",
        nested_lifts: false,
    },
    open_rule("open", &[&[check(1, Is::Without(CREATES))], &[check(2, Is::Without(SET_ID))]]),
    open_rule("openat", &[&[check(2, Is::Without(CREATES))], &[check(3, Is::Without(SET_ID))]]),
    mode_rule("creat", &[&[check(1, Is::Without(SET_ID))]]),
    mode_rule("chmod", &[&[check(1, Is::Without(SET_ID))]]),
    mode_rule("fchmod", &[&[check(1, Is::Without(SET_ID))]]),
    mode_rule("fchmodat", &[&[check(2, Is::Without(SET_ID))]]),
    mode_rule("fchmodat2", &[&[check(2, Is::Without(SET_ID))]]),
    node_rule(
        "mknod",
        &[&[
            check(1, Is::Masked { mask: FILE_TYPE, values: REGULAR_FIFO_SOCKET }),
            check(1, Is::Without(SET_ID)),
        ]],
    ),
    node_rule(
        "mknodat",
        &[&[
            check(2, Is::Masked { mask: FILE_TYPE, values: REGULAR_FIFO_SOCKET }),
            check(2, Is::Without(SET_ID)),
        ]],
    ),
];

/// prctl(2) options that an ordinary program uses.
#[rustfmt::skip]
const PRCTL: &[u32] = &[
    15, 16,             // PR_SET_NAME, PR_GET_NAME: by far the most frequent
    0x5356_4d41,        // PR_SET_VMA (names for anonymous memory)
    1, 2,               // PR_SET_PDEATHSIG, PR_GET_PDEATHSIG
    3, 4,               // PR_GET_DUMPABLE, PR_SET_DUMPABLE
    7, 8,               // PR_GET_KEEPCAPS, PR_SET_KEEPCAPS
    13, 14,             // PR_GET_TIMING, PR_SET_TIMING
    21, 22,             // PR_GET_SECCOMP, PR_SET_SECCOMP
    23, 24,             // PR_CAPBSET_READ, PR_CAPBSET_DROP
    25, 26,             // PR_GET_TSC, PR_SET_TSC
    27, 28,             // PR_GET_SECUREBITS, PR_SET_SECUREBITS (ours are locked)
    29, 30,             // PR_SET_TIMERSLACK, PR_GET_TIMERSLACK
    36, 37,             // PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER
    38, 39,             // PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS
    40,                 // PR_GET_TID_ADDRESS
    41, 42,             // PR_SET_THP_DISABLE, PR_GET_THP_DISABLE
    47,                 // PR_CAP_AMBIENT (nothing to raise)
    52, 53,             // PR_GET_SPECULATION_CTRL, PR_SET_SPECULATION_CTRL
    65, 66,             // PR_SET_MDWE, PR_GET_MDWE
    68,                 // PR_GET_MEMORY_MERGE
    74, 75, 76,         // PR_{GET,SET,LOCK}_SHADOW_STACK_STATUS
    78,                 // PR_FUTEX_HASH
    0x4155_5856,        // PR_GET_AUXV
    0x5961_6d61,        // PR_SET_PTRACER (nobody here can trace)
];
