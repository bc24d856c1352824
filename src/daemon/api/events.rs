//! What happens, as server-sent events: `GET /v1/events`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::query::Query;
use super::stream::{self, Source};
use crate::api::events::Event;
use crate::daemon::Daemon;
use crate::daemon::authz::Caller;
use crate::daemon::events::Events;
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;

/// So long without an event, and a comment shows that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What happens to the agents that the caller may see. Each has a cursor: with `Last-Event-ID` (or `since`) it goes on after it.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        ("Last-Event-ID" = Option<u64>, Header, description = "The last cursor that was seen"),
        ("since" = Option<u64>, Query, description = "The same; 0: everything that is kept"),
        ("agent" = Option<String>, Query, description = "Only this one's"),
        ("follow" = Option<bool>, Query, description = "false: end after what has happened so far")
    ),
    responses((status = 200, description = "`id:` is the cursor, `event:` the type, `data:` all of it", body = Event, content_type = "text/event-stream"))
)]
pub async fn follow(
    State(daemon): State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Fault> {
    query.only(&["since", "agent", "follow"])?;
    let live = query.one("follow").is_none() || query.flag("follow")?;
    let since = match headers.get("last-event-id") {
        Some(value) => Some(last_event(value)?),
        None => query.number("since")?,
    };
    // Whoever only reads what has happened reads all of it.
    let since = if live { since } else { since.or(Some(0)) };
    let events = daemon.supervisor.events().clone();
    let (past, live_events) = events.follow(since);
    let source = Feed {
        caller,
        agent: query.one("agent").map(str::to_owned),
        last: past.last().map(|event| event.cursor).or(since),
        past: past.into(),
        live: live.then_some(live_events),
        events,
        begun: false,
    };
    Ok(stream::answer("text/event-stream", watch, source))
}

fn last_event(value: &http::HeaderValue) -> Result<u64, Fault> {
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| Fault::malformed_field("Last-Event-ID", "Last-Event-ID: use the cursor of an event"))
}

struct Feed {
    caller: Caller,
    agent: Option<String>,
    past: VecDeque<Arc<Event>>,
    live: Option<broadcast::Receiver<Arc<Event>>>,
    events: Events,
    last: Option<u64>,
    begun: bool,
}

impl Feed {
    fn shows(&self, event: &Event) -> bool {
        let node_wide = event.agent.is_none() && event.tenant.is_empty();
        (node_wide || self.caller.sees(&event.tenant))
            && self.agent.as_ref().is_none_or(|wanted| event.agent.as_ref().is_none_or(|id| id == wanted))
    }
}

impl Source for Feed {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !std::mem::replace(&mut self.begun, true) {
            // The headers go out with it, so that the client knows at once that it is connected.
            return Ok(Some(Bytes::from_static(b"retry: 2000\n\n")));
        }
        loop {
            if let Some(event) = self.past.pop_front() {
                self.last = Some(event.cursor);
                if self.shows(&event) {
                    return Ok(Some(written(&event)));
                }
                continue;
            }
            let Some(live) = &mut self.live else { return Ok(None) };
            match tokio::time::timeout(HEARTBEAT, live.recv()).await {
                Err(_) => return Ok(Some(Bytes::from_static(b": \n\n"))),
                Ok(Ok(event)) => self.past.push_back(event),
                Ok(Err(RecvError::Closed)) => return Ok(None),
                // Too slow: what was missed is in the ring, or the ring says that it is not.
                Ok(Err(RecvError::Lagged(_))) => {
                    let (past, live) = self.events.follow(self.last);
                    self.past = past.into();
                    self.live = Some(live);
                }
            }
        }
    }
}

fn written(event: &Event) -> Bytes {
    let data = serde_json::to_value(event).expect("an event is always JSON");
    let kind = data["type"].as_str().unwrap_or("other");
    format!("id: {}\nevent: {kind}\ndata: {data}\n\n", event.cursor).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::events::{Happened, Turn};

    #[test]
    fn an_event_is_one_frame_whatever_is_in_it() {
        let turn = Turn { message: "m".into(), output: "two\nlines\n\nid: 7".into() };
        let event = Event {
            cursor: 3,
            at: "2026-01-31T12:00:00Z".into(),
            tenant: "t".into(),
            agent: Some("a".into()),
            happened: Happened::TurnComplete(turn),
        };
        let text = String::from_utf8(written(&event).to_vec()).expect("text");
        assert!(text.starts_with("id: 3\nevent: turnComplete\ndata: {"), "{text}");
        assert_eq!(text.matches("\n").count(), 4, "{text}");
        let data = text.lines().nth(2).and_then(|l| l.strip_prefix("data: ")).expect("a data line");
        assert_eq!(serde_json::from_str::<Event>(data).expect("an event"), event);
    }
}
