//! A message: typed as a person would type it, submitted, and answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::agent::{Command, Handle, Turn};
use super::{Result, SupervisorError};
use crate::api::State;
use crate::api::agent::{Send, Sent};
use crate::daemon::terminal::Spoken;

/// How long an answer is waited for where nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a message waits for an agent that is starting.
const START: Duration = Duration::from_secs(20);

/// Longest text that is typed as it is: longer ones are pasted, where the agent knows what that is.
const TYPED: usize = 200;

/// Longest message.
const LONGEST: usize = 256 * 1024;

/// Longest key: the last ones of each agent are kept.
const LONGEST_KEY: usize = 256;

/// Bracketed paste.
const PASTE: u16 = 2004;

pub(super) async fn send(handle: Arc<Handle>, message: Send) -> Result<Sent> {
    let text = plain(&message.message);
    if text.is_empty() {
        return Err(field("there is nothing in it to be typed: use input for single keys"));
    }
    if text.len() > LONGEST {
        return Err(field("it is longer than 262144 bytes: put it into a file, and tell the agent its name"));
    }
    if message.key.as_ref().is_some_and(|key| key.len() > LONGEST_KEY) {
        let detail = format!("it is longer than {LONGEST_KEY} bytes");
        return Err(SupervisorError::Field { field: "key", detail, malformed: false });
    }
    started(&handle).await?;
    let patience = message.timeout_ms.map_or(PATIENCE, Duration::from_millis);
    let wait = message.wait;
    // Of its own: half a message is never left there because whoever sent it has gone.
    let typed = tokio::spawn(submit(handle.clone(), text, message.key)).await;
    let gone = |_| SupervisorError::Io {
        what: "the message was not typed".into(),
        source: std::io::ErrorKind::Other.into(),
    };
    let (id, answered) = typed.map_err(gone)??;
    let response = match answered.filter(|_| wait) {
        None => None,
        Some(answered) => match tokio::time::timeout(patience, answered).await {
            Ok(answer) => answer.ok(),
            Err(_) => {
                let what = format!("the answer of agent {} to message {id}", handle.id);
                return Err(SupervisorError::Timeout { what, after: patience });
            }
        },
    };
    Ok(Sent { id, sent: true, response })
}

fn field(detail: &str) -> SupervisorError {
    SupervisorError::Field { field: "message", detail: detail.into(), malformed: false }
}

/// Waits until it may have shown itself; what is typed before is lost in many of them.
async fn started(handle: &Handle) -> Result<()> {
    let mut shown = handle.shown.subscribe();
    let over = shown.wait_for(|agent| agent.state != State::Starting);
    // One that never shows itself is typed at nevertheless.
    let _ = tokio::time::timeout(START, over).await;
    let state = handle.shown.borrow().state;
    if state.is_final() || state == State::Stopping {
        let what = "it takes no messages any more";
        return Err(SupervisorError::State { id: handle.id.clone(), state: state.as_str(), what });
    }
    Ok(())
}

/// Without escape codes and control characters, of which no message consists.
fn plain(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut letters = message.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' if letters.next_if_eq(&'[').is_some() => {
                // Up to the final byte.
                while letters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\r' => {
                letters.next_if_eq(&'\n');
                text.push('\n');
            }
            '\n' | '\t' => text.push(letter),
            other if other.is_control() => {}
            other => text.push(other),
        }
    }
    text.trim().to_owned()
}

/// Types and submits; the message's id, and the way its answer comes. A message of the same key is not typed again.
async fn submit(
    handle: Arc<Handle>,
    text: String,
    key: Option<String>,
) -> Result<(String, Option<oneshot::Receiver<String>>)> {
    let mut keys = handle.typing.lock().await;
    if let Some((_, id)) = key.as_ref().and_then(|key| keys.iter().find(|(known, _)| known == key)) {
        return Ok((id.clone(), None));
    }
    let failed = |source| SupervisorError::Io { what: format!("typing to agent {}", handle.id), source };
    let before = handle.terminal.screen().await.map_err(failed)?;
    let paste = (text.contains('\n') || text.chars().count() > TYPED) && handle.terminal.is_on(PASTE).await;
    let bytes = if paste { format!("\x1b[200~{text}\x1b[201~") } else { text.clone() };
    handle.terminal.input(Bytes::from(bytes)).await.map_err(failed)?;
    // In one write with the text some take it for a part of it.
    tokio::time::sleep(pause(text.chars().count())).await;
    handle.terminal.input(Bytes::from_static(b"\r")).await.map_err(failed)?;
    let id = uuid::Uuid::now_v7().to_string();
    if let Some(key) = &key {
        keys.push((key.clone(), id.clone()));
        let surplus = keys.len().saturating_sub(super::agent::KEYS);
        keys.drain(..surplus);
    }
    let (answered, answer) = oneshot::channel();
    let turn = Turn {
        message: id.clone(),
        spoken: Spoken { text, before },
        answered,
        keys: key.map(|_| keys.clone()),
    };
    // A task that is gone has told of the end.
    let _ = handle.commands.send(Command::Turn(turn)).await;
    Ok((id, Some(answer)))
}

/// Between the text and the key that submits it.
fn pause(characters: usize) -> Duration {
    let longer = u64::try_from(characters / 40).unwrap_or(u64::MAX);
    Duration::from_millis(longer.saturating_add(50).min(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_no_codes() {
        assert_eq!(plain(" a\x1b[31mb\x1b[0m\r\nc\td\x03\x07\u{9b}e\n "), "ab\nc\tde");
        assert_eq!(plain("\x1b[200~x\x1b[201~"), "x");
        assert_eq!(plain("\x1b\x1b["), "");
    }

    #[test]
    fn a_longer_message_is_submitted_later() {
        assert_eq!([0, 1000, 4000, 1_000_000].map(|n| pause(n).as_millis()), [50, 75, 150, 400]);
    }
}
