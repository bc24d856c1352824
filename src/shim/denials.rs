//! What was refused, whichever wall it was: counted, with the cause and the line of the policy that would allow it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::fd::AsFd;
use serde::Serialize;

use super::audit::Refusal;
use crate::plan::landlock;
use crate::plan::seccomp::{Explanation, explain_under, name_of};
use crate::policy::Policy;
use crate::sys::seccomp;
pub use crate::wire::egress::{Protocol, Reason};
use crate::wire::service::shim::Verdict;

/// Most different calls that are kept apart; an agent that tries them all must not fill our memory.
const MOST: usize = 512;

/// The refused calls of one agent, as the filter's notifications tell them.
#[derive(Debug)]
pub struct Denials {
    listener: Option<OwnedFd>,
    counts: BTreeMap<u32, u64>,
    /// Those that nobody has asked for since they were refused first.
    fresh: Vec<u32>,
}

/// One kind of refusal, explained. Its form is part of the report, and the same for every wall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// What was refused, and by which wall.
    #[serde(flatten)]
    pub refused: Refused,
    /// How often.
    pub count: u64,
    /// Why.
    pub cause: String,
    /// What to write into the policy; none: no policy can allow it.
    pub remedy: Option<String>,
}

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "wall", rename_all = "lowercase")]
pub enum Refused {
    /// By the system-call filter.
    Seccomp {
        /// The call's name, or `#471` if it has none that we know.
        call: String,
    },
    /// By the gateway, or by the kernel because no socket leads to one.
    #[serde(rename_all = "camelCase")]
    Egress {
        /// How it was tried: `tcp`, `udp`, `dns`, `http`.
        protocol: Protocol,
        /// The name that was asked for, where there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The address that was wanted, or that the name leads to.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// The port; 53 of a question for a name.
        port: u16,
        /// The kind of reason.
        reason: Reason,
    },
    /// By the Landlock domain.
    Landlock {
        /// `fs.write_file`, `net.connect_tcp` …
        right: String,
        /// The file, as it is called inside.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// The TCP port.
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seccomp { call } => write!(f, "system call {call}"),
            Self::Landlock { right, path: Some(path), .. } => write!(f, "{right} {path}"),
            Self::Landlock { right, port: Some(port), .. } => write!(f, "{right} port {port}"),
            Self::Landlock { right, .. } => f.write_str(right),
            Self::Egress { protocol, name, address, port, .. } => {
                let address = address.map(|address| address.to_string());
                let host = name.clone().or(address).unwrap_or_else(|| "an address".to_owned());
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                match (protocol, port) {
                    (Protocol::Dns, _) => write!(f, "name {host}"),
                    (Protocol::Udp, port) => write!(f, "UDP to {host}:{port}"),
                    (Protocol::Http, _) => write!(f, "request to http://{host}"),
                    (Protocol::Tcp | Protocol::Published, port) => write!(f, "connection to {host}:{port}"),
                }
            }
        }
    }
}

impl Denials {
    /// Listens, where the filter notifies.
    pub fn new(listener: Option<OwnedFd>) -> Self {
        Self { listener, counts: BTreeMap::new(), fresh: Vec::new() }
    }

    /// Readable when a call waits for its answer.
    pub fn listener(&self) -> Option<&OwnedFd> {
        self.listener.as_ref()
    }

    /// Answers one waiting call with EPERM, and counts it.
    pub fn answer(&mut self) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        // A caller that was killed meanwhile needs no answer.
        let Some(call) = seccomp::recv(listener.as_fd())? else { return Ok(()) };
        seccomp::refuse(listener.as_fd(), call.id, libc::EPERM)?;
        if self.counts.len() < MOST && !self.counts.contains_key(&call.nr) {
            self.fresh.push(call.nr);
            self.counts.insert(call.nr, 0);
        }
        if let Some(count) = self.counts.get_mut(&call.nr) {
            *count += 1;
        }
        Ok(())
    }

    /// The calls that were refused for the first time since this was asked.
    pub fn fresh(&mut self) -> impl Iterator<Item = Verdict> {
        self.fresh.drain(..).map(|number| Verdict {
            wall: "seccomp".into(),
            allowed: false,
            what: name_of(number),
            port: None,
            why: None,
        })
    }

    /// Nobody is under the filter any more, or it cannot be read: nothing more will come.
    pub fn close(&mut self) {
        self.listener = None;
    }

    /// How many calls so far.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// All calls, by number.
    pub fn explained(&self, policy: &Policy) -> Vec<Denial> {
        let explained = |(number, count): (&u32, &u64)| {
            let Explanation { call, cause, remedy } = explain_under(policy, *number);
            Denial { refused: Refused::Seccomp { call }, count: *count, cause: cause.to_string(), remedy }
        };
        self.counts.iter().map(explained).collect()
    }
}

impl Denial {
    /// What Landlock refused.
    pub fn by_landlock(refusal: &Refusal, count: u64) -> Self {
        let Refusal { right, path, port } = refusal.clone();
        let landlock::Explanation { cause, remedy } = landlock::explain(&right, path.as_deref());
        Self { refused: Refused::Landlock { right, path, port }, count, cause: cause.into(), remedy }
    }
}
