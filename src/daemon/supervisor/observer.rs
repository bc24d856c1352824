//! What an agent is doing: by the rules of its kind for what its terminal shows, or only by when it shows something.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::screens::Seen;
use crate::api::Login;
use crate::api::State;

/// A start is over once the output has been quiet for so long,
const SETTLED: Duration = Duration::from_millis(300);
/// or if there was none for so long.
const SILENT: Duration = Duration::from_secs(1);
/// A turn is over once the output has been quiet for so long.
const TURN: Duration = Duration::from_secs(1);
/// By the rules of its kind it is over when it is ready again after it was busy. Who was not seen busy in so long has
/// answered at once.
const UNSEEN: Duration = Duration::from_secs(4);
/// So long it must stay ready for that.
const AFTER: Duration = Duration::from_secs(1);

/// What is known of an agent that runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observed {
    /// What it is doing.
    pub(crate) state: State,
    /// What says so.
    pub(crate) evidence: String,
    /// Whether something may be typed now without answering a question.
    pub(crate) safe_to_type: bool,
    /// The login that it waits for.
    pub(crate) login: Option<Login>,
}

/// Watches one agent from its start on.
#[derive(Debug)]
pub(crate) enum Observer {
    /// A shell: it waits for a command when it is quiet.
    Quiet(Pulse),
    /// An agent whose screens are described.
    Screens(Pulse, watch::Receiver<Option<Seen>>),
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
    /// It was seen busy since the last message.
    worked: bool,
    /// Since when it is ready again after that.
    ready: Option<Instant>,
}

impl Observer {
    /// Of an agent of this kind that starts now.
    pub(crate) fn new(kind: &str, now: Instant) -> Self {
        let pulse = Pulse::new(now);
        if matches!(kind, "shell" | "custom") { Self::Quiet(pulse) } else { Self::Blind(pulse) }
    }

    /// Of an agent whose screens are followed.
    pub(crate) fn of_screens(seen: watch::Receiver<Option<Seen>>, now: Instant) -> Self {
        Self::Screens(Pulse::new(now), seen)
    }

    /// Resolves when its screen says something else.
    pub(crate) async fn news(&self) {
        let Self::Screens(_, seen) = self else { return std::future::pending().await };
        let mut seen = seen.clone();
        if seen.changed().await.is_err() {
            // Whoever looked is gone, with the agent as a rule.
            std::future::pending().await
        }
    }

    /// It put something out.
    pub(crate) fn output(&mut self, now: Instant) {
        self.pulse_mut().output = Some(now);
    }

    /// A message was submitted; `worked`: it was seen at work since.
    pub(crate) fn sent(&mut self, now: Instant, worked: bool) {
        let pulse = self.pulse_mut();
        pulse.sent = Some(now);
        pulse.worked = worked;
        pulse.ready = None;
    }

    /// Whether the turn of the last message is over now; said once.
    pub(crate) fn turn_ends(&mut self, now: Instant) -> bool {
        let over = self.turn_due().is_some_and(|due| due <= now);
        let pulse = self.pulse_mut();
        if over {
            pulse.sent = None;
            pulse.settled = true;
        }
        over
    }

    /// What it is doing.
    pub(crate) fn observe(&mut self, now: Instant) -> Observed {
        if let Self::Screens(pulse, seen) = self {
            return pulse.seen(seen.borrow_and_update().as_ref());
        }
        let pulse = self.pulse_mut();
        pulse.settled |= pulse.settled_at() <= now;
        let (settled, sent, silent) = (pulse.settled, pulse.sent.is_some(), pulse.output.is_none());
        let (state, evidence) = match self {
            Self::Blind(_) | Self::Screens(..) => (State::Unknown, "no rules for this kind".to_owned()),
            Self::Quiet(_) if sent => {
                (State::Busy, format!("a message was sent, and output has not been quiet for {TURN:?} since"))
            }
            Self::Quiet(_) if settled && silent => (State::Ready, format!("no output within {SILENT:?}")),
            Self::Quiet(_) if settled => (State::Ready, format!("output was quiet for {SETTLED:?} or more")),
            Self::Quiet(_) => (State::Starting, "output has not been quiet yet".to_owned()),
        };
        Observed { state, evidence, safe_to_type: state == State::Ready, login: None }
    }

    /// When to look again though nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        let pulse = self.pulse();
        let quiet = matches!(self, Self::Quiet(_) | Self::Blind(_));
        let settled = (quiet && !pulse.settled).then(|| pulse.settled_at());
        [settled, self.turn_due()].into_iter().flatten().min()
    }

    /// When the turn of the last message is over, as far as can be told now.
    fn turn_due(&self) -> Option<Instant> {
        let pulse = self.pulse();
        let quiet = pulse.turn_due()?;
        let Self::Screens(_, seen) = self else { return Some(quiet) };
        let state = seen.borrow().as_ref().map(|seen| seen.observation.state);
        match state {
            // Between two steps of one turn it may look ready for a moment.
            Some(State::Ready) if pulse.worked => pulse.ready.map(|ready| ready + AFTER),
            Some(State::Ready | State::Unknown) => Some(quiet.max(pulse.sent? + UNSEEN)),
            // It works, or asks something: the turn goes on.
            _ => None,
        }
    }

    fn pulse(&self) -> &Pulse {
        let (Self::Quiet(pulse) | Self::Blind(pulse) | Self::Screens(pulse, _)) = self;
        pulse
    }

    fn pulse_mut(&mut self) -> &mut Pulse {
        let (Self::Quiet(pulse) | Self::Blind(pulse) | Self::Screens(pulse, _)) = self;
        pulse
    }
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self { started: now, output: None, sent: None, settled: false, worked: false, ready: None }
    }

    /// What its screen says.
    fn seen(&mut self, seen: Option<&Seen>) -> Observed {
        let Some(Seen { observation, login }) = seen else {
            let evidence = "nothing has been shown yet".to_owned();
            return Observed { state: State::Starting, evidence, safe_to_type: false, login: None };
        };
        self.worked |= self.sent.is_some() && observation.state == State::Busy;
        match observation.state {
            State::Ready => drop(self.ready.get_or_insert_with(Instant::now)),
            _ => self.ready = None,
        }
        Observed {
            state: observation.state,
            evidence: observation.evidence.clone(),
            safe_to_type: observation.safe_to_type,
            login: login.clone(),
        }
    }

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
        shell.sent(start + ms(2000), false);
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
        claude.sent(start + ms(5000), false);
        assert!(claude.turn_ends(start + ms(6000)));
    }
}
