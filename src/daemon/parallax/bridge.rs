//! From what happens on the node to what Parallax hears: each thing once, in its words.
//!
//! ```text
//!  supervisor's events ─▶ Bridge ─┬─ agent_started, agent_ready, agent_stopped … ─▶ Bus
//!                          │      └─ thread_event: thread_ready, thread_turn_complete … ─▶ Bus
//!                          └─ Record: what was told of a thread, so that a restart tells nothing twice
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::bus::Envelope;
use super::handle::{AgentHandle, AgentMessage, Completion};
use super::store::Record;
use super::{Parallax, output, text, words};
use crate::api::events::{Event, Happened, Turn};
use crate::api::{Agent, Delivery, Login, State};

/// A login that a thread waits for is told no sooner after the last start of a thread of its execution: Parallax ends if it
/// hears of one while it still asks for others.
const HELD_BACK: Duration = Duration::from_secs(5);

/// Another address is told no sooner after the one before it: the agent draws what it likes.
const ANOTHER: Duration = Duration::from_secs(5);

const TURNS: usize = 64;

/// What was told of one agent.
#[derive(Default)]
struct Told {
    started: bool,
    ready: bool,
    ended: bool,
    stopping: bool,
    asked: Option<String>,
    login: Option<Option<Login>>,
    /// When a thread's login is to be told.
    thread_login: Option<Instant>,
    /// The one that it was told last, and when.
    thread_told: Option<(Instant, Place)>,
    turns: VecDeque<String>,
}

/// Where to log in, and with which code.
type Place = (Option<String>, Option<String>);

impl Told {
    /// Whether this is news to a thread, too: its first login, or one at another address.
    fn login_of_thread(&mut self, login: Option<&Login>, now: Instant) {
        let due = match &self.thread_told {
            None => now,
            Some((_, before)) if !leads_elsewhere(login, before) => return,
            Some((at, _)) => now.max(*at + ANOTHER),
        };
        self.thread_login.get_or_insert(due);
    }
}

fn leads_elsewhere(login: Option<&Login>, before: &Place) -> bool {
    let place = place(login);
    (place.0.is_some() || place.1.is_some()) && place != *before
}

fn place(login: Option<&Login>) -> Place {
    login.map(|login| (login.url.clone(), login.user_code.clone())).unwrap_or_default()
}

/// The one who tells.
pub struct Bridge {
    parallax: Parallax,
    agents: HashMap<String, Told>,
}

