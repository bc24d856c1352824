//! The way out: from a name or an address that a rule covers to a connected socket.
//!
//! A name is resolved when a connection to it arrives, every address that it resolves to is checked, and the very address
//! that was checked is connected to: DNS that answers differently a second time is not asked a second time.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use hickory_proto::rr::RecordType;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::guard;
use super::rules::{Refusal, Rules};
use crate::policy::Hostname;

/// Where the host says how names are resolved.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The host's own names.
pub const HOSTS: &str = "/etc/hosts";

/// Most addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;
/// Data that nobody acknowledges for this long ends a connection, as does a peer that answers no keep-alive.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Why there is no connection.
#[derive(Debug)]
pub enum NoUpstream {
    /// The policy.
    Refused(Refusal),
    /// The network.
    Trouble(String),
}

/// What is to be reached.
#[derive(Debug, Clone)]
pub enum Target {
    /// By name.
    Name(Hostname),
    /// By address.
    Address(IpAddr),
}

/// Resolves and connects.
pub struct Upstream {
    rules: Rc<Rules>,
    patience: Duration,
    resolver: RefCell<Option<(Fingerprint, Rc<TokioResolver>)>>,
}

/// When the files that a resolver was made from were changed.
type Fingerprint = [Option<SystemTime>; 2];

impl Upstream {
    /// One that waits `patience` for everything that a connection takes.
    pub fn new(rules: Rc<Rules>, patience: Duration) -> Self {
        Self { rules, patience, resolver: RefCell::default() }
    }

    /// Connects to `target`.
    pub async fn connect(&self, target: &Target, port: u16) -> Result<TcpStream, NoUpstream> {
        let late = |_| NoUpstream::Trouble(format!("no connection within {:?}", self.patience));
        timeout(self.patience, self.try_all(target, port)).await.map_err(late)?
    }

    async fn try_all(&self, target: &Target, port: u16) -> Result<TcpStream, NoUpstream> {
        match target {
            Target::Address(address) => self.try_each(&self.guarded(vec![*address], None, port)?, port).await,
            Target::Name(name) => match self.rules.resolve(name) {
                // The site's own word counts as a rule that names the address.
                Some(addresses) => self.try_each(addresses, port).await,
                None => self.try_name(name, port).await,
            },
        }
    }

    /// IPv4 first: where both work either does, and hosts with broken IPv6 are common.
    async fn try_name(&self, name: &Hostname, port: u16) -> Result<TcpStream, NoUpstream> {
        let mut first = None;
        for kind in [RecordType::A, RecordType::AAAA] {
            let result = match self.resolve(name, kind).await {
                Ok(found) => match self.guarded(found, Some(name), port) {
                    Ok(open) => self.try_each(&open, port).await,
                    Err(refused) => Err(refused),
                },
                Err(trouble) => Err(trouble),
            };
            match result {
                Ok(stream) => return Ok(stream),
                // A refusal says more than that a way does not exist; else what kept the usual way closed does.
                Err(NoUpstream::Refused(_)) if matches!(first, Some(NoUpstream::Refused(_))) => {}
                Err(refused @ NoUpstream::Refused(_)) => first = Some(refused),
                Err(trouble) => first = first.or(Some(trouble)),
            }
        }
        Err(first.unwrap_or_else(|| NoUpstream::Trouble(format!("{name} has no address"))))
    }

    async fn try_each(&self, addresses: &[IpAddr], port: u16) -> Result<TcpStream, NoUpstream> {
        // A dead address must leave time for the next.
        let share = self.patience / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let mut last = NoUpstream::Trouble("no address to connect to".into());
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            let error = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    tend(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            last = NoUpstream::Trouble(format!("cannot connect to {address}: {error}"));
        }
        Err(last)
    }

