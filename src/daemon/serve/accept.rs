//! The loop that accepts, and the handshakes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{self, Version};
use super::open::{self, Connection, Full, Open};
use super::quiet::{Quiet, Say};
use super::rate::Rates;
use super::request::Desk;
use crate::daemon::config::Limits;
use crate::daemon::operations::{Handshake, Metrics};
use crate::daemon::tls::{Identity, Live, Material, naming};

/// After accept(2) failed for want of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Everything between a TCP connection and a handler.
pub struct Server {
    live: Arc<Live>,
    limits: Arc<Limits>,
    desk: Arc<Desk>,
    open: Arc<Open>,
    metrics: Arc<Metrics>,
    handshakes: Arc<Handshakes>,
    quiet: Arc<Quiet>,
}

impl Server {
    /// Serves `router` to whoever `live` lets in.
    pub fn new(live: Arc<Live>, router: Router, metrics: Arc<Metrics>) -> Self {
        let mut limits = live.config().limits.clone();
        limits.connections = limits.connections.min(room());
        let limits = Arc::new(limits);
        let desk = Desk {
            router,
            rates: Rates::new(limits.requests_per_second, limits.burst),
            most_body: limits.body.get(),
            metrics: Arc::clone(&metrics),
        };
        let most = limits.connections.div_ceil(2);
        let handshakes = Arc::new(Handshakes::new(most, limits.handshakes_per_address));
        let open = metrics.connections();
        Self { live, limits, desk: Arc::new(desk), open, metrics, handshakes, quiet: Arc::default() }
    }

    /// Accepts until `stop`, then lets what is open end, for as long as the limits say.
    pub async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = stop.as_mut() => break,
                accepted = listener.accept() => match accepted {
                    Ok((socket, address)) => self.admit(&mut tasks, socket, address),
                    Err(error) => self.pause(&error).await,
                },
                () = self.live.changed() => self.recheck(),
                // Reaped as they end.
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
        drop(listener);
        self.open.drain();
        let over = tokio::time::timeout(self.limits.drain_timeout, self.open.emptied()).await;
        if over.is_err() {
            tracing::warn!(
                connections = self.open.count(),
                "not every connection has ended in time: they are cut off"
            );
        }
        tasks.shutdown().await;
    }

    /// Verifies as many chains as there are connections: not on a thread that serves them.
    fn recheck(&self) {
        let (open, live) = (Arc::clone(&self.open), Arc::clone(&self.live));
        tokio::task::spawn_blocking(move || open.recheck(&live.material(), live.authz()));
    }

    fn admit(&self, tasks: &mut JoinSet<()>, socket: TcpStream, address: SocketAddr) {
        let Some(slot) = self.handshakes.begin(address.ip()) else {
            self.metrics.handshake(Handshake::Crowded);
            return;
        };
        // As long as nobody is there, the kernel asks; whoever is gone without a word is noticed within minutes.
        keep_alive(&socket);
        let (live, limits) = (Arc::clone(&self.live), Arc::clone(&self.limits));
        let (desk, open, metrics) =
            (Arc::clone(&self.desk), Arc::clone(&self.open), Arc::clone(&self.metrics));
        let quiet = Arc::clone(&self.quiet);
        tasks.spawn(async move {
            let material = live.material();
            let (shaken, named) = naming(shake(socket, &material, limits.handshake_timeout)).await;
            drop(slot);
            let refused = |failure, named| refused(&metrics, &live, &quiet, failure, (address, named));
            let stream = match shaken {
                Ok(stream) => stream,
                Err(failure) => return refused(failure, named.as_ref()),
            };
            let most = (limits.connections, limits.connections_per_identity);
            match enter(&stream, address, &open, &live, most) {
                Ok((connection, version)) => {
                    metrics.handshake(Handshake::Done);
                    // Another one may have come into force meanwhile, before this connection could be found.
                    connection.recheck(&live.material(), live.authz());
                    connection::serve(stream, version, connection, desk, limits).await;
                }
                Err(failure) => refused(failure, None),
            }
        });
    }

    async fn pause(&self, error: &io::Error) {
        tracing::warn!(%error, "cannot accept a connection");
        tokio::time::sleep(PAUSE).await;
    }
}

