//! What an agent is doing, judged by what its terminal shows: here only by when it shows something.

use std::time::{Duration, Instant};

use crate::api::State;

/// A start is over once the output has been quiet for so long,
const SETTLED: Duration = Duration::from_millis(300);
/// or if there was none for so long.
const SILENT: Duration = Duration::from_secs(1);
/// A turn is over once the output has been quiet for so long.
const TURN: Duration = Duration::from_secs(1);

/// What is known of an agent that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    /// What it is doing.
    pub(crate) state: State,
    /// What says so.
    pub(crate) evidence: String,
    /// Whether something may be typed now without answering a question.
    pub(crate) safe_to_type: bool,
}

/// Watches one agent from its start on.
#[derive(Debug)]
pub(crate) enum Observer {
    /// A shell: it waits for a command when it is quiet.
    Quiet(Pulse),
    /// An agent whose screens nobody has described.
    Blind(Pulse),
}

/// When something was seen.
#[derive(Debug)]
pub(crate) struct Pulse {
    started: Instant,
    output: Option<Instant>,
    /// The last message, until its turn is over.
    sent: Option<Instant>,
    settled: bool,
}

impl Observer {
    /// Of an agent of this kind that starts now.
    pub(crate) fn new(kind: &str, now: Instant) -> Self {
        let pulse = Pulse { started: now, output: None, sent: None, settled: false };
        if matches!(kind, "shell" | "custom") { Self::Quiet(pulse) } else { Self::Blind(pulse) }
    }

    /// It put something out.
    pub(crate) fn output(&mut self, now: Instant) {
        self.pulse_mut().output = Some(now);
    }

    /// A message was submitted.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.pulse_mut().sent = Some(now);
    }

    /// Whether the turn of the last message is over now; said once.
    pub(crate) fn turn_ends(&mut self, now: Instant) -> bool {
        let pulse = self.pulse_mut();
        let over = pulse.turn_due().is_some_and(|due| due <= now);
        if over {
            pulse.sent = None;
            pulse.settled = true;
        }
        over
    }

    /// What it is doing.
    pub(crate) fn observe(&mut self, now: Instant) -> Observed {
        let pulse = self.pulse_mut();
        pulse.settled |= pulse.settled_at() <= now;
        let (settled, sent, silent) = (pulse.settled, pulse.sent.is_some(), pulse.output.is_none());
        let (state, evidence) = match self {
            Self::Blind(_) => (State::Unknown, "no rules for this kind yet".to_owned()),
            Self::Quiet(_) if sent => {
                (State::Busy, format!("a message was sent, and output has not been quiet for {TURN:?} since"))
            }
            Self::Quiet(_) if settled && silent => (State::Ready, format!("no output within {SILENT:?}")),
            Self::Quiet(_) if settled => (State::Ready, format!("output was quiet for {SETTLED:?} or more")),
            Self::Quiet(_) => (State::Starting, "output has not been quiet yet".to_owned()),
        };
        Observed { state, evidence, safe_to_type: state == State::Ready }
    }

    /// When to look again though nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        let pulse = self.pulse();
        let settled = (!pulse.settled).then(|| pulse.settled_at());
        [settled, pulse.turn_due()].into_iter().flatten().min()
    }

    fn pulse(&self) -> &Pulse {
        let (Self::Quiet(pulse) | Self::Blind(pulse)) = self;
        pulse
    }

    fn pulse_mut(&mut self) -> &mut Pulse {
        let (Self::Quiet(pulse) | Self::Blind(pulse)) = self;
        pulse
    }
}

impl Pulse {
    fn settled_at(&self) -> Instant {
        self.output.map_or(self.started + SILENT, |output| output + SETTLED)
    }

    fn turn_due(&self) -> Option<Instant> {
        let sent = self.sent?;
        Some(self.output.map_or(sent, |output| output.max(sent)) + TURN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_shell_is_ready_once_its_output_is_quiet_or_there_is_none() {
        let start = Instant::now();
        let mut shell = Observer::new("shell", start);
        shell.output(start + ms(100));
        assert_eq!(shell.observe(start + ms(399)).state, State::Starting);
        assert_eq!(shell.due(), Some(start + ms(400)));
        assert_eq!(shell.observe(start + ms(400)).state, State::Ready);
        let mut silent = Observer::new("custom", start);
        assert_eq!(silent.observe(start + ms(999)).state, State::Starting);
        assert_eq!(silent.observe(start + ms(1000)).state, State::Ready);
        assert_eq!(silent.due(), None);
    }

    #[test]
    fn a_message_makes_it_busy_until_its_output_is_quiet_and_the_turn_ends_once() {
        let start = Instant::now();
        let mut shell = Observer::new("shell", start);
        shell.observe(start + ms(1000));
        shell.sent(start + ms(2000));
        shell.output(start + ms(2500));
        assert_eq!(shell.observe(start + ms(3499)).state, State::Busy);
        assert!(!shell.turn_ends(start + ms(3499)));
        assert!(shell.turn_ends(start + ms(3500)));
        assert!(!shell.turn_ends(start + ms(9000)));
        assert_eq!(shell.observe(start + ms(3500)).state, State::Ready);
    }

    #[test]
    fn of_a_kind_without_rules_nothing_is_claimed_but_its_turns_end() {
        let start = Instant::now();
        let mut claude = Observer::new("claude", start);
        let seen = claude.observe(start + ms(5000));
        assert_eq!((seen.state, seen.safe_to_type), (State::Unknown, false));
        claude.sent(start + ms(5000));
        assert!(claude.turn_ends(start + ms(6000)));
    }
}
