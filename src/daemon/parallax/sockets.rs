//! `/ws` and `/ws/events`: the bus, as text frames.

use std::sync::Arc;
use std::time::Duration;

use axum::Error;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::bus::{Envelope, Listener};
use super::handle;
use crate::api::agent::Send;
use crate::daemon::Daemon;
use crate::daemon::api::pulse::Pulse;
use crate::daemon::api::query::Query;
use crate::daemon::api::terminal::{PING, bounded, upgrade};
use crate::daemon::authz::{Action, Caller};
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;

/// How many answers a client may be behind; what it asks beyond that waits.
const ANSWERS: usize = 16;

/// Which events a socket gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    /// `/ws`: whose short events come along. `/ws/events`: other agents' do not.
    agent: Option<String>,
    thread: Option<String>,
    /// Whether the names are a filter, as at `/ws/events`.
    excludes: bool,
}

impl Filter {
    fn takes(&self, envelope: &Envelope) -> bool {
        if envelope.scoped {
            return !self.excludes && self.agent.is_some() && self.agent == envelope.agent;
        }
        // Dropped only if it names another one.
        let other = |wanted: &Option<String>, given: &Option<String>| {
            wanted.is_some() && given.is_some() && wanted != given
        };
        !self.excludes || !(other(&self.agent, &envelope.agent) || other(&self.thread, &envelope.thread))
    }
}

