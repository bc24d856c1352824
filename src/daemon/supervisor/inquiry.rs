//! Asks an agent what it has written down about itself, where its screen leaves room for doubt.
//!
//! It is read by a command of its kind's, within the agent's walls and as its user: whatever stands in its place (a link, a
//! FIFO, a file without an end), the agent could read itself, and it costs one process for a limited time. An agent that
//! puts nothing out is asked nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::agent::Handle;
use super::run;
use crate::agents::kind::Status;
use crate::agents::{Doubt, Watcher};
use crate::api::agent::Exec;

/// It is written down a moment after the screen shows it.
const QUIET: Duration = Duration::from_millis(150);
/// Where output does not pause, it is asked after so long all the same.
const LONGEST: Duration = Duration::from_secs(1);
/// Between two questions: longer each time that the answer is the same.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// How long an answer may take.
const PATIENCE_MS: u64 = 2000;
/// How often it is asked again where there was none: on a machine that has much to do it may take longer.
const AGAIN: u32 = 2;

/// Who asks.
pub(crate) struct Inquiry {
    rule: Status,
    handle: Arc<Handle>,
    /// None: it could not be asked, or not in time.
    answers: (mpsc::Sender<Option<String>>, mpsc::Receiver<Option<String>>),
    pace: Pace,
}

impl Inquiry {
    /// Asks this agent by this rule.
    pub(crate) fn new(rule: Status, handle: Arc<Handle>) -> Self {
        Self { rule, handle, answers: mpsc::channel(1), pace: Pace::default() }
    }

    /// When to ask next, if nothing happens before.
    pub(crate) fn due(&mut self, watcher: &Watcher, began: Instant) -> Option<Instant> {
        self.pace.due(watcher.doubt(), began + watcher.latest(), Instant::now())
    }

    /// Asks, if it is time to.
    pub(crate) fn ask(&mut self, watcher: &Watcher, began: Instant) {
        let now = Instant::now();
        if self.due(watcher, began).is_none_or(|due| due > now) {
            return;
        }
        self.pace.asked(began + watcher.latest());
        let (rule, handle, told) = (self.rule.clone(), self.handle.clone(), self.answers.0.clone());
        tokio::spawn(async move {
            let exec =
                Exec { command: rule.command.clone(), timeout_ms: Some(PATIENCE_MS), ..Exec::default() };
            // A command that fails has found nothing.
            let words = run::exec(handle, exec).await.ok().map(|printed| match printed.exit_code {
                0 => rule.words(&printed.stdout),
                _ => String::new(),
            });
            // Who asked may be gone.
            let _ = told.send(words).await;
        });
    }

    /// What it said.
    pub(crate) async fn answer(&mut self) -> String {
        let answer = self.answers.1.recv().await.expect("a sender is kept here");
        self.pace.answered(answer.as_deref(), Instant::now());
        answer.unwrap_or_default()
    }
}

/// When it is asked.
#[derive(Debug, Default)]
struct Pace {
    waits: bool,
    /// How far the output was when it was asked last, and what it said.
    asked: Option<Instant>,
    said: Option<String>,
    /// How often in a row there was no answer.
    silent: u32,
    /// Not again before.
    next: Option<Instant>,
    pause: Duration,
    /// Since when it is to be asked.
    since: Option<Instant>,
}

impl Pace {
    fn due(&mut self, doubt: Option<Doubt>, latest: Instant, now: Instant) -> Option<Instant> {
        let news = self.asked != Some(latest);
        let asks = !self.waits && doubt.is_some_and(|doubt| news || doubt == Doubt::Contradicted);
        if !asks {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let settled = (latest + QUIET).min(since + LONGEST);
        Some(self.next.map_or(settled, |next| next.max(settled)))
    }

    fn asked(&mut self, latest: Instant) {
        (self.waits, self.asked, self.since) = (true, Some(latest), None);
    }

    fn answered(&mut self, words: Option<&str>, now: Instant) {
        self.silent = if words.is_some() { 0 } else { self.silent + 1 };
        if (1..=AGAIN).contains(&self.silent) {
            self.asked = None;
        }
        let words = words.unwrap_or_default();
        let same = self.said.as_deref() == Some(words);
        self.pause = if same { (self.pause * 2).clamp(PAUSES.0, PAUSES.1) } else { PAUSES.0 };
        (self.waits, self.said, self.next) = (false, Some(words.to_owned()), Some(now + self.pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_puts_nothing_out_is_asked_nothing_and_who_contradicts_itself_ever_more_rarely() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let (mut pace, screen) = (Pace::default(), Some(Doubt::Screen));
        assert_eq!(pace.due(None, start, start), None, "its screen says what it is doing");
        assert_eq!(pace.due(screen, start, start), Some(start + QUIET));
        pace.asked(start);
        assert_eq!(pace.due(screen, ms(10), ms(10)), None, "it was asked, and has not answered");
        pace.answered(Some("idle"), ms(200));
        assert_eq!(pace.due(screen, start, ms(9000)), None, "nothing has happened since");
        let mut now = ms(9000);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let due = pace.due(Some(Doubt::Contradicted), start, now).expect("it contradicts its screen");
            pauses.push(due.saturating_duration_since(now).as_millis());
            now = now.max(due);
            pace.asked(start);
            pace.answered(Some("busy"), now);
        }
        assert_eq!(pauses, [0, 250, 500, 1000, 2000, 4000, 4000, 4000]);
    }

    #[test]
    fn who_does_not_answer_is_asked_three_times() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut asked = 0;
        for n in 0..10 {
            let now = start + n * Duration::from_secs(10);
            if pace.due(Some(Doubt::Screen), start, now).is_some() {
                asked += 1;
                pace.asked(start);
                pace.answered(None, now);
            }
        }
        assert_eq!(asked, 3);
        assert!(
            pace.due(Some(Doubt::Screen), start + QUIET, start + LONGEST).is_some(),
            "something has happened"
        );
    }

    #[test]
    fn output_that_never_pauses_puts_the_question_off_for_a_second_at_most() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let due = (0..30)
            .map(|n| start + n * Duration::from_millis(50))
            .find(|now| pace.due(Some(Doubt::Screen), *now, *now).is_some_and(|due| due <= *now));
        assert_eq!(due, Some(start + LONGEST));
    }
}
