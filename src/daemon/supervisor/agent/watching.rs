//! By what an agent's task tells what the agent is doing.

use std::time::Instant;

use tracing::warn;

use super::Agent;
use crate::daemon::supervisor::observer::Observer;
use crate::daemon::supervisor::screens;

impl Agent {
    /// By the rules of its kind, if there are any; those in files may have changed since the last start.
    pub(super) fn observer(&self) -> Observer {
        let (kind, now) = (&self.record.kind, Instant::now());
        if matches!(kind.as_str(), "shell" | "custom") {
            return Observer::new(kind, now);
        }
        match self.shared.kinds.load(kind) {
            Ok(rules) if !rules.screens.is_empty() => {
                // A terminal that is renewed begins where the old one ended.
                let fresh = self.record.restarts > 0 && !self.adopted;
                let desk = self.handle.desk.clone();
                Observer::of_screens(screens::follow(rules, &self.handle.terminal, desk, fresh), now)
            }
            Ok(_) => Observer::new(kind, now),
            Err(error) => {
                warn!(agent = self.record.id, %error, "the rules of its kind cannot be used");
                Observer::new(kind, now)
            }
        }
    }
}
