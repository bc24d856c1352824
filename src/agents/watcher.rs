//! Says what an agent is doing, from what its terminal shows.
//!
//! ```text
//!  output ─▶ screen ─(a moment of silence)─▶ first rule that matches ─(the same for its time)─▶ published
//! ```
//! A frame is drawn in pieces, and a screen passes by on the way to another one: neither may be reported. So a screen is
//! looked at once it was silent for a moment, and believed once the same rule held for a time. Time is the output's own:
//! whoever feeds says when, and asks with [`Watcher::deadline`] when something could be due without output.
//!
//! What an agent has written down about itself can be asked for ([`Watcher::doubt`]) where its screen looks ready, or like
//! nothing that is known. It counts where a rule says so, and no rule makes something safe by it.

use std::time::Duration;

use super::emulator::Emulator;
use super::kind::{Kind, Screen};
use super::login::{self, Login};
use super::marker::Marker;
use super::view::View;
use crate::api::agent::{Size, State};

/// Silence after which a frame counts as drawn.
const FRAME: Duration = Duration::from_millis(25);
/// While output never pauses, the screen is looked at this often all the same.
const GLANCE: Duration = Duration::from_millis(150);
/// How long nothing may match before that is what is known.
const LOST: Duration = Duration::from_secs(10);
/// The same for an agent that has not come so far as to be ready or to ask for a login.
const LOST_AT_START: Duration = Duration::from_secs(30);
/// How long nothing may match before an agent of that sort counts as still starting.
const BETWEEN: Duration = Duration::from_secs(2);

/// What is known at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// When this became known.
    pub at: Duration,
    /// What the agent is doing.
    pub state: State,
    /// Since when it is in this state.
    pub since: Duration,
    /// What says so.
    pub evidence: String,
    /// The rule that matched, if one did.
    pub screen: Option<String>,
    /// Whether something may be typed now without answering a question.
    pub safe_to_type: bool,
    /// The login that it waits for.
    pub login: Option<Login>,
}

/// What is so at this very moment, also where it has not held long enough to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What was published last.
    pub published: Observation,
    /// What the screen would mean, if it stayed like this; none: nothing on it is known.
    pub state: Option<State>,
    /// The rule that matches.
    pub screen: Option<String>,
    /// Whether something may be typed.
    pub safe_to_type: bool,
    /// The screen.
    pub view: View,
}

/// Why it is worth asking what the agent has written down about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Its screen alone says that it is ready, or says nothing.
    Screen,
    /// What was told last says something else than the screen.
    Contradicted,
}

/// Watches one terminal.
pub struct Watcher {
    kind: Kind,
    emulator: Emulator,
    /// When output last came, and whether it was looked at since.
    fed: Duration,
    glanced: Duration,
    fresh: bool,
    candidate: Candidate,
    /// The rule that matches without what the agent has written down, and what that was.
    bare: Option<usize>,
    status: String,
    /// Whether nothing at all is on the screen.
    blank: bool,
    published: Observation,
    /// States that were seen, for rules that hold only before one.
    seen: Vec<State>,
}

/// What the screen says at the moment.
#[derive(Debug, Clone, PartialEq)]
struct Candidate {
    /// Index of the rule; none: no rule matches.
    screen: Option<usize>,
    login: Option<Login>,
    since: Duration,
}

impl Watcher {
    /// An agent that has put nothing out.
    pub fn new(kind: Kind, size: Size) -> Self {
        let published = Observation {
            at: Duration::ZERO,
            state: State::Starting,
            since: Duration::ZERO,
            evidence: "nothing has been shown yet".into(),
            screen: None,
            safe_to_type: false,
            login: None,
        };
        let candidate = Candidate { screen: None, login: None, since: Duration::ZERO };
        Self {
            kind,
            emulator: Emulator::new(size),
            fed: Duration::ZERO,
            glanced: Duration::ZERO,
            fresh: false,
            candidate,
            bare: None,
            status: String::new(),
            blank: true,
            published,
            seen: vec![State::Starting],
        }
    }