/// Every event; with `agentId` also those that only concern that agent. A WebSocket with text frames.
#[utoipa::path(
    get, path = "/ws", tag = "parallax",
    params(("agentId" = Option<String>, Query, description = "Also what only concerns this one")),
    responses((status = 101, description = "A WebSocket"), (status = 426, description = "No WebSocket was asked for", body = crate::api::Problem))
)]
pub async fn bus(
    State(daemon): State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    query: Query,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Fault> {
    let filter = Filter { agent: query.one("agentId").map(str::to_owned), ..Filter::default() };
    let session = Session { daemon, caller, filter, greets: false };
    Ok(bounded(upgrade(socket)?).on_upgrade(|socket| session.run(socket, watch)))
}

/// Every event that names no other agent and no other thread, after a greeting. A WebSocket with text frames.
#[utoipa::path(
    get, path = "/ws/events", tag = "parallax",
    params(
        ("agentId" = Option<String>, Query, description = "Nothing that names another one"),
        ("threadId" = Option<String>, Query, description = "Nothing that names another one")
    ),
    responses((status = 101, description = "A WebSocket"), (status = 426, description = "No WebSocket was asked for", body = crate::api::Problem))
)]
pub async fn events(
    State(daemon): State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    query: Query,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Fault> {
    let named = |name: &str| query.one(name).filter(|id| !id.is_empty()).map(str::to_owned);
    let filter = Filter { agent: named("agentId"), thread: named("threadId"), excludes: true };
    let session = Session { daemon, caller, filter, greets: true };
    Ok(bounded(upgrade(socket)?).on_upgrade(|socket| session.run(socket, watch)))
}

struct Session {
    daemon: Daemon,
    caller: Caller,
    filter: Filter,
    greets: bool,
}

impl Session {
    async fn run(self, socket: WebSocket, connection: ConnectionWatch) {
        // Only the plain bus is the control plane's: what others look at is not what it was told.
        let counts = !self.greets && self.filter.agent.is_none();
        let mut listener = self.daemon.parallax.bus.listen(self.caller.clone(), counts);
        let (mut sink, stream) = socket.split();
        let (answer, mut answers) = mpsc::channel(ANSWERS);
        let pulse = Pulse::default();
        let farewell = tokio::select! {
            farewell = self.tell(&mut sink, &mut listener, &mut answers, &pulse) => farewell,
            () = self.hear(stream, answer, &pulse) => None,
            () = pulse.silence() => None,
            closing = connection.closing() => Some((close_code::AWAY, closing.reason())),
        };
        if let Some((code, reason)) = farewell {
            let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            let _ = tokio::time::timeout(Duration::from_secs(2), sink.send(close)).await;
        }
    }

    async fn tell(
        &self,
        sink: &mut SplitSink<WebSocket, Message>,
        listener: &mut Listener,
        answers: &mut mpsc::Receiver<Value>,
        pulse: &Pulse,
    ) -> Option<(u16, &'static str)> {
        self.carry(sink, listener, answers, pulse).await.unwrap_or(None)
    }

    async fn carry(
        &self,
        sink: &mut SplitSink<WebSocket, Message>,
        listener: &mut Listener,
        answers: &mut mpsc::Receiver<Value>,
        pulse: &Pulse,
    ) -> Result<Option<(u16, &'static str)>, Error> {
        if self.greets {
            sink.send(text(&self.greeting())).await?;
        }
        let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        loop {
            let message = tokio::select! {
                envelope = listener.next() => match envelope {
                    // It comes again, and is told what is still to be told.
                    None => return Ok(Some((close_code::AGAIN, "too slow"))),
                    Some(envelope) if self.filter.takes(&envelope) => written(&envelope),
                    Some(_) => continue,
                },
                Some(answer) = answers.recv() => text(&answer),
                _ = pings.tick() => Message::Ping(Bytes::new()),
            };
            let sending = pulse.at_work();
            sink.send(message).await?;
            drop(sending);
        }
    }

    fn greeting(&self) -> Value {
        let mut filter = serde_json::Map::new();
        for (name, id) in [("agentId", &self.filter.agent), ("threadId", &self.filter.thread)] {
            if let Some(id) = id {
                filter.insert(name.into(), id.clone().into());
            }
        }
        let filter = if filter.is_empty() { Value::Null } else { filter.into() };
        json!({ "type": "connected", "filter": filter, "timestamp": handle::now() })
    }

    async fn hear(&self, mut stream: SplitStream<WebSocket>, answer: mpsc::Sender<Value>, pulse: &Pulse) {
        while let Some(Ok(message)) = stream.next().await {
            pulse.heard();
            let Message::Text(text) = message else { continue };
            let Ok(said) = serde_json::from_str::<Value>(&text) else { continue };
            match said["type"].as_str() {
                Some("ping") => {
                    let pong = json!({ "type": "pong", "timestamp": handle::now() });
                    if answer.send(pong).await.is_err() {
                        return;
                    }
                }
                Some("send") if self.caller.may(Action::Operate) => self.send(&said).await,
                _ => {}
            }
        }
    }

    /// Types a message. Nobody waits for what becomes of it.
    async fn send(&self, said: &Value) {
        let (Some(agent), Some(message)) = (said["agentId"].as_str(), said["message"].as_str()) else {
            return;
        };
        let send = Send { message: message.to_owned(), queue: true, ..Send::default() };
        if let Err(error) = self.daemon.supervisor.send(&self.caller, agent, send).await {
            tracing::debug!(agent, %error, "a message over the bus was not typed");
        }
    }
}

fn text(value: &Value) -> Message {
    Message::Text(Utf8Bytes::from(value.to_string()))
}

fn written(envelope: &Arc<Envelope>) -> Message {
    Message::Text(envelope.text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(agent: Option<&str>, thread: Option<&str>, scoped: bool) -> Envelope {
        Envelope {
            agent: agent.map(str::to_owned),
            thread: thread.map(str::to_owned),
            scoped,
            ..Envelope::of_agent("t", "a", "agent_ready", &json!({}))
        }
    }

    #[test]
    fn a_filter_drops_only_what_names_another_one() {
        let filter = Filter { agent: Some("a".into()), thread: None, excludes: true };
        assert!(filter.takes(&event(Some("a"), None, false)));
        assert!(!filter.takes(&event(Some("b"), None, false)));
        assert!(filter.takes(&event(None, Some("x"), false)));
        let filter = Filter { agent: None, thread: Some("x".into()), excludes: true };
        assert!(!filter.takes(&event(None, Some("y"), false)));
        assert!(filter.takes(&event(Some("b"), None, false)));
    }

    #[test]
    fn what_concerns_one_agent_goes_to_those_who_asked_for_it_on_the_bus() {
        let plain = Filter::default();
        let scoped = Filter { agent: Some("a".into()), ..Filter::default() };
        assert!(!plain.takes(&event(Some("a"), None, true)));
        assert!(scoped.takes(&event(Some("a"), None, true)));
        assert!(!scoped.takes(&event(Some("b"), None, true)));
        assert!(scoped.takes(&event(Some("b"), None, false)), "the bus comes whole");
    }
}
