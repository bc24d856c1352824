//! Doors: one per registered agent, opened and closed with its registration.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::Turns;
use super::agent::Agent;
use super::named::{Named, Registration};
use super::service::Served;
use crate::daemon::registry::running::Running;
use crate::daemon::registry::settings::{DoorPlace, Kind, Settings};

/// Connections to one agent, and requests on one of them.
const CONNECTIONS: usize = 16;
const STREAMS: u32 = 16;
/// Of a path of a unix socket, in bytes.
const LONGEST_PATH: usize = 107;
/// A peer that does not answer a ping for so long is gone.
const PING: Duration = Duration::from_secs(20);

/// The doors of this node.
pub struct Doors {
    place: Option<DoorPlace>,
    open: BTreeMap<String, Door>,
    running: watch::Receiver<Option<Running>>,
    turns: Arc<dyn Turns>,
    usual_confidence: f64,
    node: String,
    named: Named,
    /// The problem that was told last: one line in the log per problem, not per agent.
    told: Option<String>,
}

struct Door {
    endpoint: String,
    behind: Behind,
}

/// What listens.
enum Behind {
    /// A task on a socket of its own; on the filesystem that has a path.
    Socket(Option<PathBuf>, JoinHandle<()>),
    /// The service itself.
    Service { _name: Registration },
}

impl Door {
    fn is_shut(&self) -> bool {
        matches!(&self.behind, Behind::Socket(_, task) if task.is_finished())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let Behind::Socket(path, task) = &self.behind else { return };
        task.abort();
        if let Some(path) = path {
            // Whoever made it can remove it; if it is gone already, so much the better.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Doors {
    /// None is open yet. The embedded registry needs none: nobody else looks there.
    pub fn new(
        settings: &Settings,
        running: watch::Receiver<Option<Running>>,
        turns: Arc<dyn Turns>,
    ) -> Self {
        let place = match settings.kind {
            Kind::Embedded => None,
            Kind::Etcd(_) => Some(settings.doors.clone()),
        };
        let (usual_confidence, node) = (settings.confidence, settings.node.clone());
        let (open, named) = Default::default();
        Self { place, open, running, turns, usual_confidence, node, named, told: None }
    }

    /// Those that answer by name.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// Closes every other.
    pub fn only(&mut self, ids: &BTreeSet<String>) {
        self.open.retain(|id, _| ids.contains(id));
    }

    /// The endpoint of this agent, which is opened if it is not.
    ///
    /// # Errors
    /// Why that does not go.
    pub fn open(&mut self, id: &str) -> Result<String, String> {
        let Some(place) = &self.place else { return Ok(format!("stockade://{}/{id}", self.node)) };
        if let Some(door) = self.open.get(id).filter(|door| !door.is_shut()) {
            return Ok(door.endpoint.clone());
        }
        self.open.remove(id);
        let agent =
            Agent::new(id.to_owned(), self.running.clone(), self.turns.clone(), self.usual_confidence);
        let opened = match place {
            DoorPlace::Unix(directory) => unix(directory, id, agent),
            DoorPlace::Loopback(address, first, last) => {
                let taken: BTreeSet<&str> = self.open.values().map(|door| door.endpoint.as_str()).collect();
                loopback(*address, *first..=*last, &taken, agent)
            }
            DoorPlace::Named { domain, port } => self.named.register(domain, agent).map_or_else(
                || {
                    Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        format!("another agent has its name in {domain}"),
                    ))
                },
                |name| {
                    let endpoint = format!("{}:{port}", name.host());
                    Ok(Door { endpoint, behind: Behind::Service { _name: name } })
                },
            ),
        };
        match opened {
            Ok(door) => {
                let endpoint = door.endpoint.clone();
                self.open.insert(id.to_owned(), door);
                Ok(endpoint)
            }
            Err(error) => {
                let problem = error.to_string();
                if self.told.as_ref() != Some(&problem) {
                    tracing::error!(agent = id, %error, "an agent has no door and is not registered");
                    self.told = Some(problem.clone());
                }
                Err(problem)
            }
        }
    }
}

/// Only the daemon's user and group can open it. A path that would be too long is made shorter by a digest of the id.
fn unix(directory: &Path, id: &str, agent: Agent) -> io::Result<Door> {
    let mut path = directory.join(format!("{id}.sock"));
    if path.as_os_str().len() > LONGEST_PATH {
        let digest = Sha256::digest(id.as_bytes());
        let short: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        path = directory.join(short);
    }
    if path.as_os_str().len() > LONGEST_PATH {
        let message = format!(
            "{} is too long for a socket: use `doors = \"127.0.0.1:FIRST-LAST\"` in [registry]",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if !directory.is_dir() {
        std::fs::create_dir(directory).map_err(failed)?;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o750)).map_err(failed)?;
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        // Of a daemon before this one: its name is this agent's.
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let endpoint = format!("unix:{}", path.display());
    let accept = async move || listener.accept().await.map(|(stream, _)| stream);
    let task = tokio::spawn(serve(accept, agent));
    Ok(Door { endpoint, behind: Behind::Socket(Some(path), task) })
}

fn loopback(
    address: Ipv4Addr,
    ports: std::ops::RangeInclusive<u16>,
    taken: &BTreeSet<&str>,
    agent: Agent,
) -> io::Result<Door> {
    debug_assert!(address.is_loopback(), "the configuration takes no other");
    let (first, last) = (*ports.start(), *ports.end());
    for port in ports {
        let endpoint = format!("{address}:{port}");
        if taken.contains(endpoint.as_str()) {
            continue;
        }
        // Somebody else's port is passed by, as are ours.
        let Ok(listener) = TcpListener::bind(SocketAddr::from((address, port))) else { continue };
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let accept = async move || listener.accept().await.map(|(stream, _)| stream);
        let task = tokio::spawn(serve(accept, agent));
        return Ok(Door { endpoint, behind: Behind::Socket(None, task) });
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no port of {address}:{first}-{last} is free: widen `doors` in [registry]"),
    ))
}

/// Until the door is closed; connections go with it.
async fn serve<S>(accept: impl AsyncFn() -> io::Result<S>, agent: Agent)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = Served(Arc::new(agent));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Whoever is too many waits in the kernel's queue.
        let place = room.clone().acquire_owned().await.expect("never closed");
        let stream = match accept().await {
            Ok(stream) => stream,
            Err(_) => {
                // Out of descriptors, or the peer is gone already.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let service = TowerToHyperService::new(served.clone());
        connections.spawn(async move {
            let _place = place;
            let mut http = http2::Builder::new(TokioExecutor::new());
            http.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
            http.keep_alive_interval(PING).keep_alive_timeout(PING);
            // How a connection ends is its peer's business.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