    /// Those of `found` that may be connected to.
    fn guarded(
        &self,
        found: Vec<IpAddr>,
        name: Option<&Hostname>,
        port: u16,
    ) -> Result<Vec<IpAddr>, NoUpstream> {
        let mut open = Vec::new();
        let mut refusal = None;
        for address in found {
            match guard::check(address, self.rules.ranges(port)) {
                Ok(()) => open.push(address),
                Err(guarded) => {
                    let leads = name.map(|name| format!("{name} leads to ")).unwrap_or_default();
                    let detail = format!("{leads}{address}, {} ({})", guarded.what, guarded.range);
                    refusal = Some(Refusal::of_guarded(detail, guard::unmask(address), port));
                }
            }
        }
        match (open.is_empty(), refusal) {
            (true, Some(refusal)) => Err(NoUpstream::Refused(refusal)),
            _ => Ok(open),
        }
    }

    async fn resolve(&self, name: &Hostname, kind: RecordType) -> Result<Vec<IpAddr>, NoUpstream> {
        let trouble =
            |error: &dyn std::fmt::Display| NoUpstream::Trouble(format!("cannot resolve {name}: {error}"));
        let resolver = self.resolver().map_err(|error| trouble(&error))?;
        // The dot at the end keeps the host's search domains out.
        let found = resolver.lookup(format!("{name}."), kind).await.map_err(|error| trouble(&error))?;
        let addresses = found.answers().iter().filter_map(|record| record.data.ip_addr());
        Ok(addresses.take(MOST_ADDRESSES).collect())
    }

    /// A resolver by the host's files as they are now.
    fn resolver(&self) -> io::Result<Rc<TokioResolver>> {
        let changed = |path: &str| Path::new(path).metadata().and_then(|of| of.modified()).ok();
        let now = [changed(RESOLV_CONF), changed(HOSTS)];
        let mut held = self.resolver.borrow_mut();
        if let Some((fingerprint, resolver)) = &*held
            && *fingerprint == now
        {
            return Ok(Rc::clone(resolver));
        }
        let resolver = build(held.is_none()).map(Rc::new);
        match (resolver, &*held) {
            (Ok(resolver), _) => {
                *held = Some((now, Rc::clone(&resolver)));
                Ok(resolver)
            }
            // A file that was replaced by another one is out of this process's sight; what it said before still holds.
            (Err(_), Some((_, resolver))) => Ok(Rc::clone(resolver)),
            (Err(error), None) => Err(error),
        }
    }
}

/// A resolver by the host's files, or by what resolv.conf(5) says holds where it names no server.
fn build(may_guess: bool) -> io::Result<TokioResolver> {
    let mut builder = match TokioResolver::builder_tokio() {
        Ok(builder) => builder,
        Err(_) if may_guess => {
            let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![local]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        Err(error) => return Err(io::Error::other(error)),
    };
    builder.options_mut().use_hosts_file = ResolveHosts::Always;
    builder.build().map_err(io::Error::other)
}

/// Lets the kernel notice what the other side no longer does. What a listener accepts is tended as the listener is.
pub fn tend(socket: impl AsFd) {
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    let _ = sockopt::set_socket_keepalive(&socket, true);
    let _ = sockopt::set_tcp_keepidle(&socket, KEEP_ALIVE);
    let _ = sockopt::set_tcp_keepintvl(&socket, KEEP_ALIVE / 4);
    let _ = sockopt::set_tcp_user_timeout(&socket, UNACKNOWLEDGED.as_millis() as u32);
}

/// What waits at most in each direction of a connection over `lo`. It keeps a fast stream fast, since nothing is under way
/// there. Outside, where much is, buffers grow as the kernel sees fit, and only while somebody reads what arrives.
const WAITING: usize = 512 * 1024;

/// Bounds what the kernel keeps of connections that this listener accepts: they are as it is (socket(7)). Left alone, one
/// whose reader has stopped would hold ten megabytes.
pub fn keep_short(listener: impl AsFd) {
    let _ = sockopt::set_socket_send_buffer_size(&listener, WAITING);
    let _ = sockopt::set_socket_recv_buffer_size(&listener, WAITING);
}
