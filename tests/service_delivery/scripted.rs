//! A script in place of a CLI, and what it says that it got.

use stockade::api::agent::{Send, Sent, Spawn};
use stockade::api::{Delivery, Stage};
use stockade::daemon::supervisor::SupervisorError;

use crate::world::{World, patiently, soon};

const SCRIPT: &str = include_str!("cli.py");

/// An agent of this kind, under the policy of shells, in a workspace of its own.
pub fn cli(id: &str, kind: &str, traits: &[&str]) -> Spawn {
    let words = ["python3", "-c", SCRIPT, kind].into_iter().chain(traits.iter().copied()).map(str::to_owned);
    Spawn {
        id: Some(id.into()),
        kind: kind.into(),
        policy: Some("shell".into()),
        command: Some(words.collect()),
        workspace_id: Some(id.into()),
        ..Spawn::default()
    }
}

/// A message whose answer is waited for.
pub fn asks(text: &str) -> Send {
    Send { message: text.into(), wait: true, timeout_ms: Some(60_000), ..Send::default() }
}

/// One that may wait.
pub fn queued(text: &str) -> Send {
    Send { message: text.into(), queue: true, ..Send::default() }
}

impl World {
    /// Sends.
    pub async fn send(&self, id: &str, message: Send) -> Result<Sent, SupervisorError> {
        patiently(self.supervisor.send(&self.me, id, message)).await
    }

    /// What the agent answers.
    pub async fn told(&self, id: &str, text: &str) -> String {
        let sent = self.send(id, asks(text)).await.unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(sent.stage, Stage::Answered);
        sent.response.expect("an answer")
    }

    /// What became of a message.
    pub fn delivery(&self, id: &str, message: &str) -> Delivery {
        let all = self.supervisor.deliveries(&self.me, id).expect("known");
        all.into_iter().find(|delivery| delivery.id == message).expect("it is known")
    }

    /// Waits until a message has come so far.
    pub async fn comes_to(&self, id: &str, message: &str, stage: Stage) -> Delivery {
        let what = format!("{message} is {}", stage.as_str());
        soon(&what, async || Some(self.delivery(id, message)).filter(|delivery| delivery.stage == stage))
            .await
    }

    /// Lets the script go on from the page that it shows.
    pub async fn go_on(&self, id: &str) {
        let exec = stockade::api::agent::Exec {
            command: ["sh", "-c", "echo > go"].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        let ran = patiently(self.supervisor.exec(&self.me, id, exec)).await.expect("run");
        assert_eq!(ran.exit_code, 0, "{}", ran.stderr);
    }
}

/// How the script tells of a message.
pub fn got(text: &str, messages: usize, keys: &str) -> String {
    let end: String = text.chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect();
    let end = end.replace('\n', "\\n");
    format!(
        "I got {} characters in {} lines, ending '{end}'.\n\nMessages: {messages}. Other keys: {keys}.",
        text.chars().count(),
        text.matches('\n').count() + 1
    )
}
