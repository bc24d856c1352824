//! A node as far as the registry sees it: what runs on it, and a registry with a runtime of its own, so that it can crash.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stockade::api::State;
use stockade::daemon::registry::confidence::{Answer, TurnError, Turns};
use stockade::daemon::registry::settings::{DoorPlace, EtcdSettings};
use stockade::daemon::registry::{Kind, OnDelete, Registered, Registry, Running, Settings, Status, Wires};
use stockade::registry::Access;
use stockade::registry::entry::NodeFacts;
use tokio::sync::{mpsc, watch};

use crate::etcd::PATIENCE;

/// Short, so that tests are; etcd takes no shorter one than this with its usual election time-out.
pub const TTL: Duration = Duration::from_secs(3);

pub struct Node {
    runtime: Option<tokio::runtime::Runtime>,
    registry: Option<Registry>,
    running: Option<watch::Sender<Option<Running>>>,
    pub facts: watch::Sender<NodeFacts>,
    pub wishes: mpsc::Receiver<String>,
    pub asked: Arc<Asked>,
    _doors: tempfile::TempDir,
}

/// Answers every task in capitals, and remembers who was asked what.
#[derive(Default)]
pub struct Asked {
    pub tasks: Mutex<Vec<(String, String)>>,
    pub abandoned: Arc<Mutex<usize>>,
}

struct Abandoned(Arc<Mutex<usize>>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        *self.0.lock().expect("no panic") += 1;
    }
}

impl Turns for Asked {
    fn turn(&self, _tenant: &str, agent: &str, text: String, patience: Duration) -> Answer {
        self.tasks.lock().expect("no panic").push((agent.to_owned(), text.clone()));
        let abandoned = Abandoned(self.abandoned.clone());
        Box::pin(async move {
            if text == "never" {
                tokio::time::sleep(patience).await;
                std::mem::forget(abandoned);
                return Err(TurnError::Late(patience));
            }
            std::mem::forget(abandoned);
            match text.as_str() {
                "not now" => Err(TurnError::NotNow("agent a is busy".into())),
                text => Ok(format!("{}\nCONFIDENCE: 0.9", text.to_uppercase())),
            }
        })
    }
}

pub fn agent(name: &str, state: State) -> Registered {
    Registered {
        name: name.into(),
        kind: "claude".into(),
        tenant: "research".into(),
        capabilities: vec!["code".into()],
        labels: [("team".to_owned(), "a".to_owned()), ("secret".to_owned(), "b".to_owned())].into(),
        state,
    }
}

pub fn settings(name: &str, node_id: &str, access: Access) -> Settings {
    Settings {
        kind: Kind::Etcd(EtcdSettings { access, ttl: TTL, on_delete: OnDelete::Restore }),
        node: name.into(),
        node_id: node_id.into(),
        service: "https://node:7443".into(),
        runtime: "local".into(),
        region: String::new(),
        publish_labels: vec!["team".into()],
        capability_prefix: String::new(),
        confidence: 0.7,
        // Replaced by a directory of the node's own.
        doors: DoorPlace::Unix("/nonexistent".into()),
    }
}

impl Node {
    /// Nothing runs yet.
    pub fn start(name: &str, access: Access) -> Self {
        Self::with(settings(name, name, access))
    }

    /// What runs is not known yet.
    pub fn with(mut settings: Settings) -> Self {
        let node = Self::unknowing(&mut settings);
        node.runs(&[]);
        node
    }

    pub fn unknowing(settings: &mut Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let doors = tempfile::tempdir().expect("a directory");
        if settings.doors == DoorPlace::Unix("/nonexistent".into()) {
            settings.doors = DoorPlace::Unix(doors.path().join("doors"));
        }
        let (running, told) = watch::channel(None);
        let (facts, node) = watch::channel(NodeFacts { kernel: "6.1".into(), ..NodeFacts::default() });
        let (wish, wishes) = mpsc::channel(16);
        let asked = Arc::new(Asked::default());
        let wires = Wires { running: told, node, wishes: wish, turns: asked.clone() };
        let registry = {
            let _inside = runtime.enter();
            Some(Registry::start(settings.clone(), wires))
        };
        Self { runtime: Some(runtime), registry, running: Some(running), facts, wishes, asked, _doors: doors }
    }

    /// These run now, and are ready.
    pub fn runs(&self, ids: &[&str]) {
        self.shows(&ids.iter().map(|id| (*id, State::Ready)).collect::<Vec<_>>());
    }

    /// These run now, in these states. Never waits for anything.
    pub fn shows(&self, agents: &[(&str, State)]) {
        let agents = agents.iter().map(|(id, state)| ((*id).to_owned(), agent(id, *state))).collect();
        self.tells(Running { agents });
    }

    pub fn tells(&self, running: Running) {
        let began = Instant::now();
        self.running.as_ref().expect("not ended").send_replace(Some(running));
        assert!(began.elapsed() < Duration::from_secs(1), "telling the registry had to wait");
    }

    pub fn status(&self) -> Status {
        self.registry.as_ref().expect("not ended").status().borrow().clone()
    }

    /// Waits until it says so.
    pub async fn says(&self, what: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.registry.as_ref().expect("not ended").status();
        let said = tokio::time::timeout(PATIENCE, status.wait_for(what)).await;
        match said {
            Ok(Ok(status)) => status.clone(),
            _ => panic!("the registry says {:?}", self.status()),
        }
    }

    /// As after `kill -9`: everything is gone at once, connections included.
    pub fn crash(mut self) {
        self.runtime.take().expect("it runs").shutdown_background();
    }

    /// As when the daemon ends properly.
    pub async fn end(mut self) {
        self.running = None;
        let registry = self.registry.as_ref().expect("not ended yet");
        tokio::time::timeout(PATIENCE, registry.ended()).await.expect("the registry ends");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
