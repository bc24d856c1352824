//! Answers questions of an agent's in the user's stead: only those that its kind's file says may be, only where whoever
//! started it lets that happen, and only as long as just that question is on the screen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tracing::warn;

use super::super::agent::Handle;
use super::super::screens::{Eye, Seen};
use super::super::shared::Shared;
use crate::agents::typing::key;
use crate::agents::view::View;
use crate::agents::{Answered, Screen};
use crate::api::events::{Happened, Question};
use crate::audit::Event;
use crate::audit::text::Name;

/// Between the keys of one answer.
const BETWEEN: Duration = Duration::from_millis(300);
/// How long a question may stay on the screen after it was answered.
const GONE: Duration = Duration::from_secs(5);
/// How often the same question is answered at most.
const TIMES: u32 = 3;
const LOOK: Duration = Duration::from_millis(50);

/// What may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leave {
    /// As the request says; none: what is safe.
    pub(crate) answers: Option<Vec<String>>,
    /// The workspace that it names.
    pub(crate) workspace: Option<String>,
}

impl Leave {
    /// Whether what is safe may be answered at all.
    pub(crate) fn allows_safe(&self) -> bool {
        self.answers.as_ref().is_none_or(|names| names.iter().any(|name| name == "safe"))
    }

    fn allows(&self, screen: &Screen, view: &View) -> bool {
        let named = self.answers.iter().flatten().any(|name| *name == screen.name);
        // A page after a login is answered by whoever saw that one.
        let is_there = !screen.answer.is_empty() && !screen.after_login;
        is_there
            && match screen.answered {
                _ if named => true,
                Answered::Named => false,
                Answered::Always => self.allows_safe(),
                Answered::Workspace => self.allows_safe() && self.is_own(view),
            }
    }

    /// Whether the screen names the workspace that the agent was given, by its path or as `(name)`.
    fn is_own(&self, view: &View) -> bool {
        let Some(path) = &self.workspace else { return false };
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let all = view.region(None, None);
        all.has(path) || !name.is_empty() && all.has(&format!("({name})"))
    }
}

/// Answers until nobody follows the agent's screen any more.
pub(crate) async fn attend(
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    leave: Leave,
    eye: Eye,
    mut seen: watch::Receiver<Option<Seen>>,
) {
    let mut times = std::collections::HashMap::new();
    loop {
        let screen = seen.borrow_and_update().as_ref().and_then(|seen| seen.observation.screen.clone());
        let rule = screen.and_then(|name| eye.kind.screens.iter().find(|screen| screen.name == name));
        if let Some(rule) = rule.filter(|rule| !rule.answer.is_empty()) {
            let tried: &mut u32 = times.entry(rule.name.clone()).or_default();
            if *tried < TIMES && answer(&shared, &handle, &leave, &eye, rule).await {
                *tried += 1;
                let question = Question {
                    screen: rule.name.clone(),
                    evidence: rule.evidence.clone(),
                    keys: rule.answer.clone(),
                };
                let happened = Happened::QuestionAnswered(question);
                shared.events.publish_for(&handle.tenant, Some(&handle.id), happened);
            }
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}

/// Before the deed: somebody decided this for the user.
fn record(shared: &Shared, handle: &Handle, rule: &Screen) {
    let Ok(agent) = handle.id.parse() else { return };
    shared.audit.record(Event::QuestionAnswered { agent, screen: Name::of(&rule.name) });
}

/// Presses the keys while the question is there, and waits until it is not; whether it was answered.
async fn answer(shared: &Shared, handle: &Handle, leave: &Leave, eye: &Eye, rule: &Screen) -> bool {
    let is_there = async || {
        let sight = eye.look().await?;
        (sight.look.screen.as_ref() == Some(&rule.name) && leave.allows(rule, &sight.look.view)).then_some(())
    };
    let hands = handle.hands.lock().await;
    for (n, name) in rule.answer.iter().enumerate() {
        if n > 0 {
            tokio::time::sleep(BETWEEN).await;
        }
        if is_there().await.is_none() {
            return false;
        }
        if n == 0 {
            record(shared, handle, rule);
        }
        // Whoever reads nothing is not waited for: meanwhile nobody else can type.
        let typed = tokio::time::timeout(GONE, handle.terminal.input(Bytes::from(key(name)))).await;
        if !matches!(typed, Ok(Ok(()))) {
            return false;
        }
    }
    drop(hands);
    let begun = Instant::now();
    while begun.elapsed() < GONE {
        match eye.look().await {
            Some(sight) if sight.look.screen.as_ref() == Some(&rule.name) => tokio::time::sleep(LOOK).await,
            _ => return true,
        }
    }
    warn!(agent = handle.id, screen = rule.name, "a question was answered, and is still there");
    true
}
