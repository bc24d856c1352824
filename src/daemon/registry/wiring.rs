//! The registry, and the supervisor: what runs is told from here, and what the registry asks for is done there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

use super::confidence::{Answer, TurnError, Turns};
use super::facts::Facts;
use super::{Registered, Registry, Running, Wires, node_id};
use crate::api::agent::Send;
use crate::api::events::{Event, Happened};
use crate::daemon::authz::{Caller, Role};
use crate::daemon::supervisor::{Stop, Supervisor, SupervisorError};
use crate::daemon::tls::Live;
use crate::policy::Library;
use crate::registry::entry::NodeFacts;
use crate::wire::service::Places;

/// Who asks, where a registry does.
const IDENTITY: &str = "registry";
/// How often everything is looked at, whatever events say.
const LOOK: Duration = Duration::from_secs(30);
/// Wishes that wait to be carried out.
const WISHES: usize = 256;
/// Between SIGTERM and the end, where a deleted key was the wish.
const GRACE: Duration = Duration::from_secs(5);

/// Starts the registry of this node. Every agent has been found again by now: what the supervisor lists is what runs.
///
/// # Errors
/// When this node's identity can neither be read nor made.
pub fn start(
    supervisor: &Supervisor,
    live: &Arc<Live>,
    places: &Places,
    policies: &Arc<Library>,
) -> io::Result<Registry> {
    let config = live.config();
    let id = node_id(&places.records())?;
    let port = config.listen.port();
    let settings =
        config.registry.settings(&config.node.name, id, port, &config.parallax.runtime_name, places);
    let (running, told) = watch::channel(None);
    let facts = Facts::of(live.clone(), policies.clone());
    let (told_facts, node) = watch::channel(facts.now(supervisor));
    let (wish, wishes) = mpsc::channel(WISHES);
    let turns = Arc::new(Typing { supervisor: supervisor.clone() });
    let mut registry = Registry::start(settings, Wires { running: told, node, wishes: wish, turns });
    let teller = tokio::spawn(tell(supervisor.clone(), facts, running, told_facts));
    registry.tellers.push(teller.abort_handle());
    tokio::spawn(carry_out(supervisor.clone(), wishes));
    Ok(registry)
}

/// For all tenants: what runs is everybody's.
fn caller(role: Role, tenant: &str) -> Option<Caller> {
    let tenant = tenant.parse().ok()?;
    Some(Caller { identity: IDENTITY.into(), role, tenant, serial: String::new() })
}

fn everything(supervisor: &Supervisor) -> Running {
    let caller = caller(Role::Admin, IDENTITY).expect("a name");
    supervisor.list(&caller).iter().collect()
}

/// Tells the registry what runs, as it happens.
async fn tell(
    supervisor: Supervisor,
    mut facts: Facts,
    running: watch::Sender<Option<Running>>,
    node: watch::Sender<NodeFacts>,
) {
    // Before the list is looked at, so that nothing happens between.
    let (_, mut events) = supervisor.events().follow(None);
    running.send_replace(Some(everything(&supervisor)));
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => running.send_if_modified(|running| happened(running.get_or_insert_default(), &event)),
                Err(RecvError::Lagged(_)) => renew(&running, everything(&supervisor)),
                Err(RecvError::Closed) => return,
            },
            _ = look.tick() => {
                facts.look();
                renew(&running, everything(&supervisor))
            }
        };
        let now = facts.now(&supervisor);
        node.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
    }
}

fn renew(running: &watch::Sender<Option<Running>>, now: Running) -> bool {
    running.send_if_modified(|before| before.replace(now.clone()).as_ref() != Some(&now))
}

/// Whether that changes anything here.
fn happened(running: &mut Running, event: &Event) -> bool {
    match (&event.happened, &event.agent) {
        (Happened::AgentCreated(agent) | Happened::AgentState(agent), _) => {
            let now = Registered::from(&**agent);
            running.agents.insert(agent.id.clone(), now.clone()).as_ref() != Some(&now)
        }
        (Happened::AgentRemoved, Some(id)) => running.agents.remove(id).is_some(),
        _ => false,
    }
}

/// Stops agents whose keys somebody has deleted.
async fn carry_out(supervisor: Supervisor, mut wishes: mpsc::Receiver<String>) {
    let caller = caller(Role::Admin, IDENTITY).expect("a name");
    while let Some(id) = wishes.recv().await {
        if let Err(error) = supervisor.stop(&caller, &id, Stop { grace: GRACE, wait: false }).await {
            tracing::warn!(agent = %id, %error, "cannot be stopped, as somebody wished by deleting its key");
        }
    }
}

/// Carries tasks to agents, as anybody else who types.
struct Typing {
    supervisor: Supervisor,
}

impl Turns for Typing {
    fn turn(&self, tenant: &str, agent: &str, text: String, patience: Duration) -> Answer {
        let (supervisor, agent, caller) =
            (self.supervisor.clone(), agent.to_owned(), caller(Role::Operator, tenant));
        Box::pin(async move {
            let caller = caller.ok_or_else(|| TurnError::Failed(format!("agent {agent} has no tenant")))?;
            let timeout_ms = Some(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
            let message = Send { message: text, wait: true, timeout_ms, ..Send::default() };
            let sent = supervisor.send(&caller, &agent, message).await.map_err(|error| match error {
                SupervisorError::Timeout { .. } => TurnError::Late(patience),
                SupervisorError::State { .. } | SupervisorError::NotDelivered { .. } => {
                    TurnError::NotNow(error.to_string())
                }
                error => TurnError::Failed(error.to_string()),
            })?;
            sent.response
                .ok_or_else(|| TurnError::Failed(format!("agent {agent} has ended without an answer")))
        })
    }
}
