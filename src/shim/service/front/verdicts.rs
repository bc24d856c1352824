//! What walls let through and refuse, told as it happens: the first of each kind.

use super::ServiceFront;
use crate::shim::front::Decisions;
use crate::shim::service::line::Line;
use crate::wire::service::shim::Verdict;
use crate::wire::service::{FromShim, HEARS_VERDICTS};

/// As many are told in one go: the terminal comes first.
const AT_ONCE: usize = 32;

impl ServiceFront {
    /// Tells the daemon, if there is one that wants to hear it: else they wait, as many as there are kinds.
    pub(super) fn tell_verdicts(&mut self, decisions: &mut Decisions<'_>) {
        let Decisions { calls, landlock, gateway } = decisions;
        self.verdicts.extend(calls.fresh());
        self.verdicts.extend(landlock.fresh());
        self.verdicts.extend(gateway.iter_mut().flat_map(|gateway| gateway.fresh()));
        for _ in 0..AT_ONCE {
            if !self.owes_verdicts() {
                return;
            }
            let Some(verdict) = self.verdicts.pop_front() else { return };
            self.say(&FromShim::Verdict(verdict));
        }
    }

    /// Whether there are some, and a daemon that would take them now.
    pub(super) fn owes_verdicts(&self) -> bool {
        let takes = |line: &Line| line.version >= Some(HEARS_VERDICTS) && !line.has_waiting();
        !self.verdicts.is_empty() && self.line.as_ref().is_some_and(takes)
    }
}

/// Those that no daemon has heard of.
pub(super) type Verdicts = std::collections::VecDeque<Verdict>;
