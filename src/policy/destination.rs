//! Whom an agent may reach: a name, all names below one, or a range of addresses, each with its ports.
//!
//! ```text
//!  api.example.org:443        *.example.org:443,8443        10.2.0.0/16:5432        [2001:db8::/32]:443
//!  git.example.org:443 sni=any     in TOML: { to = "git.example.org:443", sni = "any" }
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cidr::{Cidr, InvalidCidr};
use super::hostname::{GATEWAY, Hostname, InvalidHostname};

/// Each port is a socket inside; more than this in one rule is a mistake.
const MOST_PORTS: usize = 64;

/// Names of private use that have one label; any other single label after `*.` is a whole top-level domain.
const PRIVATE_SUFFIXES: [&str; 9] =
    ["corp", "home", "internal", "intranet", "lan", "local", "localdomain", "private", "test"];

/// Why a destination was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDestination {
    /// No port.
    #[error("{given:?} has no port: write {given}:443")]
    NoPort {
        /// As written.
        given: String,
    },
    /// A URL instead of a host.
    #[error("{given:?} is a URL: write the host and its port only, like {host}:{port}")]
    Url {
        /// As written.
        given: String,
        /// The URL's host.
        host: String,
        /// The scheme's port.
        port: u16,
    },
    /// Something that is no port.
    #[error(
        "{given:?} is not a list of ports: write numbers from 1 to 65535 with commas between, like 443,8443"
    )]
    Ports {
        /// What stands behind the colon.
        given: String,
    },
    /// More ports than sensible.
    #[error("{given} ports are more than the 64 that one rule may have")]
    TooManyPorts {
        /// How many.
        given: usize,
    },
    /// The gateway answers there itself.
    #[error("port 53 is answered by the gateway itself, for every address: leave it out")]
    Dns,
    /// The gateway's own name.
    #[error("{GATEWAY} is the gateway itself, which every sandbox with a network reaches: leave it out")]
    Gateway,
    /// A star where none can be.
    #[error("{given:?} has a '*' that is not its first part: write *.{base}:PORT for all names below {base}")]
    Star {
        /// As written.
        given: String,
        /// The part without stars.
        base: String,
    },
    /// `*` or `*.com`.
    #[error(
        "{given:?} is as good as every host there is: name at least two parts after the '*', like *.example.org"
    )]
    Everything {
        /// As written.
        given: String,
    },
    /// `sni` for a range of addresses.
    #[error("an address has no name that TLS could be checked against: leave out sni for {0}")]
    SniOfAddress(Cidr),
    /// Something behind the ports that is not `sni=any`.
    #[error("{given:?} is not understood: only sni=any or sni=match can follow the ports")]
    Trailing {
        /// As written.
        given: String,
    },
    /// Not a range of addresses.
    #[error(transparent)]
    Cidr(#[from] InvalidCidr),
    /// Not a name.
    #[error(transparent)]
    Hostname(#[from] InvalidHostname),
}

/// What TLS to a named destination has to say about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sni {
    /// The name in the ClientHello is the name of the rule, and port 443 carries nothing but TLS.
    #[default]
    Match,
    /// Whatever it likes.
    Any,
}

/// The hosts of a destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name and no other.
    Name(Hostname),
    /// Every name below this one, at any depth; not the name itself.
    Below(Hostname),
    /// Every address of this range, as an address.
    Range(Cidr),
}

impl HostPattern {
    /// Whether everything that this pattern covers is covered by `parent`.
    pub fn is_within(&self, parent: &Self) -> bool {
        match (self, parent) {
            (Self::Name(name), Self::Name(parent)) => name == parent,
            (Self::Name(name), Self::Below(parent)) => name.is_below(parent),
            (Self::Below(base), Self::Below(parent)) => base == parent || base.is_below(parent),
            (Self::Range(range), Self::Range(parent)) => range.is_within(parent),
            (Self::Below(_), Self::Name(_))
            | (Self::Range(_), Self::Name(_) | Self::Below(_))
            | (Self::Name(_) | Self::Below(_), Self::Range(_)) => false,
        }
    }
}

/// Hosts, and the TCP ports on which they may be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    host: HostPattern,
    ports: BTreeSet<u16>,
    sni: Sni,
}

impl Destination {
    /// Which hosts.
    pub fn host(&self) -> &HostPattern {
        &self.host
    }

    /// Which ports; never none.
    pub fn ports(&self) -> &BTreeSet<u16> {
        &self.ports
    }

    /// What TLS has to say.
    pub fn sni(&self) -> Sni {
        self.sni
    }

    /// Whether `name` may be reached on `port`.
    pub fn covers_name(&self, name: &Hostname, port: u16) -> bool {
        self.ports.contains(&port) && self.knows_name(name)
    }

    /// Whether `name` may be reached on any port at all.
    pub fn knows_name(&self, name: &Hostname) -> bool {
        match &self.host {
            HostPattern::Name(own) => own == name,
            HostPattern::Below(base) => name.is_below(base),
            HostPattern::Range(_) => false,
        }
    }

    /// Whether `address` may be reached on `port` as an address, without a name.
    pub fn covers_address(&self, address: IpAddr, port: u16) -> bool {
        match &self.host {
            HostPattern::Range(range) => self.ports.contains(&port) && range.contains(address),
            HostPattern::Name(_) | HostPattern::Below(_) => false,
        }
    }

    /// Whether everything that this destination allows is allowed by `parents` together: a port may come from one of
    /// them, the next port from another.
    pub fn is_within(&self, parents: &[Self]) -> bool {
        self.ports.iter().all(|port| parents.iter().any(|parent| self.is_within_on(*port, parent)))
    }

