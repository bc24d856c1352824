//! One TCP connection of the agent's, from accept to the end.
//!
//! ```text
//!  accepted ──▶ wanted address ──▶ name or range ──▶ rule? ──▶ hello? ──▶ resolved, guarded ──▶ carried ──▶ accounted
//!                     └───────────────┴───────────────┴─────────┴───────────────┴──▶ reset, accounted
//! ```

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::account::Account;
use super::carry::{self, Carriage};
use super::gateway::Gateway;
use super::hello::{self, Progress};
use super::rules::{Refusal, Rules};
use super::upstream::{NoUpstream, Target};
use super::{denials, guard, inject};
use crate::policy::Hostname;
use crate::policy::synthetic::is_synthetic;
use crate::wire::egress::{GATEWAY_ADDRESS, Protocol, Reason};

/// The port on which nothing but TLS is let through.
const HTTPS: u16 = 443;
/// The port on which inject rules and the list of refusals are served.
const HTTP: u16 = 80;

/// Serves one accepted connection.
pub async fn serve(gateway: Rc<Gateway>, stream: TcpStream, permit: OwnedSemaphorePermit) {
    let Ok(wanted) = stream.local_addr() else { return };
    let wanted = SocketAddr::new(guard::unmask(wanted.ip()), wanted.port());
    match Wish::read(&gateway, wanted) {
        // In boxes: what only some connections need, or only for a moment, is no part of what an idle one costs.
        Wish::Denials => Box::pin(denials::serve(&gateway, stream)).await,
        Wish::Injected(rule) => Box::pin(inject::serve(&gateway, stream, rule)).await,
        Wish::OwnLoopback => carry::reset(stream),
        Wish::Elsewhere(target) => {
            let connection = Connection::new(&gateway, target, wanted);
            connection.run(stream).await;
        }
    }
    drop(permit);
}

/// What the agent wants, by the address that it connected to.
enum Wish {
    Denials,
    Injected(usize),
    /// A server of its own that is not there: the gateway's listeners also cover the loopback addresses.
    OwnLoopback,
    Elsewhere(Target),
}

impl Wish {
    fn read(gateway: &Gateway, wanted: SocketAddr) -> Self {
        let IpAddr::V4(v4) = wanted.ip() else { return Self::Elsewhere(Target::Address(wanted.ip())) };
        if v4 == GATEWAY_ADDRESS && wanted.port() == HTTP {
            return Self::Denials;
        }
        if v4.is_loopback() {
            return Self::OwnLoopback;
        }
        let Some(name) = gateway.names.borrow().name(v4).cloned() else {
            return Self::Elsewhere(Target::Address(wanted.ip()));
        };
        match gateway.rules.inject(&name) {
            Some(rule) if wanted.port() == HTTP => Self::Injected(rule),
            _ => Self::Elsewhere(Target::Name(name)),
        }
    }
}

/// A connection that is to be carried.
struct Connection<'a> {
    gateway: &'a Gateway,
    target: Target,
    port: u16,
    account: Account,
}

/// What becomes of that which is no TLS.
#[derive(PartialEq, Eq)]
enum Else {
    Refused,
    Carried,
}

/// Why a connection is not carried (any further).
enum Stop {
    Refused(Refusal),
    Trouble(String),
}

impl From<NoUpstream> for Stop {
    fn from(none: NoUpstream) -> Self {
        match none {
            NoUpstream::Refused(refusal) => Self::Refused(refusal),
            NoUpstream::Trouble(what) => Self::Trouble(what),
        }
    }
}

impl<'a> Connection<'a> {
    fn new(gateway: &'a Gateway, target: Target, wanted: SocketAddr) -> Self {
        let name = match &target {
            Target::Name(name) => Some(name.to_string()),
            Target::Address(_) => None,
        };
        let account = Account::open(&gateway.ledger, Protocol::Tcp, name, wanted.port());
        if let Target::Address(address) = &target {
            account.to(*address);
        }
        Self { gateway, target, port: wanted.port(), account }
    }

    async fn run(&self, stream: TcpStream) {
        carry::until_done(&stream);
        match self.attempt(&stream).await {
            Ok(()) => return carry::is_done(&stream),
            Err(Stop::Refused(refusal)) => self.account.refuse(refusal),
            Err(Stop::Trouble(what)) => self.account.trouble(what),
        }
        carry::reset(stream);
    }