    /// What is known now.
    pub fn observation(&self) -> &Observation {
        &self.published
    }

    /// What can be seen now.
    pub fn view(&mut self) -> View {
        self.emulator.view()
    }

    /// Whether something may be typed at this moment: what was published also still holds.
    pub fn is_safe_to_type(&mut self) -> bool {
        self.still_holds() && self.published.safe_to_type
    }

    /// Whether the screen that was published is still there at this moment.
    pub fn still_holds(&mut self) -> bool {
        if self.fresh {
            self.glance(self.fed);
        }
        let now = self.candidate.screen.map(|index| &self.kind.screens[index].name);
        now == self.published.screen.as_ref()
    }

    /// What is so at this moment.
    pub fn look(&mut self) -> Look {
        let safe_to_type = self.is_safe_to_type();
        let screen = self.candidate.screen.map(|index| &self.kind.screens[index]);
        Look {
            published: self.published.clone(),
            state: screen.map(|screen| screen.state),
            screen: screen.map(|screen| screen.name.clone()),
            safe_to_type,
            view: self.emulator.view(),
        }
    }

    /// Whether it should be asked what the agent has written down about itself.
    pub fn doubt(&self) -> Option<Doubt> {
        let unclear = self.bare.is_none_or(|index| self.kind.screens[index].state == State::Ready);
        let asks = self.kind.status.is_some() && unclear && !self.blank;
        let contradicted = self.candidate.screen != self.bare;
        asks.then_some(if contradicted { Doubt::Contradicted } else { Doubt::Screen })
    }

    /// When output last came.
    pub fn latest(&self) -> Duration {
        self.fed
    }

    /// It has written this down about itself.
    pub fn told(&mut self, at: Duration, status: String) -> Option<Observation> {
        let news = self.tick(at);
        self.status = status;
        self.glance(at.max(self.fed));
        news
    }

    /// The kind's rules.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Output came.
    pub fn feed(&mut self, at: Duration, bytes: &[u8]) -> Option<Observation> {
        let news = self.tick(at);
        let at = at.max(self.fed);
        if self.fresh && at.saturating_sub(self.glanced) >= GLANCE {
            self.glance(self.fed);
        }
        self.emulator.feed(bytes);
        self.touched(at);
        news
    }

    /// The terminal has another size. What was on it is what the agent has said until it says something else: a program that
    /// does not draw anew has lost the ends of its lines here, and not where people look.
    pub fn resize(&mut self, at: Duration, size: Size) -> Option<Observation> {
        let news = self.tick(at);
        if self.fresh {
            self.glance(self.fed);
        }
        self.emulator.resize(size);
        news
    }

    /// Time passed.
    pub fn tick(&mut self, at: Duration) -> Option<Observation> {
        if self.fresh && at.saturating_sub(self.fed) >= FRAME {
            self.glance(self.fed);
        }
        let due = self.due()?;
        (due <= at).then(|| self.publish(due))
    }

    /// When a tick could bring news, if no output comes before.
    pub fn deadline(&self) -> Option<Duration> {
        let frame = self.fresh.then(|| self.fed + FRAME);
        [frame, self.due()].into_iter().flatten().min()
    }

    /// It has ended.
    pub fn ended(&mut self, at: Duration) -> Observation {
        self.published = Observation {
            at,
            state: State::Exited,
            since: at,
            evidence: "its terminal was closed".into(),
            screen: None,
            safe_to_type: false,
            login: None,
        };
        self.published.clone()
    }

    fn touched(&mut self, at: Duration) {
        if !self.fresh {
            self.glanced = at;
        }
        self.fresh = true;
        self.fed = at;
    }

