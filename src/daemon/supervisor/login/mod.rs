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

use tokio::sync::{Mutex, Notify};

use crate::audit::text::Host;

pub(super) use acknowledge::Acknowledger;
pub(super) use attempt::Attempt;

/// Where one agent's logins are completed.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// How often it was tried since it began to wait for a login.
    attempts: AtomicU32,
    /// The login that is on record as begun: where, once that is known.
    open: std::sync::Mutex<Option<Option<Host>>>,
    /// Held by whoever tries.
    turn: Mutex<()>,
    /// An attempt was refused: its page is to begin the next.
    pub(super) again: Notify,
}

impl Desk {
    /// How often it was tried.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// It waits for a login here; whether that is news.
    pub(crate) fn opens(&self, site: Option<&Host>) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            self.attempts.store(0, Ordering::Relaxed);
        }
        // A page in between names no site, and does not make it another one.
        let known = open.as_ref().is_some_and(|known| site.is_none() || known.as_ref() == site);
        if !known {
            *open = Some(site.cloned());
        }
        !known
    }

    /// It waits for none any more; whether that is news.
    pub(crate) fn closes(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_begins_once_for_each_site_and_is_over_once() {
        let (desk, site) = (Desk::default(), Host::of("claude.com"));
        assert!(desk.opens(None));
        desk.attempts.store(3, Ordering::Relaxed);
        assert!(!desk.opens(None));
        assert!(desk.opens(Some(&site)));
        assert!(!desk.opens(None) && !desk.opens(Some(&site)));
        assert_eq!(desk.attempts(), 3, "it is the same login");
        assert!(desk.closes() && !desk.closes());
        assert!(desk.opens(Some(&site)));
        assert_eq!(desk.attempts(), 0);
    }
}
