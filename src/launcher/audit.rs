//! Whether the kernel's audit is on. It starts a thread to answer that, for which whoever asks has to wait: so it is asked
//! once for all starts of a second.

use std::time::{Duration, Instant};

use crate::host;

/// So long an answer holds. It can change at any time, and an agent runs for longer.
const HOLDS: Duration = Duration::from_secs(1);

/// What was heard last.
#[derive(Default)]
pub struct Audit(Option<(Instant, Result<(), String>)>);

impl Audit {
    /// If not, why.
    pub fn is_on(&mut self) -> Result<(), String> {
        self.is_on_at(Instant::now(), host::audit_is_on)
    }

    fn is_on_at(&mut self, now: Instant, ask: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        match &self.0 {
            Some((at, told)) if now.saturating_duration_since(*at) < HOLDS => told.clone(),
            _ => {
                let told = ask();
                self.0 = Some((now, told.clone()));
                told
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starts_of_one_second_share_an_answer_and_the_next_one_asks_again() {
        let (begin, mut audit) = (Instant::now(), Audit::default());
        let off = || Err("it is off".to_owned());
        assert_eq!(audit.is_on_at(begin, off), off());
        let asked = || panic!("asked again");
        assert_eq!(audit.is_on_at(begin + HOLDS / 2, asked), off());
        assert_eq!(audit.is_on_at(begin + HOLDS, || Ok(())), Ok(()));
    }
}
