//! The gateway of one sandbox: the only way from inside to the network. Unprivileged, confined, disposable.
//!
//! ```text
//!   inside (a namespace with nothing but `lo`)      │ the gateway, in the host's namespace
//!                                                   │
//!   DNS question ─────────────────────▶ socket ─────┼─▶ dns ──▶ a synthetic address, or NXDOMAIN
//!   connect to a synthetic address ───▶ listener ───┼─▶ connection ──▶ rules ──▶ hello ──▶ upstream ──▶ carry ──▶ host
//!   http://raven.internal ────────────▶ listener ───┼─▶ inject ──▶ TLS with a header of its own ───────────────▶ host
//!   http://stockade.internal/denials ─▶ listener ───┼─▶ denials
//!   anything else ── refused by the kernel, seen by ┼─▶ monitor
//!                                                   │     └─▶ ledger ──▶ control ──▶ shim
//! ```
//! The sockets were made inside and handed over by the shim, which keeps them: if this process dies, the next one goes on
//! with the same. One thread; what it shares is in `Rc`s.

pub mod account;
pub mod carry;
pub mod confine;
pub mod connection;
pub mod control;
pub mod denials;
pub mod dns;
pub mod dns_server;
#[cfg(test)]
mod dns_tests;
pub mod filter;
pub mod gateway;
pub mod guard;
pub mod hello;
#[cfg(test)]
mod hello_tests;
pub mod inherited;
pub mod inject;
pub mod ledger;
pub mod monitor;
pub mod names;
pub mod published;
mod reset;
pub mod rules;
pub mod upstream;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use crate::wire::egress::{Config, FromEgress, Protocol, Socket};
use crate::wire::tally::Tally;
use confine::{ConfineError, Needs};
use control::Control;
use gateway::Gateway;
use inherited::Taken;
use inject::{InjectError, Injector};
use ledger::Ledger;
use names::Names;
use published::Dialer;
use rules::{Rules, RulesError};
use upstream::Upstream;

/// Nameservers are talked to by TCP where an answer is too long for UDP.
const DNS: u16 = 53;

/// Why the gateway ended.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// What it was started with.
    #[error("cannot take over what it was started with: {0}")]
    Inherited(io::Error),
    /// The rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The inject rules.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// Its own walls.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// While it ran.
    #[error("cannot go on: {0}")]
    Run(#[from] io::Error),
}

/// The process.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let said = FromEgress::Failed { what: error.to_string() }.encode().map_err(io::Error::other);
            let said = said.and_then(|bytes| control::transmit(inherited::control(), &bytes));
            // A shim that has gone wants to hear nothing; a person who starts this by hand does.
            if said.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe) {
                let _ = writeln!(
                    io::stderr(),
                    "stockade-egress is started by stockade run, with its sockets: {error}"
                );
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), EgressError> {
    // A program that is executed by a descriptor is named after that until Linux 6.14.
    rustix::thread::set_name(c"stockade-egress").map_err(|errno| EgressError::Inherited(errno.into()))?;
    let config = inherited::config().map_err(EgressError::Inherited)?;
    let sockets = inherited::sockets(&config).map_err(EgressError::Inherited)?;
    let gateway = prepare(&config, &sockets)?;
    let mut ports: BTreeSet<u16> = gateway.rules.ports().collect();
    ports.extend(gateway.injector.ports().chain([DNS]));
    confine::confine(&Needs {
        descriptors: inherited::end(&config),
        ports,
        tolerate_no_landlock: config.tolerate_no_landlock,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        open(&gateway, sockets)?;
        Control::new(inherited::control().try_clone_to_owned()?)?.converse(&gateway).await
    })?;
    Ok(())
}

/// Everything that needs files is read here.
fn prepare(config: &Config, sockets: &[Taken]) -> Result<Rc<Gateway>, EgressError> {
    let rules = Rc::new(Rules::parse(config)?);
    let mut names = Names::new(&config.sandbox, rules.exact_names());
    for (address, name) in &config.named {
        if let Some(name) = name.parse().ok().filter(|name| rules.knows_name(name)) {
            names.restore(name, *address);
        }
    }
    let listening = sockets.iter().filter_map(|socket| match socket {
        Taken::Listener(_, listener) | Taken::DnsTcp(listener) => listener.local_addr().ok(),
        _ => None,
    });
    let within = config.sockets.iter().filter_map(|socket| match socket {
        Socket::Listener { port, within: true } => Some(*port),
        _ => None,
    });
    let limit = config.connections.min(confine::room_for_connections());
    Ok(Rc::new(Gateway {
        upstream: Upstream::new(Rc::clone(&rules), Duration::from_millis(config.patience.connect)),
        rules,
        names: RefCell::new(names),
        ledger: Rc::new(Ledger::new(tally(sockets)?)),
        pipes: carry::Pipes::default(),
        injector: Injector::new(config)?,
        listening: listening.collect(),
        within: within.collect(),
        patience: config.patience,
        limit,
        permits: Arc::new(Semaphore::new(limit as usize)),
        readers: Semaphore::new(denials::MOST_READERS),
        tasks: RefCell::new(JoinSet::new()),
        failure: Rc::default(),
    }))
}

/// Where the bytes are counted, if somebody wants to know.
fn tally(sockets: &[Taken]) -> Result<Option<Tally>, EgressError> {
    let file =
        sockets.iter().find_map(|socket| if let Taken::Tally(file) = socket { Some(file) } else { None });
    let tally = file.map(|file| Tally::resume(file.try_clone()?)).transpose();
    tally.map_err(EgressError::Inherited)
}

/// Starts to accept on every socket.
fn open(gateway: &Rc<Gateway>, sockets: Vec<Taken>) -> io::Result<()> {
    let (mut published, mut dialer) = (Vec::new(), None);
    for socket in sockets {
        let ours = Rc::clone(gateway);
        match socket {
            Taken::Listener(port, listener) => {
                let accept = ours.accept(adopt(listener)?, Protocol::Tcp, port, connection::serve);
                gateway.keep_running("a listener", accept);
            }
            Taken::DnsTcp(listener) => {
                let accept = ours.accept(adopt(listener)?, Protocol::Dns, DNS, dns_server::serve_tcp);
                gateway.keep_running("DNS over TCP", accept);
            }
            Taken::DnsUdp(socket) => gateway.keep_running("DNS", dns_server::serve_udp(ours, socket)),
            Taken::Monitor(socket) => gateway.keep_running("the monitor", monitor::watch(ours, socket)),
            Taken::Published(inside, listener) => published.push((inside, adopt(listener)?)),
            Taken::Dialer(socket) => dialer = Some(Rc::new(Dialer::new(socket)?)),
            Taken::Tally(_) => {}
        }
    }
    for (inside, listener) in published {
        let dialer = dialer.clone().ok_or_else(|| io::Error::other("a published port, and no dialer"))?;
        let serve = move |gateway, stream, permit| {
            published::serve(gateway, Rc::clone(&dialer), inside, stream, permit)
        };
        let accept = Rc::clone(gateway).accept(listener, Protocol::Published, inside, serve);
        gateway.keep_running("a published port", accept);
    }
    Ok(())
}

fn adopt(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    upstream::tend(&listener);
    upstream::keep_short(&listener);
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
