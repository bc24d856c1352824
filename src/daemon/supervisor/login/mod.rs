//! Logins: completed by a code that is typed where the agent asks for one, or by a callback that is delivered to the port
//! inside on which it waits; and gone on from, once they worked.
//!
//! ```text
//!  POST …/login ─▶ Attempt ─▶ typed, or dialled and asked ─▶ what the terminal says then: accepted, refused, pending
//!  terminal ─▶ screens ─▶ Acknowledger: the key that a page wants which only says that a login worked
//! ```

mod acknowledge;
mod attempt;
mod deliver;

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify};
use tracing::warn;

use crate::audit::text::Host;

pub(super) use acknowledge::Acknowledger;
pub(super) use attempt::Attempt;

/// So many logins of one agent are recorded as begun in so long: its screen says so, and it draws what it likes.
const RECORDED: u32 = 60;
const WHILE: Duration = Duration::from_secs(3600);

/// What is on record of one agent's logins.
#[derive(Debug, Default)]
struct Account {
    /// The one that it waits for, and whether that is on record: where, once that is known.
    open: Option<(Option<Host>, bool)>,
    /// How many were begun, since when.
    begun: Option<(Instant, u32)>,
}

impl Account {
    /// Whether one more may be recorded.
    fn has_room(&mut self, agent: &str, now: Instant) -> bool {
        let (since, count) = self.begun.filter(|(since, _)| now < *since + WHILE).unwrap_or((now, 0));
        self.begun = Some((since, count.saturating_add(1)));
        if count == RECORDED {
            warn!(agent, "it asks for logins without end: no more of them are recorded for an hour");
        }
        count < RECORDED
    }
}

/// Where one agent's logins are completed.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// How often it was tried since it began to wait for a login.
    attempts: AtomicU32,
    account: std::sync::Mutex<Account>,
    /// Held by whoever tries.
    turn: Mutex<()>,
    /// Told whenever an attempt is made.
    another: Notify,
    /// An attempt was refused: its page is to begin the next.
    pub(super) again: Notify,
}

impl Desk {
    /// How often it was tried.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// It waits for a login here; whether that is news to be recorded.
    pub(crate) fn opens(&self, agent: &str, site: Option<&Host>) -> bool {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        if account.open.is_none() {
            self.attempts.store(0, Ordering::Relaxed);
        }
        // A page in between names no site, and does not make it another one.
        let open = account.open.as_ref();
        if open.is_some_and(|(known, _)| site.is_none() || known.as_ref() == site) {
            return false;
        }
        let recorded = open.is_some_and(|(_, recorded)| *recorded);
        let news = account.has_room(agent, Instant::now());
        account.open = Some((site.cloned(), recorded || news));
        news
    }

    /// It waits for none any more; whether that is news to be recorded.
    pub(crate) fn closes(&self) -> bool {
        let open = self.account.lock().unwrap_or_else(PoisonError::into_inner).open.take();
        open.is_some_and(|(_, recorded)| recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_begins_once_for_each_site_and_is_over_once() {
        let (desk, site) = (Desk::default(), Host::of("claude.com"));
        assert!(desk.opens("a", None));
        desk.attempts.store(3, Ordering::Relaxed);
        assert!(!desk.opens("a", None));
        assert!(desk.opens("a", Some(&site)));
        assert!(!desk.opens("a", None) && !desk.opens("a", Some(&site)));
        assert_eq!(desk.attempts(), 3, "it is the same login");
        assert!(desk.closes() && !desk.closes());
        assert!(desk.opens("a", Some(&site)));
        assert_eq!(desk.attempts(), 0);
    }

    #[test]
    fn an_agent_that_asks_for_logins_without_end_does_not_fill_the_record() {
        let (desk, site) = (Desk::default(), ["claude.com", "claude.ai"].map(Host::of));
        let begun = (0..10_000).filter(|n| desk.opens("a", Some(&site[n % 2]))).count();
        assert_eq!(begun, RECORDED as usize);
        assert!(desk.closes(), "what is on record as begun is recorded as over");
        assert!(!desk.opens("a", Some(&site[0])) && !desk.closes(), "and what is not, is not");
        let mut account = Account { begun: Some((Instant::now(), RECORDED)), ..Account::default() };
        assert!(account.has_room("a", Instant::now() + WHILE), "an hour later it is");
    }
}
