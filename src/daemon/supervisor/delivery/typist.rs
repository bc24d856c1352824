//! Types one message, and looks whether it arrives.
//!
//! Nothing is typed while that could answer a question, nothing is typed twice, and the key that submits is pressed again
//! only while the text still stands in the composer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::super::agent::{Command, Handle, Turn};
use super::super::screens::{Eye, Sight};
use super::super::shared::Shared;
use super::super::times::{iso, now};
use super::book::Entry;
use super::give_up;
use crate::agents::typing::{key, pasted, pause, typed};
use crate::agents::view::{View, squeezed};
use crate::agents::{Look, kind};
use crate::api::{Stage, State};
use crate::daemon::terminal::Spoken;

/// How long a message that nobody wants to wait does so for an agent that is starting, or for a shell that works.
const START: Duration = Duration::from_secs(20);
/// And for one that is ready, and draws something at this moment.
const MOMENT: Duration = Duration::from_secs(3);
/// How often the screen is looked at while something is awaited.
const LOOK: Duration = Duration::from_millis(40);
/// How long an agent may take to read what is typed.
const READ: Duration = Duration::from_secs(60);
/// How long it may take to show it in its composer; longer for each megabyte.
const SHOWN: Duration = Duration::from_secs(20);
const SHOWN_PER_KILOBYTE: Duration = Duration::from_millis(200);
/// After these times the key that submits is pressed again.
const AGAIN: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];
/// How long it may take to show that it has it.
const TAKEN: Duration = Duration::from_secs(25);
/// Of a long text its end is looked for: the cursor stands there.
const TAIL: usize = 24;
/// A shorter text could stand anywhere.
const TELLING: usize = 6;
/// Longest text that is typed into a program whose screens nobody has described; longer ones are pasted, where it knows
/// what that is.
const TYPED: usize = 200;
/// Bracketed paste.
const PASTE: u16 = 2004;

/// Why a message came no further.
enum Setback {
    /// Nothing was typed, and whoever sent it does not want it to wait.
    Refused(State, &'static str),
    /// It does not have it.
    Failed(String),
    /// Nobody knows.
    Uncertain(String),
}

/// Brings one message as far as it comes, up to the end of its turn.
pub(super) async fn deliver(shared: &Shared, handle: &Arc<Handle>, entry: Entry) {
    let id = entry.delivery.id.clone();
    let carried = Typist { handle, entry: &entry }.carry().await;
    let answered = match carried {
        Ok(answered) => answered,
        Err(Setback::Refused(state, what)) => {
            handle.book.change(&id, |entry| {
                entry.delivery.stage = Stage::Failed;
                entry.delivery.why = Some(what.into());
                entry.refused = Some((state, what));
            });
            return;
        }
        Err(Setback::Failed(why)) => return give_up(shared, handle, &id, Stage::Failed, &why),
        Err(Setback::Uncertain(why)) => return give_up(shared, handle, &id, Stage::Uncertain, &why),
    };
    // The next one is typed when this one is answered; whoever answers writes that down.
    if answered.await.is_err() && handle.book.get(&id).is_some_and(|entry| !entry.delivery.stage.is_final()) {
        give_up(shared, handle, &id, Stage::Uncertain, "its turn was not seen to its end");
    }
}

struct Typist<'a> {
    handle: &'a Arc<Handle>,
    entry: &'a Entry,
}

