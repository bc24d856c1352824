//! A daemon without its API, on a node with the real launcher.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use stockade::api::agent::{Agent, Spawn};
use stockade::daemon::authz::{Caller, Role};
use stockade::daemon::supervisor::{Config, Stop, Supervisor};
use stockade::daemon::terminal::{Piece, Terminal};
use stockade::wire::service::Places;

use crate::common::node::{DAEMON, Node, as_user};

/// No wait in a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// At once, and all of it.
pub const KILL: Stop = Stop { grace: Duration::ZERO, wait: true };

/// A daemon that lives.
pub struct World {
    /// The thing itself.
    pub supervisor: Supervisor,
    /// Who asks.
    pub me: Caller,
    asks: mpsc::Sender<Ask>,
}

/// What only root can do, and whom to tell that it is done.
enum Ask {
    Trace(String, mpsc::Sender<()>),
    KillLauncher(mpsc::Sender<()>),
    StartLauncher(mpsc::Sender<()>),
    KillShim(String, mpsc::Sender<()>),
    KillKeeper(String, mpsc::Sender<()>),
}

/// Lets a daemon live as its user; when it is over everything of it is gone at once, as after a crash.
pub fn daemon<T: Send>(node: &mut Node, config: Config, life: impl AsyncFnOnce(&World) -> T + Send) -> T {
    let places = node.places();
    let (asks, asked) = mpsc::channel();
    std::thread::scope(|scope| {
        let daemon = scope.spawn(move || as_user(DAEMON, || live(places, config, asks, life)));
        for ask in asked {
            let done = match ask {
                Ask::Trace(id, done) => {
                    node.trace(&id);
                    done
                }
                Ask::KillShim(id, done) => {
                    let found = node.trace(&id).expect("it runs");
                    crate::common::stockade::kill(found.shim.pid, libc::SIGKILL);
                    done
                }
                Ask::KillKeeper(id, done) => {
                    let found = node.trace(&id).expect("it runs");
                    crate::common::stockade::kill(found.keeper.pid, libc::SIGKILL);
                    done
                }
                Ask::KillLauncher(done) => {
                    node.kill_launcher();
                    done
                }
                Ask::StartLauncher(done) => {
                    node.start_launcher();
                    done
                }
            };
            done.send(()).expect("whoever asked waits");
        }
        daemon.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn live<T>(
    places: Places,
    config: Config,
    asks: mpsc::Sender<Ask>,
    life: impl AsyncFnOnce(&World) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let lived = runtime.block_on(async {
        let supervisor = Supervisor::start(places, config).await.expect("it starts");
        life(&World { supervisor, me: caller("research"), asks }).await
    });
    // Whatever holds its logs has let go of them before the next one opens them.
    runtime.shutdown_timeout(PATIENCE);
    lived
}

/// An operator of this tenant.
pub fn caller(tenant: &str) -> Caller {
    Caller {
        identity: "spiffe://example.org/test".into(),
        role: Role::Operator,
        tenant: tenant.parse().expect("a name"),
        serial: "1".into(),
    }
}

/// A shell with a script.
pub fn shell(id: &str, script: &str) -> Spawn {
    Spawn {
        id: Some(id.into()),
        kind: "shell".into(),
        command: Some(["sh", "-c", script].map(str::to_owned).into()),
        ..Spawn::default()
    }
}

impl World {
    /// Starts one that must start.
    pub async fn spawn(&self, request: Spawn) -> Agent {
        let id = request.id.clone().expect("an id");
        let spawned = self.supervisor.spawn(&self.me, request).await.unwrap_or_else(|e| panic!("{id}: {e}"));
        self.trace(&id);
        spawned.agent
    }

    /// Remembers what there is of an agent, which must be gone in the end.
    pub fn trace(&self, id: &str) {
        self.ask(|done| Ask::Trace(id.into(), done));
    }

    /// Ends a shim as a crash would.
    pub fn kill_shim(&self, id: &str) {
        self.ask(|done| Ask::KillShim(id.into(), done));
    }

    /// Ends the process that would clean up after its shim.
    pub fn kill_keeper(&self, id: &str) {
        self.ask(|done| Ask::KillKeeper(id.into(), done));
    }

    /// Ends the launcher as a crash would.
    pub fn kill_launcher(&self) {
        self.ask(Ask::KillLauncher);
    }

    /// Starts it again.
    pub fn start_launcher(&self) {
        self.ask(Ask::StartLauncher);
    }

    fn ask(&self, ask: impl FnOnce(mpsc::Sender<()>) -> Ask) {
        let (done, told) = mpsc::channel();
        self.asks.send(ask(done)).expect("the test listens");
        told.recv().expect("it was done");
    }

    /// As everybody sees it.
    pub fn get(&self, id: &str) -> Agent {
        self.supervisor.get(&self.me, id).expect("it is there")
    }

    /// Its terminal.
    pub fn terminal(&self, id: &str) -> Terminal {
        self.supervisor.terminal(&self.me, id).expect("it is there")
    }

    /// Types.
    pub async fn type_in(&self, id: &str, text: &str) {
        patiently(self.terminal(id).input(text.to_owned().into())).await.expect("typed");
    }

    /// Waits for a claim about an agent to become true.
    pub async fn until(&self, id: &str, what: &str, claim: impl Fn(&Agent) -> bool) -> Agent {
        soon(what, async || Some(self.get(id)).filter(|agent| claim(agent))).await
    }

    /// Waits until this was put out.
    pub async fn shows(&self, id: &str, text: &str) {
        soon(text, async || output(&self.terminal(id), 0).await.contains(text).then_some(())).await;
    }

    /// Kills it.
    pub async fn kill(&self, id: &str) -> Agent {
        patiently(self.supervisor.stop(&self.me, id, KILL)).await.expect("stopped")
    }

    /// Waits for its end.
    pub async fn ended(&self, id: &str) -> Agent {
        self.supervisor.wait(&self.me, id, PATIENCE).await.expect("known").expect("it ended")
    }
}

/// All output from `offset` on that there is now.
pub async fn output(terminal: &Terminal, offset: u64) -> String {
    let end = terminal.range().1;
    let mut reader = terminal.reader(offset);
    let mut all = Vec::new();
    while reader.offset() < end {
        match patiently(reader.next(1000)).await.expect("read") {
            Piece::Bytes(bytes) => all.extend(bytes),
            Piece::Gap { from, to } => panic!("a gap from {from} to {to}"),
            Piece::End => break,
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Looks until something is found.
pub async fn soon<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits, but not for ever.
pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}
