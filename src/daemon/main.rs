//! The process: started, told to systemd, told to end.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::arguments::{Arguments, Asked, Format, Usage};
use super::audit::{Audit, elsewhere, policies};
use super::authz::Routes;
use super::confine::{self, ConfineError};
use super::operations::{self, Metrics};
use super::parallax::Parallax;
use super::serve::request::Desk;
use super::serve::{Server, health, listener};
use super::supervisor::{Supervisor, SupervisorError};
use super::tls::Live;
use super::tls::live::LoadError;
use super::{Daemon, api, parallax, registry};
use crate::audit::event::Event;
use crate::audit::text::Word;
use crate::policy::Library;
use crate::wire::service::Places;

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The command line.
    #[error(transparent)]
    Usage(#[from] Usage),
    /// It was started with rights.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The configuration, or what it names.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The agents.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// A socket.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Anything else of the system.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs the daemon until it is told to end (SIGTERM, SIGINT).
pub fn main() -> ExitCode {
    let asked = Arguments::parse(std::env::args_os().skip(1), std::env::var_os("STOCKADE_LOG_FORMAT"));
    let outcome = match asked {
        Ok(Asked::Say(text)) => writeln!(io::stdout(), "{text}").map_err(DaemonError::System),
        Ok(Asked::Serve(arguments)) => run(arguments),
        Ok(Asked::Check(arguments)) => check(arguments),
        Err(usage) => Err(usage.into()),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        // Some texts hold their cause already.
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    let _ = writeln!(io::stderr(), "stockaded: {text}");
    ExitCode::from(match error {
        DaemonError::Usage(_) => 2,
        DaemonError::Load(_) => NEEDS_SOMEBODY,
        _ => 1,
    })
}

/// `EX_CONFIG` of sysexits.h: it would be the same the next time, until somebody mends it. The unit does not try again.
const NEEDS_SOMEBODY: u8 = 78;

/// Reads what it would serve by. Whoever asks may have rights: nothing is listened to.
fn check(arguments: Arguments) -> Result<(), DaemonError> {
    let live = Live::load(Places::under(&arguments.root), arguments.config)?;
    let config = live.config();
    let grants = live.material().grants.iter().count();
    writeln!(io::stdout(), "ok: would listen on {}, with {grants} grants", config.listen)?;
    Ok(())
}

fn run(arguments: Arguments) -> Result<(), DaemonError> {
    confine::confine()?;
    log(arguments.format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(arguments));
    // Whoever still holds a connection was told, and had its time.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// To standard error, or to the journal: standard output belongs to nobody.
fn log(format: Format) -> io::Result<()> {
    let filter = EnvFilter::try_from_env("STOCKADE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        Format::Json => builder.json().init(),
        Format::Text => {
            let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(ansi).init();
        }
        Format::Journal => {
            let filter = EnvFilter::try_from_env("STOCKADE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
            let journal = tracing_journald::layer()?.with_field_prefix(None);
            tracing_subscriber::registry().with(filter).with(journal).init();
        }
    }
    Ok(())
}

async fn serve(arguments: Arguments) -> Result<(), DaemonError> {
    let places = Places::under(&arguments.root);
    // Caught before anything is started that a signal would have to end.
    let mut signals = Signals::catch()?;
    let audit = Audit::start(&places)?;
    let live = Live::recording(places.clone(), arguments.config, Box::new(audit.clone()))?;
    let daemon = start(places.clone(), &live, audit.clone()).await?;
    let config = live.config();
    follow_config(&live, &daemon.supervisor, &audit, &places);
    let address = config.listen;
    let socket =
        listener::inherited_or_bound(address).map_err(|source| DaemonError::Listen { address, source })?;
    let address = socket.local_addr()?;
    if let Some(address) = config.health_listen {
        let socket = listener::bound(address).map_err(|source| DaemonError::Listen { address, source })?;
        let probes = operations::probes().finish(Arc::clone(live.authz()), daemon.clone());
        tokio::spawn(health::run(socket, Arc::new(Desk::of_probes(probes, Arc::clone(&daemon.metrics)))));
    }
    let router = routes().finish(Arc::clone(live.authz()), daemon.clone());
    let server = Server::new(Arc::clone(&live), router, Arc::clone(&daemon.metrics));
    tokio::spawn(audit.clone().follow_refusals());
    tokio::spawn(policies::follow(audit.clone(), policy_directories(&places)));
    if let Some(access) = config.registry.etcd() {
        tokio::spawn(elsewhere::keep(audit.clone(), access, config.node.name.clone(), elsewhere::OFTEN));
    }
    tokio::spawn({
        let live = Arc::clone(&live);
        async move { live.follow().await }
    });
    tokio::spawn(watchdog());
    tracing::info!(%address, node = config.node.name, version = env!("CARGO_PKG_VERSION"), "serving");
    notify(&[NotifyState::Ready]);
    let (registry, supervisor) = (Arc::clone(&daemon.registry), daemon.supervisor.clone());
    server.run(socket, signals.end(&live)).await;
    registry.close();
    // An etcd that does not answer holds nothing up: what is left there ends with its lease.
    let _ = tokio::time::timeout(Duration::from_secs(2), registry.ended()).await;
    supervisor.flush().await;
    audit.record(Event::ServiceStopped { reason: Word::new("asked") });
    audit.close().await;
    tracing::info!("ended; the agents go on");
    Ok(())
}

/// What can change while it runs, whenever it does. The runtime is this one's, whoever reads the files anew.
fn follow_config(live: &Live, supervisor: &Supervisor, audit: &Audit, places: &Places) {
    let (supervisor, audit, places) = (supervisor.clone(), audit.clone(), places.clone());
    // It names the sinks' records, and changes at a start only.
    let node = live.config().node.name.clone();
    live.follow_config(move |config| {
        supervisor.replace_rules(config.rules());
        audit.keep(config.audit_keep, config.audit_keep_for);
        audit.feed(config.sinks.clone(), &places, &node);
    });
}

async fn start(places: Places, live: &Arc<Live>, audit: Audit) -> Result<Daemon, DaemonError> {
    let config = live.config();
    let policies = Arc::new(Library::of(policy_directories(&places), 0));
    let records = places.records();
    let supervisor = Supervisor::audited(places.clone(), config.supervisor(), audit).await?;
    let registry = registry::start(&supervisor, live, &places, &policies)?;
    let parallax = Parallax::start(supervisor.clone(), &records, &config.parallax.runtime_name)?;
    Ok(Daemon {
        authz: Arc::clone(live.authz()),
        parallax,
        policies,
        registry: Arc::new(registry),
        supervisor,
        live: Arc::clone(live),
        metrics: Arc::new(Metrics::default()),
    })
}

fn policy_directories(places: &Places) -> Vec<PathBuf> {
    ["etc/stockade/policies", "usr/lib/stockade/policies"].map(|below| places.root().join(below)).into()
}

/// Every endpoint, with its handler.
pub fn routes() -> Routes {
    let registry = registry::confidence::routes().and(registry::view::routes());
    api::routes().and(parallax::routes()).and(operations::routes()).and(registry)
}

/// What the process is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the end, and reads everything anew whenever it is asked to.
    async fn end(&mut self, live: &Live) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hang_up.recv() => {
                    let reloading = NotifyState::monotonic_usec_now().map(|now| [NotifyState::Reloading, now]);
                    notify(reloading.as_ref().map(|states| &states[..]).unwrap_or_default());
                    live.reload();
                    notify(&[NotifyState::Ready]);
                }
            }
        }
        tracing::info!("told to end: streams are ended, agents go on");
        notify(&[NotifyState::Stopping]);
    }
}

/// Tells systemd that the runtime still turns.
async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(period / 3);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

/// Without systemd nobody listens.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::daemon::authz::Endpoint;

    #[test]
    fn every_endpoint_of_the_table_is_served_exactly_once() {
        let routes = routes();
        let served: HashSet<_> = routes.registered().iter().copied().collect();
        let missing: Vec<_> = Endpoint::ALL.iter().filter(|endpoint| !served.contains(endpoint)).collect();
        assert_eq!((missing, served.len()), (Vec::new(), routes.registered().len()));
    }
}
