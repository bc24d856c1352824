//! What all connections of one sandbox share, and how they are accepted.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::account::Account;
use super::carry::{self, Pipes};
use super::inject::Injector;
use super::ledger::Ledger;
use super::names::Names;
use super::rules::{Refusal, Rules};
use super::upstream::Upstream;
use crate::wire::egress::{Patience, Protocol, Reason};

/// Breath taken when the process is out of descriptors: accepting would fail again at once.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Shared by everything that serves one sandbox. One thread, hence no locks.
pub struct Gateway {
    /// What is let through.
    pub rules: Rc<Rules>,
    /// What synthetic addresses stand for.
    pub names: RefCell<Names>,
    /// What happened.
    pub ledger: Rc<Ledger>,
    /// The way out.
    pub upstream: Upstream,
    /// Pipes for splice(2).
    pub pipes: Pipes,
    /// The names that the gateway serves itself.
    pub injector: Injector,
    /// Where its listeners inside are bound: to every address, or to one.
    pub listening: BTreeSet<SocketAddr>,
    /// The ports on which a listener takes only what rules are about, and drops the rest.
    pub within: BTreeSet<u16>,
    /// How long it waits.
    pub patience: Patience,
    /// Most connections at one time.
    pub limit: u32,
    /// What is left of them.
    pub permits: std::sync::Arc<Semaphore>,
    /// Most that read the list of refusals at one time; the others wait their turn.
    pub readers: Semaphore,
    /// Everything that runs.
    pub tasks: RefCell<JoinSet<()>>,
    /// What cannot go on.
    pub failure: Rc<Failure>,
}

/// The first thing that could not go on.
#[derive(Debug, Default)]
pub struct Failure {
    what: RefCell<Option<String>>,
    wake: Notify,
}

/// Announces the end of a task when it is dropped, so that a panic is noticed too.
struct Ending {
    what: &'static str,
    error: Option<io::Error>,
    failure: Rc<Failure>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let why = self.error.as_ref().map_or_else(|| "it ended".into(), io::Error::to_string);
        self.failure.what.borrow_mut().get_or_insert(format!("{}: {why}", self.what));
        self.failure.wake.notify_one();
    }
}

impl Failure {
    /// Waits until there is one.
    pub async fn happened(&self) -> io::Error {
        self.wake.notified().await;
        io::Error::other(self.what.take().unwrap_or_default())
    }
}

impl Gateway {
    /// How long a client may take to say what it wants.
    pub fn hello_patience(&self) -> Duration {
        Duration::from_millis(self.patience.hello)
    }

    /// How long a connection may say nothing.
    pub fn idle_patience(&self) -> Duration {
        Duration::from_millis(self.patience.idle)
    }

    /// Whether a connection to this address, which was seen on its way, reaches one of its listeners. What a listener within
    /// ranges takes is not seen.
    pub fn listens(&self, address: IpAddr, port: u16) -> bool {
        let every = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let everywhere = address.is_ipv4() && !self.within.contains(&port) && self.listening.contains(&every);
        everywhere || self.listening.contains(&SocketAddr::new(address, port))
    }

    /// Runs `task` beside the others; it ends when the gateway finishes, if not before.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.spawn_local(task);
        // What has ended would otherwise be kept until the end.
        while tasks.try_join_next().is_some() {}
    }

    /// Runs what has to run for as long as the gateway does. Should it end, by an error or a panic, the gateway ends as
    /// well: the next one has the same sockets, and a fresh start.
    pub fn keep_running(&self, what: &'static str, task: impl Future<Output = io::Result<()>> + 'static) {
        let ending = Ending { what, error: None, failure: Rc::clone(&self.failure) };
        self.spawn(async move {
            let mut ending = ending;
            ending.error = task.await.err();
        });
    }

    /// Accepts for as long as the gateway lives; `serve` holds the permit for as long as it is busy.
    pub async fn accept<F>(
        self: Rc<Self>,
        listener: TcpListener,
        protocol: Protocol,
        port: u16,
        serve: impl Fn(Rc<Self>, TcpStream, OwnedSemaphorePermit) -> F,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + 'static,
    {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match std::sync::Arc::clone(&self.permits).try_acquire_owned() {
                    Ok(permit) => self.spawn(serve(Rc::clone(&self), stream, permit)),
                    Err(_) => self.turn_away(stream, protocol, port),
                },
                Err(error) if is_of_the_connection(&error) => {}
                Err(_) => tokio::time::sleep(OUT_OF_DESCRIPTORS).await,
            }
        }
    }

    fn turn_away(&self, stream: TcpStream, protocol: Protocol, port: u16) {
        let account = Account::open(&self.ledger, protocol, None, port);
        let detail = format!("{} connections are open, which is the most at one time", self.limit);
        account.refuse(Refusal::final_one(Reason::TooMany, detail));
        carry::reset(stream);
    }
}

/// Whether accepting failed because of what was to be accepted (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
