//! Presses the keys that a kind's rules name for two moments of a login, and none at any other.

use std::time::{Duration, Instant};

use tracing::{debug, info};

use crate::agents::{Screen, typing};
use crate::api::State;
use crate::daemon::terminal::Terminal;

/// A page that is still there after so long has not heard the key.
const AGAIN: Duration = Duration::from_secs(3);
/// How often one page is answered.
const MOST: u32 = 3;
/// Between two keys.
const BETWEEN: Duration = Duration::from_millis(50);

/// Goes on where a login worked.
pub(crate) struct Acknowledger {
    terminal: Terminal,
    /// A login was asked for since the agent was last ready.
    pending: bool,
    /// The page that was answered, how often, and when it may be once more.
    answered: Option<(String, u32, Instant)>,
}

impl Acknowledger {
    /// Types at this terminal.
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self { terminal, pending: false, answered: None }
    }

    /// When a page may have to be answered once more.
    pub(crate) fn due(&self) -> Option<Instant> {
        let (_, count, at) = self.answered.as_ref()?;
        (*count < MOST).then_some(*at)
    }

    /// This is on the screen.
    pub(crate) fn look(&mut self, screen: Option<&Screen>, now: Instant) {
        let page = screen.filter(|screen| self.pending && screen.after_login && !screen.answer.is_empty());
        match screen.map(|screen| screen.state) {
            Some(State::LoginRequired) => self.pending = true,
            Some(State::Ready | State::Busy) => self.pending = false,
            _ => {}
        }
        let Some(page) = page else { return self.answered = None };
        let count = match &self.answered {
            Some((name, count, at)) if *name == page.name => {
                if *count >= MOST || now < *at {
                    return;
                }
                *count
            }
            _ => 0,
        };
        info!(screen = page.name, "a login worked: its page is answered by the rules of the agent's kind");
        self.press(&page.answer);
        self.answered = Some((page.name.clone(), count + 1, now + AGAIN));
    }

    /// Presses keys, without waiting for whoever reads them.
    pub(crate) fn press(&self, keys: &[String]) {
        if keys.is_empty() {
            return;
        }
        let (terminal, keys) = (self.terminal.clone(), keys.to_vec());
        tokio::spawn(async move {
            for key in keys {
                if let Err(error) = terminal.input(typing::key(&key).into()).await {
                    debug!(%error, "a key was not taken");
                    return;
                }
                tokio::time::sleep(BETWEEN).await;
            }
        });
    }
}
