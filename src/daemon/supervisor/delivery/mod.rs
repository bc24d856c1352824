//! Messages that surely arrive, or of which is said why not.
//!
//! ```text
//!  queued ─(safe to type)─▶ typing ─▶ typed ─(Enter)─▶ submitted ─▶ taken ─(turn over)─▶ answered
//!     │      written down first │   seen in the │      seen: it works, │
//!     ▼                         ▼   composer    ▼      composer empty  ▼
//!  failed: nothing was typed    uncertain: nobody knows; never typed again
//! ```
//! One of them at a time for each agent, in their order. A message is typed by its own task: half of one is never left
//! because whoever sent it has gone.

pub(super) mod answer;
pub(super) mod answers;
pub(super) mod book;
mod typist;

use std::sync::Arc;
use std::time::Duration;

use super::agent::Handle;
use super::shared::Shared;
use super::times::{iso, now};
use super::{Result, SupervisorError};
use crate::agents::typing::clean;
use crate::api::agent::{Send, Sent};
use crate::api::events::Happened;
use crate::api::{Delivery, Stage, State};
use crate::daemon::quota::Excess;
use book::{Entry, Given, WAITING};

/// How long an answer is waited for where nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// When to come again where too many messages wait.
const AGAIN: Duration = Duration::from_secs(5);

/// Longest message.
const LONGEST: usize = 256 * 1024;

/// Longest key: the last ones of each agent are kept.
const LONGEST_KEY: usize = 256;

/// Takes a message, and waits for what the caller wants to know of it.
pub(super) async fn send(shared: &Arc<Shared>, handle: Arc<Handle>, message: Send) -> Result<Sent> {
    let entry = entry(shared, &message)?;
    let mut id = entry.delivery.id.clone();
    let state = handle.shown.borrow().state;
    // What became of an earlier message can still be asked for.
    if matches!(state, State::Stopping | State::Exited | State::Failed) && !handle.book.knows(&entry) {
        let what = "it takes no messages any more";
        return Err(SupervisorError::State { id: handle.id.clone(), state: state.as_str(), what });
    }
    if entry.hurried && handle.eye().is_some() && handle.book.is_under_way() && !handle.book.knows(&entry) {
        let what = "it has not answered another message yet: ask for this one to be queued";
        return Err(SupervisorError::State { id: handle.id.clone(), state: state.as_str(), what });
    }
    match handle.book.give(entry) {
        Given::New => attend(shared, &handle),
        Given::Known(known) => id = known,
        Given::Another => {
            let detail = "it belongs to another message: take a new one for each".into();
            return Err(SupervisorError::Field { field: "key", detail, malformed: false });
        }
        Given::Full => {
            let detail = format!("{WAITING} messages wait for agent {} already", handle.id);
            let (whose, most) = (format!("agent {}", handle.id), WAITING as u64);
            return Err(Excess::new(&whose, "messages", [most, most, 1], detail, AGAIN).into());
        }
    }
    let patience = message.timeout_ms.map_or(PATIENCE, Duration::from_millis);
    let is_enough = |delivery: &Delivery| match delivery.stage {
        stage if stage.is_final() => true,
        Stage::Taken => !message.wait,
        Stage::Queued => message.queue && !message.wait && delivery.why.is_some(),
        _ => false,
    };
    let came = came_to(&handle, &id, is_enough);
    let came = match message.wait {
        true => tokio::time::timeout(patience, came).await,
        // It is typed, or not, within the limits of whoever types.
        false => Ok(came.await),
    };
    match came {
        Ok(Some(entry)) => outcome(&handle, entry, message.wait),
        Ok(None) => Err(gone(&handle)),
        Err(_) => {
            let stage = handle.book.get(&id).map_or("gone", |entry| entry.delivery.stage.as_str());
            let what = format!("the answer of agent {} to message {id} (which is {stage})", handle.id);
            Err(SupervisorError::Timeout { what, after: patience })
        }
    }
}

fn gone(handle: &Handle) -> SupervisorError {
    let state = handle.shown.borrow().state.as_str();
    SupervisorError::State { id: handle.id.clone(), state, what: "the message is no longer known" }
}

fn entry(shared: &Shared, message: &Send) -> Result<Entry> {
    let field =
        |field, detail: &str| SupervisorError::Field { field, detail: detail.to_owned(), malformed: false };
    let text = clean(&message.message).trim().to_owned();
    if text.is_empty() {
        return Err(field("message", "there is nothing in it to be typed: use input for single keys"));
    }
    if text.len() > LONGEST {
        let detail = "it is longer than 262144 bytes: put it into a file, and tell the agent its name";
        return Err(field("message", detail));
    }
    if message.key.as_ref().is_some_and(|key| key.len() > LONGEST_KEY) {
        return Err(field("key", "it is longer than 256 bytes"));
    }
    let delivery = Delivery {
        id: uuid::Uuid::now_v7().to_string(),
        key: message.key.clone(),
        stage: Stage::Queued,
        why: None,
        bytes: text.len(),
        verified: false,
        queued_at: iso(now()),
        typed_at: None,
        taken_at: None,
        ended_at: None,
        response: None,
    };
    let hurried = !message.queue && !message.wait;
    let digest = shared.store.digest(text.as_bytes());
    Ok(Entry { delivery, digest, text, offset: 0, hurried, refused: None })
}

/// Waits until enough has become of it; none: it is no longer known.
async fn came_to(handle: &Handle, id: &str, is_enough: impl Fn(&Delivery) -> bool) -> Option<Entry> {
    let mut changes = handle.book.changes();
    loop {
        let entry = handle.book.get(id)?;
        if is_enough(&entry.delivery) {
            return Some(entry);
        }
        // The sender lives in the handle.
        let _ = changes.changed().await;
    }
}

/// What it came to, for whoever sent it.
fn outcome(handle: &Handle, entry: Entry, wait: bool) -> Result<Sent> {
    let Entry { delivery, refused, .. } = entry;
    if let Some((state, what)) = refused {
        handle.book.forget(&delivery.id);
        return Err(SupervisorError::State { id: handle.id.clone(), state: state.as_str(), what });
    }
    let Delivery { id, stage, why, response, .. } = delivery;
    if matches!(stage, Stage::Failed | Stage::Uncertain) {
        let why = why.unwrap_or_else(|| "nobody knows why".into());
        return Err(SupervisorError::NotDelivered { id: handle.id.clone(), message: id, stage, why });
    }
    Ok(Sent { id, sent: stage != Stage::Queued, stage, why, response: response.filter(|_| wait) })
}

/// Sees to it that somebody delivers what waits.
pub(super) fn attend(shared: &Arc<Shared>, handle: &Arc<Handle>) {
    if !handle.book.attend() {
        return;
    }
    let (shared, handle) = (shared.clone(), handle.clone());
    tokio::spawn(async move {
        while let Some(entry) = handle.book.next() {
            typist::deliver(&shared, &handle, entry).await;
        }
    });
}

/// Nothing more becomes of it: kept, and told to everybody.
fn give_up(shared: &Shared, handle: &Handle, id: &str, stage: Stage, why: &str) {
    let Some(delivery) = handle.book.end(id, stage, Some(why.to_owned())) else { return };
    shared.events.publish_for(&handle.tenant, Some(&handle.id), Happened::NotDelivered(delivery));
}
