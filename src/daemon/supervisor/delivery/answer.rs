//! The text of a turn: from what the agent has written down, where it has, else from its terminal.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::super::agent::Handle;
use super::super::run;
use crate::agents::{kind, turn_log};
use crate::api::agent::Exec;
use crate::daemon::terminal::{Spoken, newest};

/// How long its log may take to be printed.
const PATIENCE_MS: u64 = 5000;
/// How often it is looked at, and how long after the time before: it may be written a moment after the screen says that
/// the turn is over.
const LOOKS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(300);

/// What was answered to this, up to this offset of the terminal's output.
pub(crate) async fn of(handle: &Arc<Handle>, spoken: Spoken, end: u64, rules: Option<kind::Turn>) -> String {
    let log = rules.as_ref().and_then(|rules| rules.log.as_ref());
    if let Some(log) = log
        && let Some(text) = written(handle, log, &spoken.text).await
    {
        return newest(&text);
    }
    match handle.terminal.answer(spoken, end, rules).await {
        Ok(text) => text,
        Err(error) => {
            warn!(agent = handle.id, %error, "the text of a turn cannot be read");
            String::new()
        }
    }
}

/// As the agent wrote it down: read by its own user, within its walls, and no more of it than another program may print.
async fn written(handle: &Arc<Handle>, log: &kind::TurnLog, said: &str) -> Option<String> {
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(BETWEEN).await;
        }
        let exec = Exec { command: log.command.clone(), timeout_ms: Some(PATIENCE_MS), ..Exec::default() };
        // An agent that has ended can print nothing any more.
        let printed = run::exec(handle.clone(), exec).await.ok()?;
        if printed.exit_code != 0 {
            return None;
        }
        if let Some(text) = turn_log::text(log, &printed.stdout, said) {
            return Some(text);
        }
    }
    None
}