impl Bridge {
    /// Tells until the daemon ends.
    pub async fn run(parallax: Parallax) {
        let supervisor = parallax.supervisor.clone();
        let (_, mut live) = supervisor.events().follow(None);
        let mut bridge = Self { parallax, agents: HashMap::new() };
        bridge.adopt();
        let mut last = None;
        loop {
            let due = bridge.next_due();
            let held_back = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = live.recv() => match event {
                    Ok(event) => {
                        last = Some(event.cursor);
                        bridge.hear(&event);
                    }
                    Err(RecvError::Lagged(_)) => {
                        let (past, again) = supervisor.events().follow(last);
                        live = again;
                        for event in past {
                            last = Some(event.cursor);
                            bridge.hear(&event);
                        }
                    }
                    Err(RecvError::Closed) => return,
                },
                () = held_back => bridge.tell_logins(),
            }
        }
    }

    /// What was there before: nothing of it is told, except what became of threads while nobody looked.
    fn adopt(&mut self) {
        for agent in self.parallax.supervisor.list(&self.parallax.eye) {
            let told = self.agents.entry(agent.id.clone()).or_default();
            told.started = true;
            told.ended = agent.state.is_final();
            told.ready = !matches!(agent.state, State::Starting | State::LoginRequired);
            if let Some(record) = self.parallax.threads.get(&agent.id) {
                if !agent.state.is_final() {
                    output::follow(&self.parallax, &record);
                }
                self.thread_state(&agent, false);
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        let Some(id) = event.agent.as_deref() else { return };
        match &event.happened {
            Happened::AgentCreated(agent) => {
                self.agents.remove(id);
                self.state(agent);
            }
            Happened::AgentState(agent) => self.state(agent),
            Happened::LoginRequired(login) => self.login(&event.tenant, id, Some(login.clone())),
            Happened::TurnComplete(turn) => self.turn(&event.tenant, id, turn),
            Happened::NotDelivered(delivery) => self.not_delivered(id, delivery),
            Happened::AgentRemoved => {
                self.agents.remove(id);
                // Another one may have taken the id meanwhile: then the thread is that one's.
                if self.parallax.supervisor.get(&self.parallax.eye, id).is_err() {
                    self.parallax.threads.remove(id);
                }
            }
            Happened::BudgetWarning(_) | Happened::BudgetExceeded(_) => {}
            Happened::QuestionAnswered(_) | Happened::Gap(_) | Happened::Draining | Happened::Other => {}
        }
    }

    fn state(&mut self, agent: &Agent) {
        let told = self.agents.entry(agent.id.clone()).or_default();
        if told.ended && !agent.state.is_final() {
            // Started anew.
            *told = Told::default();
        }
        let mut events: Vec<(&'static str, Value)> = Vec::new();
        let shown = json!(AgentHandle::of(agent));
        if !std::mem::replace(&mut told.started, true) {
            events.push(("agent_started", json!({ "agent": shown })));
        }
        told.stopping |= agent.state == State::Stopping;
        match agent.state {
            State::Ready if !std::mem::replace(&mut told.ready, true) => {
                events.push(("agent_ready", json!({ "agent": shown })));
            }
            State::LoginRequired => told.ready = false,
            State::Failed if !std::mem::replace(&mut told.ended, true) => {
                let reason = words::end(agent);
                events.push(("agent_error", json!({ "agent": shown, "error": reason })));
                events.push(("agent_stopped", json!({ "agent": shown, "reason": reason })));
            }
            State::Exited if !std::mem::replace(&mut told.ended, true) => {
                events.push(("agent_stopped", json!({ "agent": shown, "reason": words::end(agent) })));
            }
            _ => {}
        }
        if agent.state != State::LoginRequired {
            told.login = None;
            told.thread_login = None;
            told.thread_told = None;
        }
        let question = (agent.state == State::Blocked).then(|| agent.evidence.clone());
        let asked = question.is_some() && told.asked != question;
        told.asked = question;
        for (event, data) in events {
            self.tell(&agent.tenant, &agent.id, event, &data);
        }
        if asked {
            self.question(agent);
        }
        if agent.state == State::LoginRequired {
            self.login(&agent.tenant, &agent.id, agent.login.clone());
        }
        self.thread_state(agent, asked);
    }

    /// To everybody; and under its short name to those who asked for this agent.
    fn tell(&self, tenant: &str, id: &str, event: &'static str, data: &Value) {
        self.parallax.bus.publish(Envelope::of_agent(tenant, id, event, data));
        let short = match event {
            "agent_ready" => "ready",
            "agent_stopped" => "stopped",
            _ => return,
        };
        self.parallax.bus.publish(Envelope::for_followers(tenant, id, short, data));
    }

    fn question(&self, agent: &Agent) {
        let shown = AgentHandle::of(agent);
        let data = json!({ "agent": shown, "question": agent.evidence });
        self.tell(&agent.tenant, &agent.id, "question", &data);
        self.message(&agent.tenant, &agent.id, "question", agent.evidence.clone(), None);
    }

    fn message(&self, tenant: &str, id: &str, kind: &str, content: String, metadata: Option<Value>) {
        let name = format!("{id}-{}", uuid::Uuid::now_v7());
        let message = AgentMessage::outbound(name, id, kind, content, metadata);
        self.tell(tenant, id, "message", &json!({ "message": message }));
    }

    fn login(&mut self, tenant: &str, id: &str, login: Option<Login>) {
        let told = self.agents.entry(id.to_owned()).or_default();
        let is_told = |known: &Option<Login>| match (known, &login) {
            (_, None) => true,
            (Some(known), Some(login)) => login.is_told_by(known),
            (None, Some(_)) => false,
        };
        if told.login.as_ref().is_some_and(is_told) {
            return;
        }
        told.login = Some(login.clone());
        told.login_of_thread(login.as_ref(), Instant::now());
        let Ok(agent) = self.parallax.supervisor.get(&self.parallax.eye, id) else { return };
        let mut data = login_words(login.as_ref(), &agent);
        let instructions = data["instructions"].as_str().unwrap_or_default().to_owned();
        self.message(tenant, id, "question", instructions, Some(data.clone()));
        data["agent"] = json!(AgentHandle::of(&agent));
        self.tell(tenant, id, "login_required", &data);
    }

    fn next_due(&self) -> Option<Instant> {
        self.agents.values().filter_map(|told| told.thread_login).min()
    }

    /// Tells the logins that were held back, if they are still waited for.
    fn tell_logins(&mut self) {
        let now = Instant::now();
        let due = |told: &Told| told.thread_login.is_some_and(|at| at <= now);
        let ids: Vec<String> =
            self.agents.iter().filter(|(_, told)| due(told)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let Some(told) = self.agents.get_mut(&id) else { continue };
            let record = self.parallax.threads.get(&id);
            let held_back = record.as_ref().and_then(|record| self.parallax.spawns.last(record));
            if let Some(until) = held_back.map(|at| at + HELD_BACK).filter(|until| *until > now) {
                told.thread_login = Some(until);
                continue;
            }
            told.thread_login = None;
            let Ok(agent) = self.parallax.supervisor.get(&self.parallax.eye, &id) else { continue };
            told.thread_told = Some((now, place(agent.login.as_ref())));
            let Some(record) = record else { continue };
            if agent.state == State::LoginRequired {
                let data = login_words(agent.login.as_ref(), &agent);
                self.thread(&record, Some(&agent), "thread_auth_required", Some(data));
            }
        }
    }

    fn thread(&self, record: &Record, agent: Option<&Agent>, kind: &str, data: Option<Value>) {
        let handle = record.handle(agent, &self.parallax.runtime_name);
        self.parallax.bus.publish(Envelope::of_thread(&record.tenant, &handle, kind, data));
    }

    /// What its agent's state means to a thread.
    fn thread_state(&self, agent: &Agent, asked: bool) {
        let threads = &self.parallax.threads;
        let own = threads.get(&agent.id).filter(|record| record.tenant == agent.tenant);
        let Some(record) = own else { return };
        match agent.state {
            State::Ready if !record.ready => {
                let record = threads.change(&record.id, |record| record.ready = true).unwrap_or(record);
                self.thread(&record, Some(agent), "thread_ready", None);
            }
            State::Blocked if asked => {
                let asked = agent.evidence.clone();
                let info =
                    json!({ "prompt": asked, "promptInfo": { "prompt": asked }, "autoResponded": false });
                self.thread(&record, Some(agent), "thread_blocked", Some(info));
            }
            State::Stopping if !record.asked_to_stop => {
                threads.change(&record.id, |record| record.asked_to_stop = true);
            }
            State::Exited | State::Failed if !record.ended => self.thread_end(&record, agent),
            _ => {}
        }
    }

    fn thread_end(&self, record: &Record, agent: &Agent) {
        let reason = words::end(agent);
        let failed = agent.state == State::Failed || words::crashed(agent, record.asked_to_stop);
        let record = self.parallax.threads.change(&record.id, |record| {
            record.ended = true;
            if failed {
                let summary = record.summary.clone().unwrap_or_else(|| reason.clone());
                record.completion = Some(Completion { state: "failed".into(), summary });
            }
        });
        let Some(record) = record else { return };
        if failed {
            self.thread(&record, Some(agent), "thread_failed", Some(json!({ "error": reason })));
        } else {
            self.thread(&record, Some(agent), "thread_stopped", Some(json!({ "reason": reason })));
        }
    }

    /// Whoever waits for the end of a message's turn would wait for ever.
    fn not_delivered(&self, id: &str, delivery: &Delivery) {
        let Some(record) = self.parallax.threads.get(id).filter(|record| !record.ended) else { return };
        let agent = self.parallax.supervisor.get(&self.parallax.eye, id).ok();
        let why = delivery.why.as_deref().unwrap_or("nobody knows why");
        let error = format!("message {} is {}: {why}", delivery.id, delivery.stage.as_str());
        self.thread(&record, agent.as_ref(), "thread_failed", Some(json!({ "error": error })));
    }

    /// A message was answered: told once, and only once the thread's handle says so, too.
    fn turn(&mut self, tenant: &str, id: &str, turn: &Turn) {
        let told = self.agents.entry(id.to_owned()).or_default();
        if told.turns.contains(&turn.message) {
            return;
        }
        told.turns.push_back(turn.message.clone());
        if told.turns.len() > TURNS {
            told.turns.pop_front();
        }
        let output = text::last(&turn.output);
        self.message(tenant, id, "response", output.to_owned(), Some(json!({ "inReplyTo": turn.message })));
        let summary = text::summary(output);
        let changed = self.parallax.threads.change(id, |record| {
            record.summary = Some(summary.clone());
            record.completion = Some(Completion { state: "partial".into(), summary: summary.clone() });
        });
        let Some(record) = changed else { return };
        let mut agent = self.parallax.supervisor.get(&self.parallax.eye, id).ok();
        if let Some(agent) = agent.as_mut().filter(|agent| agent.state == State::Busy) {
            // The turn is over, whether the state was written down before it or after it.
            agent.state = State::Ready;
        }
        let mut data = json!({ "output": output, "summary": summary });
        if let Some(confidence) = text::confidence(output) {
            data["confidence"] = json!(confidence);
        }
        self.thread(&record, agent.as_ref(), "thread_turn_complete", Some(data));
    }
}

/// A login, under all the names that Parallax has for its parts.
fn login_words(login: Option<&Login>, agent: &Agent) -> Value {
    let url = login.and_then(|login| login.url.as_deref());
    let code = login.and_then(|login| login.user_code.as_deref());
    let named = login.map(|login| login.method.as_str());
    let what = match (url, code) {
        (Some(url), Some(code)) => format!("{} needs a login: open {url} and enter {code}", agent.name),
        (Some(url), None) => format!("{} needs a login: open {url}", agent.name),
        (None, _) => format!("{} needs a login: {}", agent.name, agent.evidence),
    };
    // The control plane has no way to hand it over; whoever reads this has.
    let then = match named {
        Some("paste-code") if url.is_some() => format!(", then: stockade login {} --code -", agent.id),
        Some("callback") if url.is_some() => format!(", then: stockade login {} --callback-url -", agent.id),
        _ => String::new(),
    };
    let instructions = format!("{what}{then}");
    let method = match named {
        Some("device-code") => "device_code",
        Some("api-key") => "api_key",
        Some("paste-code" | "callback") => "oauth_browser",
        _ => "unknown",
    };
    json!({
        "url": url,
        "loginUrl": url,
        "deviceCode": code,
        "method": method,
        "expiresAt": login.and_then(|login| login.expires_at.as_deref()),
        "callback": login.and_then(|login| login.callback.as_deref()),
        "instructions": instructions,
    })
}
