//! Who looks at what an agent's terminal shows.

use std::sync::PoisonError;
use std::time::Instant;

use tracing::warn;

use super::Agent;
use crate::daemon::supervisor::delivery::answers::{self, Leave};
use crate::daemon::supervisor::inquiry::Inquiry;
use crate::daemon::supervisor::observer::Observer;
use crate::daemon::supervisor::screens;

impl Agent {
    /// By the rules of its kind, if there are any; those in files may have changed since the last start.
    pub(super) fn observer(&self) -> Observer {
        let (kind, now) = (&self.record.kind, Instant::now());
        let watched = |eye| *self.handle.eye.lock().unwrap_or_else(PoisonError::into_inner) = eye;
        watched(None);
        if matches!(kind.as_str(), "shell" | "custom") {
            return Observer::new(kind, now);
        }
        match self.shared.kinds.load(kind) {
            Ok(rules) if !rules.screens.is_empty() => {
                // A terminal that is renewed begins where the old one ended.
                let fresh = self.record.restarts > 0 && !self.adopted;
                let (desk, hands) = (self.handle.desk.clone(), self.handle.hands.clone());
                let inquiry = rules.status.clone().map(|rule| Inquiry::new(rule, self.handle.clone()));
                let ((seen, for_answers), eye) =
                    screens::follow(rules, &self.handle.terminal, desk, hands, inquiry, fresh);
                let (shared, handle) = (self.shared.clone(), self.handle.clone());
                tokio::spawn(answers::attend(shared, handle, self.leave(), eye.clone(), for_answers));
                watched(Some(eye));
                Observer::of_screens(seen, now)
            }
            Ok(_) => Observer::new(kind, now),
            Err(error) => {
                warn!(agent = self.record.id, %error, "the rules of its kind cannot be used");
                Observer::new(kind, now)
            }
        }
    }

    /// Which of its questions may be answered.
    fn leave(&self) -> Leave {
        Leave { answers: self.record.answers.clone(), workspace: self.record.workspace.clone() }
    }
}