    fn is_within_on(&self, port: u16, parent: &Self) -> bool {
        let as_strict = parent.sni == Sni::Any || self.sni == Sni::Match;
        parent.ports.contains(&port) && as_strict && self.host.is_within(&parent.host)
    }

    /// How a policy's list has it: `"api.example.org:443"` or `{ to = "…", sni = "any" }`.
    pub fn to_toml(&self) -> String {
        match self.sni {
            Sni::Match => format!("\"{}\"", self.target()),
            Sni::Any => format!("{{ to = \"{}\", sni = \"any\" }}", self.target()),
        }
    }

    /// Hosts and ports without the rest.
    fn target(&self) -> String {
        let ports = self.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        match &self.host {
            HostPattern::Name(name) => format!("{name}:{ports}"),
            HostPattern::Below(base) => format!("*.{base}:{ports}"),
            HostPattern::Range(range) if range.to_string().contains(':') => format!("[{range}]:{ports}"),
            HostPattern::Range(range) => format!("{range}:{ports}"),
        }
    }

    fn new(host: HostPattern, ports: BTreeSet<u16>, sni: Sni) -> Result<Self, InvalidDestination> {
        match (&host, sni) {
            (HostPattern::Range(range), Sni::Any) => Err(InvalidDestination::SniOfAddress(*range)),
            _ => Ok(Self { host, ports, sni }),
        }
    }
}

impl FromStr for Destination {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Self, InvalidDestination> {
        let (target, sni) = match text.split_once(' ') {
            None => (text, Sni::Match),
            Some((target, "sni=any")) => (target, Sni::Any),
            Some((target, "sni=match")) => (target, Sni::Match),
            Some((_, other)) => return Err(InvalidDestination::Trailing { given: other.into() }),
        };
        if let Some(url) = url(target) {
            return Err(url);
        }
        let (host, ports) = split(target)?;
        Self::new(parse_host(host)?, parse_ports(ports)?, sni)
    }
}

fn url(text: &str) -> Option<InvalidDestination> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = host.rsplit_once(':').map_or((host, None), |(host, port)| (host, port.parse().ok()));
    let known = match scheme {
        "http" => 80,
        "ssh" | "git+ssh" => 22,
        _ => 443,
    };
    let host = if host.is_empty() { "example.org" } else { host };
    Some(InvalidDestination::Url { given: text.into(), host: host.into(), port: port.unwrap_or(known) })
}

/// Takes `host:ports` and `[host]:ports` apart.
fn split(text: &str) -> Result<(&str, &str), InvalidDestination> {
    let no_port = |given: String| InvalidDestination::NoPort { given };
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let ports = rest.strip_prefix(':').ok_or_else(|| no_port(format!("[{host}]")))?;
        return Ok((host, ports));
    }
    match text.rsplit_once(':') {
        // Several colons are an IPv6 address, whose last group would pass for a port.
        Some((host, _)) if host.contains(':') => Err(no_port(format!("[{text}]"))),
        Some(parts) => Ok(parts),
        None => Err(no_port(text.into())),
    }
}

fn parse_host(host: &str) -> Result<HostPattern, InvalidDestination> {
    if host == "*" {
        return Err(InvalidDestination::Everything { given: host.into() });
    }
    if let Some(base) = host.strip_prefix("*.").filter(|base| !base.contains('*')) {
        let name: Hostname = base.parse()?;
        if !name.as_str().contains('.') && !PRIVATE_SUFFIXES.contains(&name.as_str()) {
            return Err(InvalidDestination::Everything { given: host.into() });
        }
        return Ok(HostPattern::Below(name));
    }
    if host.contains('*') {
        let base = host.rsplit('*').next().unwrap_or_default().trim_start_matches(['.', '-', '_']);
        let base = if base.is_empty() { "example.org" } else { base };
        return Err(InvalidDestination::Star { given: host.into(), base: base.into() });
    }
    if host.contains(['/', ':']) || host.parse::<IpAddr>().is_ok() {
        return Ok(HostPattern::Range(host.parse()?));
    }
    let name: Hostname = host.parse()?;
    if name.as_str() == GATEWAY {
        return Err(InvalidDestination::Gateway);
    }
    Ok(HostPattern::Name(name))
}

fn parse_ports(text: &str) -> Result<BTreeSet<u16>, InvalidDestination> {
    // u16::from_str takes "+80", and "0443" is a slip.
    let plain = |port: &str| !port.starts_with('0') && port.bytes().all(|c| c.is_ascii_digit());
    let parse = |port: &str| port.parse::<u16>().ok().filter(|_| plain(port));
    let mut ports = BTreeSet::new();
    for port in text.split(',') {
        let wrong = || InvalidDestination::Ports { given: text.chars().take(80).collect() };
        ports.insert(parse(port).ok_or_else(wrong)?);
    }
    match ports.len() {
        _ if ports.contains(&53) => Err(InvalidDestination::Dns),
        given if given > MOST_PORTS => Err(InvalidDestination::TooManyPorts { given }),
        _ => Ok(ports),
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target())?;
        if self.sni == Sni::Any { f.write_str(" sni=any") } else { Ok(()) }
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.sni == Sni::Match {
            return serializer.collect_str(self);
        }
        let mut table = serializer.serialize_struct("Destination", 2)?;
        table.serialize_field("to", &self.target())?;
        table.serialize_field("sni", &self.sni)?;
        table.end()
    }
}

/// The form with a table.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    to: Target,
    #[serde(default)]
    sni: Sni,
}

/// `to`, refused while the reader still knows where it stands.
struct Target(Destination);

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::value::from_text(deserializer, |text| text.parse().map(Self))
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Destination;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string like \"api.example.org:443\", or a table with `to` and `sni`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Destination, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Destination, A::Error> {
                let Table { to: Target(to), sni } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Destination::new(to.host, to.ports, sni.max(to.sni)).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