    async fn attempt(&self, stream: &TcpStream) -> Result<(), Stop> {
        let checked = self.judge().map_err(Stop::Refused)?;
        let first = match checked {
            Some(name) if self.port == HTTPS => {
                Box::pin(self.read_hello(stream, name, Else::Refused)).await?
            }
            _ => Vec::new(),
        };
        let outer = Box::pin(self.gateway.upstream.connect(&self.target, self.port)).await?;
        if let Ok(address) = outer.peer_addr() {
            self.account.to(address.ip());
        }
        // TLS on another port is checked while the server may already talk: SSH's does so first.
        let late = checked.filter(|_| self.port != HTTPS);
        carry::until_done(&outer);
        let result = self.carry(stream, &outer, &first, late).await;
        if result.is_ok() {
            carry::is_done(&outer);
        }
        result
    }

    /// Asks the rules. Returns the name that TLS is checked against.
    fn judge(&self) -> Result<Option<&Hostname>, Refusal> {
        let rules = &self.gateway.rules;
        let (rule, name) = match &self.target {
            Target::Name(name) => (rules.for_name(name, self.port)?, Some(name)),
            Target::Address(address) if is_synthetic(*address) => {
                let detail = format!("{address} stands for no name (any more): ask DNS again");
                return Err(Refusal::final_one(Reason::Address, detail));
            }
            Target::Address(address) => (rules.for_address(*address, self.port)?, None),
        };
        self.account.allow(rule.to_string());
        Ok(name.filter(|_| Rules::checks_sni(rule)))
    }

    async fn carry(
        &self,
        inner: &TcpStream,
        outer: &TcpStream,
        first: &[u8],
        checked: Option<&Hostname>,
    ) -> Result<(), Stop> {
        let (account, pipes) = (&self.account, &self.gateway.pipes);
        let carriage = Carriage { inner, outer, account, pipes, last: Cell::new(Instant::now()) };
        let broken = |error: std::io::Error| Stop::Trouble(format!("broken off: {error}"));
        carry::replay(outer, first, account).await.map_err(broken)?;
        let outward = async {
            if let Some(name) = checked {
                let first = self.check_if_tls(inner, name).await?;
                carry::replay(outer, &first, account).await.map_err(broken)?;
            }
            carriage.outward().await.map_err(broken)
        };
        let inward = async { carriage.inward().await.map_err(broken) };
        let both = async { tokio::try_join!(outward, inward) };
        tokio::select! {
            result = both => result.map(drop),
            () = carriage.idle(self.gateway.idle_patience()) => {
                Err(Stop::Trouble("nothing was said for too long".into()))
            }
        }
    }

    /// Waits for the first byte; what begins as TLS does must be a hello. Returns what was read for that.
    async fn check_if_tls(&self, stream: &TcpStream, name: &Hostname) -> Result<Vec<u8>, Stop> {
        let mut first = [0];
        let broken = |error: std::io::Error| Stop::Trouble(format!("broken off: {error}"));
        match stream.peek(&mut first).await.map_err(broken)? {
            0 => Ok(Vec::new()),
            _ if hello::read(&first) == Progress::NotTls => Ok(Vec::new()),
            _ => Box::pin(self.read_hello(stream, name, Else::Carried)).await,
        }
    }

    /// Takes the hello from the stream, and returns it if it names `name`.
    async fn read_hello(
        &self,
        stream: &TcpStream,
        name: &Hostname,
        otherwise: Else,
    ) -> Result<Vec<u8>, Stop> {
        let patience = self.gateway.hello_patience();
        let mut bytes = Vec::new();
        let read = timeout(patience, self.until_hello(stream, &mut bytes)).await;
        let refuse = |reason, detail| Err(Stop::Refused(Refusal::of_hello(reason, detail, name, self.port)));
        match read {
            Err(_) => {
                refuse(Reason::NotTls, format!("{name} was sent no whole TLS hello within {patience:?}"))
            }
            Ok(Err(error)) => Err(Stop::Trouble(format!("ended before a TLS hello: {error}"))),
            Ok(Ok(Progress::Hello(hello))) => match hello.check(name) {
                Ok(()) => Ok(bytes),
                Err(detail) => refuse(Reason::Sni, detail),
            },
            Ok(Ok(Progress::Broken(what))) => {
                refuse(Reason::NotTls, format!("TLS to {name} begins with {what}"))
            }
            Ok(Ok(Progress::NotTls)) if otherwise == Else::Carried => Ok(bytes),
            Ok(Ok(Progress::NotTls | Progress::More)) => {
                refuse(Reason::NotTls, format!("what was sent to {name} on port {} is not TLS", self.port))
            }
        }
    }

    async fn until_hello(&self, stream: &TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<Progress> {
        // Records around a hello of the longest kind, and then some.
        const MOST: usize = 2 * hello::LONGEST;
        let mut buffer = [0; 4096];
        while bytes.len() < MOST {
            stream.readable().await?;
            match stream.try_read(&mut buffer) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            match hello::read(bytes) {
                Progress::More => {}
                progress => return Ok(progress),
            }
        }
        Ok(Progress::Broken("more than a hello has"))
    }
}
