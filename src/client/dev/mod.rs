//! `stockade dev`: a whole service in the foreground, for development.
//!
//! ```text
//!  Tree ▸ certificates ▸ configuration ▸ launcher (root) ▸ daemon (no rights) ▸ "ready https://…"
//!                                            │ kept running       │ kept running; the socket that it serves stays here
//!  first Ctrl-C or SIGTERM ─▶ agents stopped ─▶ daemon ended ─▶ launcher ended ─▶ sockets gone
//!  second ─▶ agents killed at once      third ─▶ leave everything as it is
//! ```
//! If this process is killed, the kernel kills launcher and daemon, too. Agents go on, and are found again by the next
//! `dev` in the same directory.

mod program;
mod tree;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use self::program::{Ended, Program};
use self::tree::{DaemonUser, Tree, reachable};
use super::agents;
use super::config::Target;
use super::error::{ClientError, code};
use super::http::{Client, PATIENCE, agent_path};
use super::node::drain;
use super::output::Output;
use crate::api::agent::{Agent, Stop};
use crate::api::node::Node;
use crate::cli::service::agent::Ls;
use crate::cli::service::site as words;

/// From the first program to the first answer.
const START: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(25);
/// From the wish to stop to the end of the last agent.
const STOP: Duration = Duration::from_secs(60);

/// Runs it until it is told to end.
pub async fn dev(output: Output, words: words::Dev) -> Result<u8, ClientError> {
    check(&words)?;
    let mut signals = Signals::listen()?;
    let tree = Tree::open(&words.dir)?;
    tree.let_pass()?;
    let listener = TcpListener::bind(words.listen)
        .map_err(|source| ClientError::Listen { address: words.listen.to_string(), source })?;
    let listen = listener
        .local_addr()
        .map_err(|source| ClientError::Listen { address: words.listen.to_string(), source })?;
    let user = DaemonUser::find();
    tree.certify(listen, user)?;
    tree.configure(listen, &words.workspace_root, &words.etcd)?;
    let client = Client { target: admin(&tree, listen) };
    let mut service = Service::start(output, &tree, user, listener).await?;
    let url = format!("https://{}", reachable(listen));
    tokio::select! {
        started = service.await_ready(&client) => started?,
        // Nothing was started yet that would have to be stopped with care.
        () = signals.next() => return service.end(&tree).await,
    }
    let config = tree.client_config();
    let ready = serde_json::json!({ "ready": url, "clientConfig": config });
    output.result(&ready, || format!("ready {url}\n"))?;
    output.remark(&format!("clients use it with: export STOCKADE_CLIENT_CONFIG={}", config.display()));
    signals.next().await;
    output.remark("stopping all agents; once more kills them");
    let stopped = stop_agents(&client, &mut signals, output).await;
    let ended = service.end(&tree).await;
    stopped?;
    ended
}

fn check(words: &words::Dev) -> Result<(), ClientError> {
    if words.etcd.iter().any(|url| !url.starts_with("http://")) {
        return Err(ClientError::Usage(
            "--etcd takes http://HOST:PORT; for https write [registry] with its certificates into \
             DIR/etc/stockade/stockaded.d/registry.toml (docs/registry.md)"
                .into(),
        ));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(ClientError::Denied(
            "`stockade dev` starts the launcher, which makes namespaces and cgroups: run it as root (sudo stockade dev)"
                .into(),
        ));
    }
    Ok(())
}

fn admin(tree: &Tree, listen: std::net::SocketAddr) -> Target {
    let address = reachable(listen);
    let pki = tree.pki();
    Target {
        host: address.ip().to_string(),
        port: address.port(),
        cert: pki.join("admin.crt"),
        key: pki.join("admin.key"),
        ca: pki.join("ca.crt"),
    }
}

/// The launcher makes the daemon's directories, then listens. One that does not get so far is told of when the daemon is
/// waited for.
async fn await_directories(tree: &Tree) {
    let begun = Instant::now();
    while !tree.places().launcher_socket().exists() && begun.elapsed() < Duration::from_secs(5) {
        sleep(LOOK).await;
    }
}

/// Launcher and daemon.
struct Service {
    launcher: Kept,
    daemon: Kept,
    /// Those that ended by themselves.
    ended: mpsc::Receiver<Ended>,
}

/// A program that is kept running.
struct Kept {
    stop: watch::Sender<bool>,
    keeper: JoinHandle<()>,
}

impl Kept {
    fn start(program: Program, output: Output, ended: mpsc::Sender<Ended>) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, keeper: tokio::spawn(program.keep(output, ended, stopped)) }
    }

    async fn end(self) {
        self.stop.send_replace(true);
        // It ends by itself, or is killed.
        let _ = self.keeper.await;
    }
}