/// How many connections there are descriptors for, when the agents have as many.
fn room() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX).max(1))
}

/// Why there is no connection.
enum Failure {
    Timeout,
    Tls(io::Error),
    Nobody,
    Full(Full),
}

async fn shake(
    socket: TcpStream,
    material: &Material,
    timeout: Duration,
) -> Result<TlsStream<TcpStream>, Failure> {
    let acceptor = TlsAcceptor::from(Arc::clone(&material.server));
    match tokio::time::timeout(timeout, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Failure::Tls(error)),
        Err(_) => Err(Failure::Timeout),
    }
}

fn enter(
    stream: &TlsStream<TcpStream>,
    address: SocketAddr,
    open: &Arc<Open>,
    live: &Live,
    most: (usize, usize),
) -> Result<(Arc<Connection>, Version), Failure> {
    let session = stream.get_ref().1;
    let chain: Vec<CertificateDer<'static>> =
        session.peer_certificates().unwrap_or_default().iter().map(|one| one.clone().into_owned()).collect();
    let identity = chain.first().and_then(|own| Identity::of(own).ok()).ok_or(Failure::Nobody)?;
    let version = if session.alpn_protocol() == Some(b"h2") { Version::Http2 } else { Version::Http1 };
    let connection =
        open.enter((open::peer(identity, address), chain), live.authz(), most).map_err(Failure::Full)?;
    Ok((connection, version))
}

fn refused(
    metrics: &Metrics,
    live: &Live,
    quiet: &Arc<Quiet>,
    failure: Failure,
    (address, named): (SocketAddr, Option<&Identity>),
) {
    let (kind, why) = match failure {
        Failure::Timeout => (Handshake::Timeout, "it took too long".into()),
        Failure::Nobody => (Handshake::Certificate, "its certificate names nobody".into()),
        Failure::Full(full) => (Handshake::Crowded, format!("too many connections: {full:?}")),
        Failure::Tls(error) => (Handshake::of(&error), error.to_string()),
    };
    metrics.handshake(kind);
    live.authz().record().connection_refused(
        address,
        kind.name(),
        named.map(|of| (of.name.as_str(), of.serial.as_str())),
    );
    match quiet.one_more(Instant::now()) {
        Say::It => tracing::info!(%address, why, "connection refused"),
        Say::Later(after) => drop(tokio::spawn(sum_up(Arc::clone(quiet), after))),
        Say::Nothing => {}
    }
}

/// Each of them is counted in the metrics, and by address in the audit log.
async fn sum_up(quiet: Arc<Quiet>, after: Duration) {
    tokio::time::sleep(after).await;
    let count = quiet.left_out();
    tracing::warn!(count, "further connections were refused, and are not listed");
}

fn keep_alive(socket: &TcpStream) {
    use rustix::net::sockopt;
    let set = || -> rustix::io::Result<()> {
        sockopt::set_tcp_nodelay(socket, true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, Duration::from_secs(60))?;
        sockopt::set_tcp_keepintvl(socket, Duration::from_secs(20))?;
        sockopt::set_tcp_keepcnt(socket, 3)
    };
    if let Err(error) = set() {
        tracing::debug!(%error, "cannot set a socket's options");
    }
}

/// Connections that have not said yet who they are: few in all, and fewer of one address.
struct Handshakes {
    most: usize,
    most_per_address: usize,
    under_way: Mutex<HashMap<IpAddr, usize>>,
}

struct Slot {
    of: Arc<Handshakes>,
    address: IpAddr,
}

impl Handshakes {
    fn new(most: usize, most_per_address: usize) -> Self {
        Self { most, most_per_address, under_way: Mutex::default() }
    }

    fn begin(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let address = network(address);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.values().sum::<usize>() >= self.most {
            return None;
        }
        let own = under_way.entry(address).or_default();
        if *own >= self.most_per_address {
            return None;
        }
        *own += 1;
        Some(Slot { of: Arc::clone(self), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut under_way = self.of.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = under_way.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                under_way.remove(&self.address);
            }
        }
    }
}

/// One site has a /64 of IPv6 at least.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}