impl Typist<'_> {
    async fn carry(&self) -> Result<oneshot::Receiver<String>, Setback> {
        loop {
            let Some((eye, _)) = self.safe().await? else { return self.type_blindly().await };
            let _hands = self.handle.hands.lock().await;
            // Whoever had them may have led to a screen on which this would be an answer.
            if let Some(sight) = eye.look().await.filter(|sight| self.may_type(&sight.look)) {
                return self.type_seeing(&eye, &sight.look.view).await;
            }
        }
    }

    fn stage(&self, stage: Stage, more: impl FnOnce(&mut Entry)) {
        self.handle.book.change(&self.entry.delivery.id, |entry| {
            entry.delivery.stage = stage;
            entry.delivery.why = None;
            more(entry);
        });
    }

    /// Waits until something may be typed, and looks once more then. None: nobody has described its screens.
    async fn safe(&self) -> Result<Option<(Eye, Sight)>, Setback> {
        let begun = Instant::now();
        let mut shown = self.handle.shown.subscribe();
        loop {
            let (state, safe) = {
                let agent = shown.borrow_and_update();
                (agent.state, agent.safe_to_type)
            };
            if matches!(state, State::Stopping | State::Exited | State::Failed) {
                return Err(self.over(state));
            }
            let eye = self.handle.eye();
            match &eye {
                Some(eye) if safe => {
                    let settle = Duration::from_millis(eye.kind.typing.settle);
                    let sight = eye.look().await;
                    if let Some(sight) = sight.filter(|s| self.may_type(&s.look) && s.lasted >= settle) {
                        return Ok(Some((eye.clone(), sight)));
                    }
                }
                None if safe || state == State::Unknown => return Ok(None),
                _ => {}
            }
            if let Some(refusal) = self.refusal(state, eye.is_some(), begun.elapsed()) {
                return Err(refusal);
            }
            self.wait_for(state, begun.elapsed());
            let soon = safe && state != State::LoginRequired;
            let pause = tokio::time::sleep(if soon { LOOK } else { Duration::from_millis(500) });
            tokio::select! {
                // The sender lives in the handle.
                _ = shown.changed() => {}
                () = pause => {}
            }
        }
    }

    /// Whether this message may be typed there. One that is not logged in answers only that; a command can log it in.
    fn may_type(&self, look: &Look) -> bool {
        look.safe_to_type && (look.state != Some(State::LoginRequired) || self.entry.text.starts_with('/'))
    }

    fn over(&self, state: State) -> Setback {
        match self.entry.hurried {
            true => Setback::Refused(state, "it takes no messages any more"),
            false => {
                Setback::Failed(format!("agent {} is {}: nothing was typed", self.handle.id, state.as_str()))
            }
        }
    }

    /// Says what a queued message waits for.
    fn wait_for(&self, state: State, waited: Duration) {
        let why = match state {
            State::Starting => "the agent is starting",
            State::Busy => "the agent is busy",
            State::LoginRequired => "the agent waits for a login",
            State::Blocked => "the agent waits for a decision",
            State::Unknown => "nothing says what the agent is doing",
            // It is about to be typed.
            _ if waited < MOMENT => return,
            _ => "it is not safe to type at this moment",
        };
        self.handle.book.change(&self.entry.delivery.id, |entry| {
            entry.delivery.why = (!entry.hurried).then(|| why.into());
        });
    }

    /// Why it is not kept any longer, if nobody wants it to wait.
    fn refusal(&self, state: State, seen: bool, waited: Duration) -> Option<Setback> {
        if !self.entry.hurried {
            return None;
        }
        let (patience, what) = match state {
            State::LoginRequired => {
                (Duration::ZERO, "it waits for a login, and a message would be typed into that")
            }
            State::Blocked => {
                (Duration::ZERO, "it waits for a decision, and a message would be typed as one")
            }
            State::Busy if seen => (Duration::ZERO, "it is busy: ask for the message to be queued"),
            State::Unknown => {
                (MOMENT, "nothing says what it is doing, and what a message would be typed into")
            }
            State::Starting | State::Busy => (START, "it is not ready yet: ask for the message to be queued"),
            _ => (MOMENT, "it is not safe to type: ask for the message to be queued"),
        };
        (waited >= patience).then_some(Setback::Refused(state, what))
    }

    /// Types where nobody can look: a shell, or a program whose screens nobody has described.
    async fn type_blindly(&self) -> Result<oneshot::Receiver<String>, Setback> {
        let (text, terminal) = (&self.entry.text, &self.handle.terminal);
        let _hands = self.handle.hands.lock().await;
        let failed = |error: std::io::Error| Setback::Failed(format!("its terminal cannot be read: {error}"));
        let before = terminal.screen().await.map_err(failed)?;
        let length = text.chars().count();
        let paste = (text.contains(['\n', '\t']) || length > TYPED) && terminal.is_on(PASTE).await;
        self.stage(Stage::Typing, |entry| {
            entry.delivery.typed_at = Some(iso(now()));
            entry.offset = before.offset;
        });
        self.input(if paste { pasted(text) } else { typed(text) }).await?;
        // In one write with the text some take it for a part of it.
        tokio::time::sleep(pause(&kind::Typing::default(), length)).await;
        self.input("\r".into()).await?;
        let spoken = Spoken { text: text.clone(), before };
        Ok(self.taken(spoken, false, false).await)
    }

    /// Types where each step can be seen.
    async fn type_seeing(&self, eye: &Eye, view: &View) -> Result<oneshot::Receiver<String>, Setback> {
        let (typing, text) = (&eye.kind.typing, &self.entry.text);
        let composer = Composer::new(typing, text);
        let empty = composer.on(view);
        let paste = typing.paste && view.paste;
        if !paste && text.contains('\n') {
            let why = "it takes no pastes now, and a line break would submit: send one line".to_owned();
            return Err(Setback::Failed(why));
        }
        self.stage(Stage::Typing, |entry| entry.delivery.typed_at = Some(iso(now())));
        self.input(if paste { pasted(text) } else { typed(text) }).await?;
        let patience = SHOWN + SHOWN_PER_KILOBYTE * u32::try_from(text.len() / 1024).unwrap_or(u32::MAX);
        let standing = self.until(eye, patience, |sight| composer.shows(&sight.look.view, &empty)).await?;
        let Some(standing) = standing else {
            let why = "it was typed, and did not show in its composer: it was not submitted";
            return Err(Setback::Uncertain(why.into()));
        };
        let standing = composer.on(&standing.look.view);
        let failed =
            |error: std::io::Error| Setback::Uncertain(format!("its terminal cannot be read: {error}"));
        let before = self.handle.terminal.screen().await.map_err(failed)?;
        let offset = before.offset;
        self.stage(Stage::Typed, |entry| {
            entry.delivery.verified = true;
            entry.offset = offset;
        });
        tokio::time::sleep(pause(typing, text.chars().count())).await;
        let worked = self.submit(eye, &composer, &standing).await?;
        Ok(self.taken(Spoken { text: text.clone(), before }, true, worked).await)
    }

    /// Presses the key that submits until it was heard; whether the agent was seen at work.
    async fn submit(&self, eye: &Eye, composer: &Composer<'_>, standing: &str) -> Result<bool, Setback> {
        let submit = key(&eye.kind.typing.submit);
        let press = async || self.input(String::from_utf8_lossy(&submit).into_owned()).await;
        // Something may have come up in the meantime that the key would answer.
        if self.until(eye, MOMENT, |sight| sight.look.safe_to_type).await?.is_none() {
            let why = "something came up in its terminal before it could be submitted: it may stand in its composer";
            return Err(Setback::Uncertain(why.into()));
        }
        self.stage(Stage::Submitted, |_| {});
        press().await?;
        let mut again = AGAIN.into_iter().peekable();
        let begun = Instant::now();
        while begun.elapsed() < TAKEN {
            let sight = eye.look().await.ok_or_else(|| self.lost())?;
            if matches!(sight.look.state, Some(State::Busy | State::Blocked)) {
                return Ok(true);
            }
            // A command has led to a login's page.
            if sight.look.state == Some(State::LoginRequired) && !sight.look.safe_to_type {
                return Ok(false);
            }
            if composer.is_rid_of_it(&sight.look.view, standing) {
                return Ok(false);
            }
            let due = again.next_if(|after| begun.elapsed() >= *after).is_some();
            if due && sight.look.safe_to_type && composer.shows(&sight.look.view, "") {
                press().await?;
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(Setback::Uncertain("it stands in its composer, and was not taken from there".into()))
    }

    fn lost(&self) -> Setback {
        Setback::Uncertain("its terminal was closed before it had taken it".into())
    }

    async fn input(&self, text: String) -> Result<(), Setback> {
        let typed = tokio::time::timeout(READ, self.handle.terminal.input(Bytes::from(text))).await;
        match typed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Setback::Uncertain(format!("it was typed in part at most: {error}"))),
            Err(_) => {
                Err(Setback::Uncertain(format!("it was typed in part: the agent read nothing for {READ:?}")))
            }
        }
    }

    /// Looks until something is so; none: it was not in time.
    async fn until(
        &self,
        eye: &Eye,
        patience: Duration,
        is_so: impl Fn(&Sight) -> bool,
    ) -> Result<Option<Sight>, Setback> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            let sight = eye.look().await.ok_or_else(|| self.lost())?;
            if is_so(&sight) {
                return Ok(Some(sight));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(None)
    }

    /// It has it: its turn begins.
    async fn taken(&self, spoken: Spoken, verified: bool, worked: bool) -> oneshot::Receiver<String> {
        self.stage(Stage::Taken, |entry| {
            entry.delivery.verified = verified;
            entry.delivery.taken_at = Some(iso(now()));
        });
        let (answered, answer) = oneshot::channel();
        let turn = Turn { message: self.entry.delivery.id.clone(), spoken, answered, worked };
        // A task that is gone has told of the end.
        let _ = self.handle.commands.send(Command::Turn(turn)).await;
        answer
    }
}

