//! The events that Parallax hears of, to every socket that may hear them.
//!
//! An event on which a workflow waits is kept if nobody listened when it happened, and told to the next one who does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::ws::Utf8Bytes;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::handle;
use crate::daemon::authz::Caller;

/// How many events a socket may be behind.
const BEHIND: usize = 1024;
/// How many events are kept for somebody who is away.
const MISSED: usize = 256;
/// Who waits for one of these waits for ever if it is lost.
const AWAITED: &[&str] = &["thread_turn_complete", "thread_failed", "thread_stopped", "thread_ready"];

/// One event, written.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Whose.
    pub tenant: String,
    /// Its name.
    pub event: &'static str,
    /// Which agent it is about, if it names one.
    pub agent: Option<String>,
    /// Which thread it is about.
    pub thread: Option<String>,
    /// Only for sockets that asked for this agent by name.
    pub scoped: bool,
    /// As it is sent.
    pub text: Utf8Bytes,
    /// Whether somebody may wait for it.
    pub awaited: bool,
}

impl Envelope {
    /// About an agent.
    pub fn of_agent(tenant: &str, agent: &str, event: &'static str, data: &Value) -> Self {
        Self {
            tenant: tenant.into(),
            event,
            agent: Some(agent.into()),
            thread: None,
            scoped: false,
            text: written(event, data),
            awaited: false,
        }
    }

    /// About an agent, and only for those who asked for it by name.
    pub fn for_followers(tenant: &str, agent: &str, event: &'static str, data: &Value) -> Self {
        Self { scoped: true, ..Self::of_agent(tenant, agent, event, data) }
    }

    /// About a thread: `kind` is `thread_ready` and the like.
    pub fn of_thread(tenant: &str, thread: &handle::ThreadHandle, kind: &str, data: Option<Value>) -> Self {
        let mut event = json!({
            "threadId": thread.id,
            "executionId": thread.execution_id,
            "type": kind,
            "timestamp": handle::now(),
        });
        if let Some(data) = data {
            event["data"] = data;
        }
        Self {
            tenant: tenant.into(),
            event: "thread_event",
            agent: None,
            thread: Some(thread.id.clone()),
            scoped: false,
            text: written("thread_event", &json!({ "thread": thread, "event": event })),
            awaited: AWAITED.contains(&kind),
        }
    }
}

fn written(event: &str, data: &Value) -> Utf8Bytes {
    json!({ "event": event, "data": data, "timestamp": handle::now() }).to_string().into()
}

/// To everybody who listens. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    sender: broadcast::Sender<Arc<Envelope>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last: u64,
    listeners: Vec<(u64, Caller)>,
    missed: VecDeque<Arc<Envelope>>,
}

impl Default for Bus {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(BEHIND), state: Arc::default() }
    }
}

/// One who listens. Dropped: one who does no more.
pub struct Listener {
    bus: Bus,
    number: u64,
    caller: Caller,
    missed: VecDeque<Arc<Envelope>>,
    receiver: broadcast::Receiver<Arc<Envelope>>,
}

impl Bus {
    /// Tells everybody who may hear it.
    pub fn publish(&self, envelope: Envelope) {
        let envelope = Arc::new(envelope);
        let mut state = self.state();
        let heard = state.listeners.iter().any(|(_, caller)| caller.sees(&envelope.tenant));
        if envelope.awaited && !heard {
            if state.missed.len() == MISSED {
                state.missed.pop_front();
            }
            state.missed.push_back(envelope.clone());
        }
        // Under the lock: who comes in between gets it once, from here or from there.
        let _ = self.sender.send(envelope);
    }

    /// Whether anybody hears what is this tenant's.
    pub fn is_heard(&self, tenant: &str) -> bool {
        self.state().listeners.iter().any(|(_, caller)| caller.sees(tenant))
    }

    /// Listens from now on. With `counts` it is told what nobody heard, and what it hears is not kept for others.
    pub fn listen(&self, caller: Caller, counts: bool) -> Listener {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        let mut missed = VecDeque::new();
        if counts {
            state.listeners.push((number, caller.clone()));
            state.missed.retain(|envelope| {
                let own = caller.sees(&envelope.tenant);
                if own {
                    missed.push_back(envelope.clone());
                }
                !own
            });
        }
        Listener { bus: self.clone(), number, caller, missed, receiver: self.sender.subscribe() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl Listener {
    /// The next event; none: it is too far behind.
    pub async fn next(&mut self) -> Option<Arc<Envelope>> {
        if let Some(missed) = self.missed.pop_front() {
            return Some(missed);
        }
        loop {
            let envelope = self.receiver.recv().await.ok()?;
            if self.caller.sees(&envelope.tenant) {
                return Some(envelope);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.bus.state();
        state.listeners.retain(|(number, _)| *number != self.number);
        // What it was to be told and was not is still to be told.
        for envelope in self.missed.drain(..).rev() {
            state.missed.push_front(envelope);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::daemon::authz::Role;

    fn caller(tenant: &str) -> Caller {
        Caller {
            identity: "spiffe://example.org/x".into(),
            role: Role::Operator,
            tenant: tenant.parse().expect("a name"),
            serial: String::new(),
        }
    }

    fn event(tenant: &str, thread: &str, awaited: bool) -> Envelope {
        Envelope {
            thread: Some(thread.into()),
            awaited,
            ..Envelope::of_agent(tenant, "a", "thread_event", &json!({}))
        }
    }

    fn next(listener: &mut Listener) -> Option<String> {
        listener.next().now_or_never().flatten().and_then(|envelope| envelope.thread.clone())
    }

    #[test]
    fn what_nobody_heard_is_told_once_to_the_next_who_listens() {
        let bus = Bus::default();
        bus.publish(event("t", "1", true));
        bus.publish(event("t", "2", false));
        bus.publish(event("other", "3", true));
        let mut first = bus.listen(caller("t"), true);
        bus.publish(event("t", "4", true));
        assert_eq!(next(&mut first).as_deref(), Some("1"));
        assert_eq!(next(&mut first).as_deref(), Some("4"));
        assert_eq!(next(&mut first), None);
        drop(first);
        let mut second = bus.listen(caller("t"), true);
        assert_eq!(next(&mut second), None);
    }

    #[test]
    fn what_was_not_told_before_the_listener_went_is_kept() {
        let bus = Bus::default();
        bus.publish(event("t", "1", true));
        bus.publish(event("t", "2", true));
        let mut first = bus.listen(caller("t"), true);
        assert_eq!(next(&mut first).as_deref(), Some("1"));
        drop(first);
        let mut second = bus.listen(caller("t"), true);
        assert_eq!(next(&mut second).as_deref(), Some("2"));
    }

    #[test]
    fn nobody_hears_of_another_tenant() {
        let bus = Bus::default();
        let mut listener = bus.listen(caller("t"), true);
        bus.publish(event("other", "1", true));
        assert_eq!(next(&mut listener), None);
    }
}