impl Service {
    async fn start(
        output: Output,
        tree: &Tree,
        user: DaemonUser,
        listener: TcpListener,
    ) -> Result<Self, ClientError> {
        let (ended, receiver) = mpsc::channel(8);
        let root = || ["--root".into(), tree.dir.clone().into_os_string()];
        let ids = [
            "--daemon-uid".into(),
            user.uid.to_string().into(),
            "--daemon-gid".into(),
            user.gid.to_string().into(),
        ];
        let launcher = Program {
            name: "stockade-launcher",
            path: beside("stockade-launcher")?,
            arguments: root().into_iter().chain(ids).collect(),
            user: None,
            listener: None,
        };
        let daemon = Program {
            name: "stockaded",
            path: beside("stockaded")?,
            arguments: root().into(),
            user: Some(user),
            listener: Some(listener),
        };
        let launcher = Kept::start(launcher, output, ended.clone());
        await_directories(tree).await;
        Ok(Self { launcher, daemon: Kept::start(daemon, output, ended), ended: receiver })
    }

    /// Waits for the first answer. Whatever ends before that would only end again.
    async fn await_ready(&mut self, client: &Client) -> Result<(), ClientError> {
        let begun = Instant::now();
        loop {
            let last = match client.ask(Method::GET, "/readyz", None, PATIENCE).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_passing() || matches!(error, ClientError::Status { .. }) => error,
                Err(error) => return Err(error),
            };
            if begun.elapsed() > START {
                return Err(ClientError::Failed(format!(
                    "the service does not become ready: {}",
                    last.line()
                )));
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                Some(ended) = self.ended.recv() => {
                    return Err(ClientError::Failed(format!("{} {} before it served", ended.name, ended.how)));
                }
            }
        }
    }

    async fn end(self, tree: &Tree) -> Result<u8, ClientError> {
        self.daemon.end().await;
        self.launcher.end().await;
        let socket = tree.places().launcher_socket();
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ClientError::File { verb: "remove", path: socket, source: error })
            }
            _ => Ok(code::OK),
        }
    }
}

fn beside(name: &str) -> Result<PathBuf, ClientError> {
    let own = std::env::current_exe()
        .map_err(|source| ClientError::Stream { what: "cannot find out where this program is", source })?;
    let path = own.with_file_name(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(ClientError::Failed(format!("{} is missing: it is installed beside stockade", path.display())))
    }
}

/// Until none is left; a second signal kills them.
async fn stop_agents(client: &Client, signals: &mut Signals, output: Output) -> Result<(), ClientError> {
    let gently = async {
        let begun = Instant::now();
        loop {
            let left = match drain(client, true).await {
                Ok(()) => active(client).await,
                Err(error) => Err(error),
            };
            match left {
                Ok(0) => return Ok(()),
                Ok(left) if begun.elapsed() > STOP => {
                    return Err(ClientError::Failed(format!(
                        "{left} agents do not end; the next dev finds them"
                    )));
                }
                Err(error) if begun.elapsed() > STOP || !error.is_passing() => return Err(error),
                Ok(_) | Err(_) => sleep(LOOK * 4).await,
            }
        }
    };
    tokio::select! {
        stopped = gently => return stopped,
        () = signals.next() => output.remark("killing all agents; once more leaves them to the next dev"),
    }
    tokio::select! {
        killed = kill_agents(client) => killed,
        () = signals.next() => Ok(()),
    }
}

async fn active(client: &Client) -> Result<usize, ClientError> {
    Ok(client.get::<Node>("/v1/node").await?.active)
}

async fn kill_agents(client: &Client) -> Result<(), ClientError> {
    let begun = Instant::now();
    loop {
        let agents = agents::all(client, Ls::default()).await?;
        let running: Vec<_> = agents.iter().filter(|agent| !agent.state.is_final()).collect();
        if running.is_empty() {
            return Ok(());
        }
        for agent in &running {
            let stop = Stop { force: true, grace_ms: None, wait: false };
            let stopped = client.post::<Agent>(&agent_path(&agent.id, "/stop")?, &stop, PATIENCE).await;
            // It may have ended meanwhile.
            stopped
                .map(drop)
                .or_else(|error| if error.exit_code() == code::NOT_FOUND { Ok(()) } else { Err(error) })?;
        }
        if begun.elapsed() > STOP {
            return Err(ClientError::Failed(format!("{} agents cannot be killed", running.len())));
        }
        sleep(LOOK * 4).await;
    }
}

/// To end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, ClientError> {
        let on = |kind| {
            signal(kind).map_err(|source| ClientError::Stream { what: "cannot listen for signals", source })
        };
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