    /// Looks at the screen, which is like this since `since`.
    fn glance(&mut self, since: Duration) {
        self.fresh = false;
        self.glanced = since;
        let mut view = self.emulator.view();
        let rule = |watcher: &Self, view: &View| {
            watcher.kind.screens.iter().position(|screen| watcher.holds(screen, view))
        };
        self.bare = rule(self, &view);
        let mut screen = self.bare;
        if screen.is_some_and(|index| self.kind.screens[index].state != State::Ready) {
            // It is of an earlier moment, and a screen like this needs no other word.
            self.status.clear();
        } else if !self.status.is_empty() {
            view.status.clone_from(&self.status);
            screen = rule(self, &view);
        }
        let login = screen.and_then(|index| self.login(index, &view, since));
        self.blank = view.is_blank();
        if screen != self.candidate.screen || login != self.candidate.login {
            self.candidate = Candidate { screen, login, since };
        }
    }

    fn holds(&self, screen: &Screen, view: &View) -> bool {
        let seen = |state: &State| self.seen.contains(state);
        let is_in = |marker: &Marker| marker.is_in(view, &self.kind.typing.composer);
        !screen.before.iter().any(seen)
            && (screen.after.is_empty() || screen.after.iter().any(seen))
            && screen.all.iter().all(is_in)
            && (screen.any.is_empty() || screen.any.iter().any(is_in))
            && !screen.none.iter().any(is_in)
    }

    /// What a login screen tells.
    fn login(&self, index: usize, view: &View, at: Duration) -> Option<Login> {
        let rule = self.kind.screens[index].login.as_ref()?;
        let same = self.candidate.screen == Some(index);
        let before = self.candidate.login.as_ref().filter(|_| same);
        Some(login::read(rule, view, before, at))
    }

    /// When the candidate is believed, if that is news.
    fn due(&self) -> Option<Duration> {
        let Candidate { screen, login, since } = &self.candidate;
        let Some(index) = screen else {
            return Some(*since + self.lost()?.1);
        };
        let screen = &self.kind.screens[*index];
        let news = self.published.screen.as_ref() != Some(&screen.name)
            || self.published.login != *login
            || self.published.state != screen.state;
        news.then(|| *since + settle(screen))
    }

    /// What it is while nothing matches, and after what time.
    fn lost(&self) -> Option<(State, Duration)> {
        let arrived = [State::Ready, State::Busy, State::LoginRequired];
        let arrived = arrived.iter().any(|state| self.seen.contains(state));
        match (arrived, self.published.state) {
            (_, State::Unknown | State::Exited) => None,
            (true, _) => Some((State::Unknown, LOST)),
            // Before its first screen there may be nothing for any time.
            (false, State::Starting) => (!self.blank).then_some((State::Unknown, LOST_AT_START)),
            (false, _) => Some((State::Starting, BETWEEN)),
        }
    }

    fn publish(&mut self, at: Duration) -> Observation {
        let screen = self.candidate.screen.map(|index| &self.kind.screens[index]);
        let lost = self.lost().map_or(State::Unknown, |(state, _)| state);
        let state = screen.map_or(lost, |screen| screen.state);
        let same = state == self.published.state;
        let evidence = match (screen, state) {
            (Some(screen), _) => &screen.evidence,
            (None, State::Starting) => "it has not shown anything that is known since",
            (None, _) => "nothing on its screen is known",
        };
        self.published = Observation {
            at,
            state,
            since: if same { self.published.since } else { self.candidate.since },
            evidence: evidence.into(),
            screen: screen.map(|screen| screen.name.clone()),
            safe_to_type: screen.is_some_and(Screen::is_safe_to_type),
            login: self.candidate.login.clone(),
        };
        if !self.seen.contains(&state) {
            self.seen.push(state);
        }
        self.published.clone()
    }
}

/// How long a screen must be there before it is believed.
fn settle(screen: &Screen) -> Duration {
    Duration::from_millis(screen.settle.unwrap_or(match screen.state {
        State::Ready => 500,
        State::Blocked | State::LoginRequired => 250,
        _ => 100,
    }))
}
