//! What the shim tells `stockade-egress` and what it hears from it.
//!
//! ```text
//!  shim                                     stockade-egress
//!   │ ── fd 4: Config (sealed), fd 5…: sockets ▶ │  before it runs
//!   │ ◀─ Ready ───────────────────────────────── │  it has confined itself, and accepts
//!   │ ── Secret{name, value} ──────────────────▶ │  before the first request and whenever it changes
//!   │ ◀─ Named{name, address} ─────────────────── │  what a synthetic address stands for, for the next gateway
//!   │ ◀─ Connection(record) ───────────────────── │  one has ended, or was refused
//!   │ ── Finish ───────────────────────────────▶ │
//!   │ ◀─ Connection(record) … Done ────────────── │  what was open is accounted for, then it exits with 0
//!   │ ◀─ Failed{what} ──────────────────────────── │  instead of Ready, or at any time; then it exits
//! ```
//! One JSON document per packet of the SOCK_SEQPACKET pair. The gateway reads what hosts on the network send, so the shim
//! parses its messages as if it were hostile.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest message.
pub const LONGEST: usize = 64 * 1024;
/// Longest configuration: it is a file, not a packet.
pub const LONGEST_CONFIG: u64 = 1 << 20;
/// Longest text in a [`Record`]; what is longer is cut.
pub const LONGEST_TEXT: usize = 300;

/// Inside, the gateway itself: the address of `stockade.internal`, and one at which DNS answers (as it does at all others).
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Descriptors of one connection when it is busy: two sockets, and a pipe with two ends each way.
pub const FILES_OF_A_CONNECTION: u64 = 6;
/// Descriptors of a gateway without connections: the doors, spare pipes, and what a runtime opens for itself.
pub const FILES_OF_A_GATEWAY: u64 = 512;

/// The control socket's descriptor.
pub const CONTROL: i32 = 3;
/// The configuration's descriptor: a sealed memfd.
pub const CONFIG: i32 = 4;
/// The descriptor of `Config::sockets[0]`; the others follow in order.
pub const SOCKETS: i32 = 5;

/// Everything that a gateway works by. It never changes while the gateway runs; secrets are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Whom it works for: synthetic addresses differ between sandboxes.
    pub sandbox: String,
    /// What each descriptor from [`SOCKETS`] on is.
    pub sockets: Vec<Socket>,
    /// Destinations, each in the form that `policy::Destination` shows: `api.example.org:443`, `a.org:22 sni=any`.
    pub allow: Vec<String>,
    /// Names whose addresses the site has decided.
    pub resolve: BTreeMap<String, Vec<IpAddr>>,
    /// Names that are served by the gateway itself, with a secret that the sandbox does not have.
    pub inject: Vec<Inject>,
    /// The certificates that upstreams of `inject` are checked against; none: the host's usual bundle.
    pub ca_bundle: Option<PathBuf>,
    /// What an earlier gateway of this sandbox has said with [`FromEgress::Named`].
    pub named: BTreeMap<Ipv4Addr, String>,
    /// Most connections at one time.
    pub connections: u32,
    /// How long it waits for others.
    pub patience: Patience,
    /// Whether it may run on a kernel without Landlock (the policy tolerates that shortfall by name).
    pub tolerate_no_landlock: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sandbox: String::new(),
            sockets: Vec::new(),
            allow: Vec::new(),
            resolve: BTreeMap::new(),
            inject: Vec::new(),
            ca_bundle: None,
            named: BTreeMap::new(),
            connections: 4096,
            patience: Patience::default(),
            tolerate_no_landlock: false,
        }
    }
}

/// How long the gateway waits, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Patience {
    /// For a whole TLS hello, a whole request's head, the next DNS question on a TCP connection.
    pub hello: u64,
    /// For an upstream to accept, its name resolved and all its addresses tried.
    pub connect: u64,
    /// For the next byte of a connection, in either direction.
    pub idle: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { hello: 10_000, connect: 15_000, idle: 2 * 60 * 60 * 1000 }
    }
}

/// A socket that the shim hands over. Those of the sandbox were made in its network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Socket {
    /// TCP, listening inside on every address, or on the synthetic address of one name.
    Listener {
        /// Its port.
        port: u16,
        /// Whether it takes only connections to the addresses that rules are about. The others are not refused by the
        /// kernel, but by the gateway, through [`Socket::Monitor`].
        #[serde(default)]
        within: bool,
    },
    /// UDP, bound inside to port 53 of every address.
    DnsUdp,
    /// TCP, listening inside on port 53 of every address.
    DnsTcp,
    /// AF_PACKET, SOCK_DGRAM, inside: sees attempts that no socket takes.
    Monitor,
    /// TCP, listening on the host's loopback interface: a connection is carried to a port inside.
    Published {
        /// The port inside, on 127.0.0.1.
        inside: u16,
    },
    /// SOCK_SEQPACKET to a process inside that connects on request; see [`DialRequest`].
    Dialer,
    /// No socket, but the file where the bytes are counted; see [`super::tally`].
    Tally,
}

/// `[[network.inject]]`, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Inject {
    /// The name inside, served as plain HTTP on port 80.
    pub name: String,
    /// `https://host[:port]`
    pub upstream: String,
    /// The header that the secret goes into.
    pub header: String,
    /// Allowed methods; none: every method.
    pub methods: Vec<String>,
    /// Allowed beginnings of the path; none: every path.
    pub paths: Vec<String>,
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

/// Shortest secret: what is shorter occurs by chance, and can be guessed by having guesses masked.
pub const SHORTEST_SECRET: usize = 8;