/// The place where a message stands until it is submitted.
struct Composer<'a> {
    typing: &'a kind::Typing,
    /// The end of the text's last line, without blanks: there may be a sign before each line.
    tail: String,
}

impl<'a> Composer<'a> {
    fn new(typing: &'a kind::Typing, text: &str) -> Self {
        let all = squeezed(text.trim_end().lines().next_back().unwrap_or_default());
        let skipped = all.chars().count().saturating_sub(TAIL);
        Self { typing, tail: all.chars().skip(skipped).collect() }
    }

    /// What stands there.
    fn on(&self, view: &View) -> String {
        view.composer(&self.typing.composer).squeezed().to_owned()
    }

    /// Whether the text does, or what stands for it; `empty`: what stood there before.
    fn shows(&self, view: &View, empty: &str) -> bool {
        let now = self.on(view);
        now != empty && (now.contains(&self.tail) || self.is_folded(&now))
    }

    fn is_folded(&self, now: &str) -> bool {
        self.typing.folded.iter().any(|folded| now.contains(&squeezed(folded)))
    }

    fn is_rid_of_it(&self, view: &View, standing: &str) -> bool {
        let now = self.on(view);
        let telling = self.tail.chars().count() >= TELLING;
        now != standing && !self.is_folded(&now) && (!telling || !now.contains(&self.tail))
    }
}
