//! Whether the other side of a socket still lives: it answers pings, or it is taken for gone.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Nothing heard for so long, in spite of pings: gone.
const SILENCE: Duration = Duration::from_secs(60);
/// The same while something is under way to it or from it: a person may have stopped the output.
const PATIENCE: Duration = Duration::from_secs(600);
const STEP: Duration = Duration::from_secs(5);

/// When the other side was last heard of.
pub struct Pulse {
    state: Mutex<Beat>,
}

struct Beat {
    heard: Instant,
    at_work: usize,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { state: Mutex::new(Beat { heard: Instant::now(), at_work: 0 }) }
    }
}

/// While this lives, silence is no wonder.
pub struct AtWork<'a>(&'a Pulse);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.beat().at_work -= 1;
    }
}

impl Pulse {
    /// It was heard of just now.
    pub fn heard(&self) {
        self.beat().heard = Instant::now();
    }

    /// Something is under way that keeps it from being heard: output that it does not take, input that the agent does not.
    pub fn at_work(&self) -> AtWork<'_> {
        self.beat().at_work += 1;
        AtWork(self)
    }

    /// Resolves once it has been silent for too long.
    pub async fn silence(&self) {
        loop {
            tokio::time::sleep(STEP).await;
            let beat = self.beat();
            if is_gone(beat.heard.elapsed(), beat.at_work > 0) {
                return;
            }
        }
    }

    fn beat(&self) -> std::sync::MutexGuard<'_, Beat> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

fn is_gone(silent: Duration, at_work: bool) -> bool {
    silent > if at_work { PATIENCE } else { SILENCE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_ends_a_session_and_work_under_way_gives_it_time() {
        assert!(!is_gone(SILENCE, false));
        assert!(is_gone(SILENCE + STEP, false));
        assert!(!is_gone(SILENCE + STEP, true));
        assert!(is_gone(PATIENCE + STEP, true));
    }

    #[test]
    fn work_is_under_way_until_all_of_it_is_done() {
        let pulse = Pulse::default();
        let (output, input) = (pulse.at_work(), pulse.at_work());
        drop(output);
        assert_eq!(pulse.beat().at_work, 1);
        drop(input);
        assert_eq!(pulse.beat().at_work, 0);
    }
}