impl Secret {
    /// Whether what follows the scheme (`Bearer …`) is long enough to be hidden.
    pub fn can_be_hidden(&self) -> bool {
        self.0.rsplit(' ').next().is_some_and(|token| token.len() >= SHORTEST_SECRET)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// From the shim to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToEgress {
    /// The value for the inject rule of this name. The new value holds from the next request on.
    Secret {
        /// [`Inject::name`]
        name: String,
        /// The whole value of the header.
        value: Secret,
    },
    /// Account for what is open, say `Done`, exit.
    Finish,
}

/// From the gateway to the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromEgress {
    /// It is confined, and accepts.
    Ready,
    /// A synthetic address now stands for this name; only for names that no rule names exactly.
    Named {
        /// As the agent asked for it.
        name: String,
        /// In 198.18.0.0/15.
        address: Ipv4Addr,
    },
    /// A connection has ended, or an attempt was refused.
    Connection(Record),
    /// Everything that was open has been accounted for.
    Done,
    /// It cannot go on.
    Failed {
        /// One line, for people.
        what: String,
    },
}

/// One connection, or several attempts of one kind that were refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    /// What the agent used.
    pub protocol: Protocol,
    /// The name, where there was one.
    pub name: Option<String>,
    /// The real address that was connected to; where none was, the one that the agent wanted, if that is a real one.
    pub address: Option<IpAddr>,
    /// The port that the agent wanted; 0 where there are none.
    pub port: u16,
    /// From the agent to the outside, in bytes.
    pub sent: u64,
    /// From the outside to the agent, in bytes.
    pub received: u64,
    /// From accept to end, in milliseconds.
    pub duration: u64,
    /// How many attempts this record is about: refusals that repeat are counted, not listed. 0: it is about bytes of a
    /// connection that goes on, and is counted once it ends.
    pub count: u32,
    /// Whether it was let through.
    pub verdict: Verdict,
}

/// What an agent tried to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Dns,
    Http,
    /// From the host to a published port.
    Published,
}

/// Whether it was let through.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verdict {
    /// By this rule.
    Allowed {
        /// As the policy shows it.
        rule: String,
        /// What ended it before its time, if something did: `cannot connect: …`.
        trouble: Option<String>,
    },
    /// For this reason.
    Refused {
        /// The kind of reason, for programs.
        reason: Reason,
        /// The reason in one line, for people and models.
        detail: String,
        /// The policy's line that would have allowed it; none: no policy can.
        remedy: Option<String>,
    },
}

/// Why the gateway refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No rule covers the name.
    Name,
    /// A rule covers the name or address, but not with this port.
    Port,
    /// No rule covers the address.
    Address,
    /// The name leads to an address of a range that only a rule of its own opens.
    GuardedAddress,
    /// The TLS hello names another host, or none.
    Sni,
    /// TLS was due, and something else came.
    NotTls,
    /// UDP other than DNS.
    Udp,
    /// IPv6, which sandboxes do not have.
    Ipv6,
    /// More connections than one sandbox may have.
    TooMany,
    /// The HTTP request is not one that the inject rule allows.
    Request,
}

impl Reason {
    /// As in messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Port => "port",
            Self::Address => "address",
            Self::GuardedAddress => "guarded-address",
            Self::Sni => "sni",
            Self::NotTls => "not-tls",
            Self::Udp => "udp",
            Self::Ipv6 => "ipv6",
            Self::TooMany => "too-many",
            Self::Request => "request",
        }
    }

    /// Whether attempts at one place differ in what is said about them: which request it was, which host a hello named.
    pub fn differs_in_detail(self) -> bool {
        matches!(self, Self::Request | Self::Sni)
    }
}

/// What cannot be sent or is no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`LONGEST`].
    #[error("a message of {0} bytes is longer than {LONGEST}")]
    TooLong(usize),
    /// Not such a document.
    #[error("not a message: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// A dialer's request has a number, and its answer the same: one that comes too late, or was meant for an earlier gateway,
/// is nobody's.
pub const DIAL_NUMBER: usize = 8;
/// Sent to the dialer: the number, then the port on 127.0.0.1 to connect to, big endian. Answered, in order, with
/// [`DialAnswer`].
pub type DialRequest = [u8; DIAL_NUMBER + 2];
/// From the dialer: the number, then an errno, little endian; 0, and the connected socket comes with it (SCM_RIGHTS).
pub type DialAnswer = [u8; DIAL_NUMBER + 4];

impl ToEgress {
    /// As one packet.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        encode(self)
    }
    /// From one packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        decode(bytes)
    }
}

impl FromEgress {
    /// As one packet.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        encode(self)
    }
    /// From one packet. Texts that are longer than [`LONGEST_TEXT`], or hold what a terminal would obey, are cut and cleaned.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut message: Self = decode(bytes)?;
        message.clean();
        Ok(message)
    }

    fn clean(&mut self) {
        match self {
            Self::Ready | Self::Done => {}
            Self::Named { name, .. } => clean(name),
            Self::Failed { what } => clean(what),
            Self::Connection(record) => {
                record.name.iter_mut().for_each(clean);
                match &mut record.verdict {
                    Verdict::Allowed { rule, trouble } => {
                        clean(rule);
                        trouble.iter_mut().for_each(clean);
                    }
                    Verdict::Refused { detail, remedy, .. } => {
                        clean(detail);
                        remedy.iter_mut().for_each(clean);
                    }
                }
            }
        }
    }
}

fn clean(text: &mut String) {
    if text.len() > LONGEST_TEXT || text.chars().any(char::is_control) {
        *text = text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect();
    }
}

fn encode(message: &impl Serialize) -> Result<Vec<u8>, MessageError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LONGEST { Err(MessageError::TooLong(bytes.len())) } else { Ok(bytes) }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    if bytes.len() > LONGEST {
        return Err(MessageError::TooLong(bytes.len()));
    }
    Ok(serde_json::from_slice(bytes)?)
}
