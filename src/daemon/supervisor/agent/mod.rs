//! One agent: a task that owns its life, and what everybody else holds of it.
//!
//! ```text
//!  API ── commands ─▶ ┌───────┐ ── Input, Resize, Stop … ─▶ shim
//!  terminal ─ typed ─▶│ Agent │ ◀─ Running, Output, Ended … ─┘
//!  clocks ──────────▶ └───────┘ ── shown (a watch), events, its record
//! ```

mod account;
mod begin;
mod clocks;
mod deeds;
mod logins;
mod start;
mod typing;
mod view;
mod watched;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use super::delivery::book::Book;
use super::login::Desk;
use super::observer::{Observed, Observer};
use super::screens::Eye;
use super::socket::Socket;
use super::state::{self, Lifecycle};
use super::times::{iso, now};
use super::{Shared, SupervisorError};
use crate::api;
use crate::api::Login;
use crate::api::events::Happened;
use crate::daemon::audit;
use crate::daemon::quota::Claim;
use crate::daemon::store::Record;
use crate::daemon::terminal::{Extent, Terminal, Typed, Wishes};
use crate::daemon::usage::Times;
use crate::wire::service::order::Size;
use crate::wire::service::shim::{Phase, Usage};
use crate::wire::service::{FromShim, Refusal, ToShim};
pub(crate) use begin::Begin;
use clocks::Clocks;
pub(crate) use deeds::{Command, ExecOrder, Turn};
pub(crate) use start::{Outcome, Reserved};
use typing::Typing;
pub(crate) use view::End;
use view::Facts;

/// What everybody else holds of an agent.
pub(crate) struct Handle {
    /// Its id.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) tenant: String,
    /// Of the request that it came from.
    pub(crate) digest: String,
    /// Who asked for it.
    pub(crate) owner: String,
    /// What it counts for.
    pub(crate) claim: Claim,
    /// Its terminal.
    pub(crate) terminal: Terminal,
    /// What the API shows.
    pub(crate) shown: watch::Sender<api::Agent>,
    /// What its first start came to, once that is known.
    pub(crate) outcome: watch::Sender<Option<Outcome>>,
    /// Tells its task what to do.
    pub(crate) commands: mpsc::Sender<Command>,
    /// It has ended, and a start of it is under way that was let through by its tenant's quota.
    pub(crate) reserved: AtomicBool,
    /// When it last put something out or got something, in milliseconds since 1970; 0: never.
    pub(crate) activity: AtomicU64,
    /// Held by whoever presses more keys than one that belong together.
    pub(crate) hands: Arc<tokio::sync::Mutex<()>>,
    /// What became of its latest messages.
    pub(crate) book: Book,
    /// Who follows its screen, if anybody can.
    pub(crate) eye: Mutex<Option<Eye>>,
    /// How long it was in which state.
    pub(crate) times: Mutex<Times>,
    /// Where its logins are completed.
    pub(crate) desk: Arc<Desk>,
}

impl Handle {
    /// As the API shows it, with what changes all the time.
    pub(crate) fn agent(&self) -> api::Agent {
        let mut agent = self.shown.borrow().clone();
        agent.offset = self.terminal.extent().end;
        let size = self.terminal.size();
        agent.size = size;
        let activity = self.activity.load(Ordering::Relaxed);
        agent.last_activity_at = (activity > 0).then(|| iso(activity));
        if let Some(login) = &mut agent.login {
            login.attempts = self.desk.attempts();
        }
        agent
    }

    /// Whether it takes part in its tenant's quota.
    pub(crate) fn is_active(&self) -> bool {
        self.reserved.load(Ordering::Relaxed) || !self.shown.borrow().state.is_final()
    }

    /// It counts for its tenant's quota as long as what is given lives.
    pub(crate) fn reserve(&self) -> Reserved<'_> {
        self.reserved.store(true, Ordering::Relaxed);
        Reserved(self)
    }

    /// Whether its first start has come to something: before that nobody sees it.
    pub(crate) fn is_known(&self) -> bool {
        matches!(*self.outcome.borrow(), Some(Outcome::Started))
    }

    /// Who follows its screen; none: nobody has described it.
    pub(crate) fn eye(&self) -> Option<Eye> {
        self.eye.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn touch(&self) {
        self.activity.store(now(), Ordering::Relaxed);
    }
}

/// The task's own.
pub(crate) struct Agent {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    record: Record,
    life: Lifecycle,
    socket: Option<Socket>,
    /// What its shim and this daemon both speak.
    version: u16,
    wishes: Wishes,
    commands: mpsc::Receiver<Command>,
    typing: Typing,
    observer: Option<Observer>,
    observed: Option<Observed>,
    end: Option<End>,
    note: Option<String>,
    clocks: Clocks,
    /// It was there before this daemon.
    adopted: bool,
    /// Why it was not started, until its shim is gone.
    not_started: Option<Refusal>,
    /// Who waits for a new start to have come to something.
    restarting: Vec<oneshot::Sender<super::Result<()>>>,
    usages: VecDeque<oneshot::Sender<Result<Usage, Refusal>>>,
    execs: HashMap<u64, oneshot::Sender<Result<u8, String>>>,
    turn: Option<Turn>,
    /// A start that has come to nothing yet.
    start: Option<audit::Start>,
}

/// What comes to an agent's task.
enum Happening {
    Said(io::Result<Option<FromShim>>),
    Told(Option<Command>),
    Typed(Typed),
    Resized(Size),
    Seen,
    Due,
}

/// Whether the task goes on.
type Flow = ControlFlow<()>;

impl Agent {
    /// With its handle's other ends.
    pub(crate) fn new(
        shared: Arc<Shared>,
        handle: Arc<Handle>,
        record: Record,
        wishes: Wishes,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            shared,
            handle,
            record,
            life: Lifecycle::Asked,
            socket: None,
            version: 0,
            wishes,
            commands,
            typing: Typing::default(),
            observer: None,
            observed: None,
            end: None,
            note: None,
            clocks: Clocks::default(),
            adopted: false,
            not_started: None,
            restarting: Vec::new(),
            usages: VecDeque::new(),
            execs: HashMap::new(),
            turn: None,
            start: None,
        }
    }

    /// What is shown of an agent before anything has happened.
    pub(crate) fn first_shown(record: &Record) -> api::Agent {
        let size = api::agent::Size { cols: record.size.cols, rows: record.size.rows };
        let life = Lifecycle::Asked;
        let facts = Facts { record, life, observed: None, end: None, note: None, size };
        view::agent(&facts, None, record.created)
    }

    /// Its life.
    pub(crate) async fn run(mut self, begin: Begin) {
        let mut flow = self.begin(begin).await;
        while flow.is_continue() {
            let happening = self.next().await;
            flow = self.take(happening).await;
        }
    }

    async fn next(&mut self) -> Happening {
        let due = self.due();
        let socket = self.socket.as_ref();
        let said = async {
            match socket {
                Some(socket) => socket.receive::<FromShim>().await,
                None => std::future::pending().await,
            }
        };
        let observer = self.observer.as_ref();
        let seen = async {
            match observer {
                Some(observer) => observer.news().await,
                None => std::future::pending().await,
            }
        };
        let clock = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            said = said => Happening::Said(said),
            command = self.commands.recv() => Happening::Told(command),
            Some(typed) = self.wishes.typed.recv(), if self.typing.has_room() => Happening::Typed(typed),
            Ok(()) = self.wishes.shape.changed() => {
                let size = self.wishes.shape.borrow_and_update().size;
                Happening::Resized(Size { cols: size.cols, rows: size.rows })
            }
            () = seen => Happening::Seen,
            () = clock => Happening::Due,
        }
    }

    async fn take(&mut self, happening: Happening) -> Flow {
        match happening {
            Happening::Said(Ok(Some(said))) => self.said(said).await?,
            Happening::Said(Ok(None)) => self.lost().await?,
            Happening::Said(Err(error)) => {
                warn!(agent = self.record.id, %error, "the shim's connection failed");
                self.lost().await?;
            }
            Happening::Told(Some(command)) => self.told(command).await?,
            Happening::Told(None) => return Flow::Break(()),
            Happening::Typed(typed) if self.life.is_over() => {
                let error =
                    io::Error::new(io::ErrorKind::BrokenPipe, "the agent has ended: nothing can be typed");
                // Whoever typed may be gone.
                let _ = typed.done.send(Err(error));
            }
            Happening::Typed(typed) => {
                self.handle.touch();
                self.typing.push(typed);
                self.pump().await;
            }
            Happening::Resized(size) => self.say(&ToShim::Resize(size)).await,
            Happening::Seen => self.look(),
            Happening::Due => self.rung().await?,
        }
        Flow::Continue(())
    }

    async fn said(&mut self, said: FromShim) -> Flow {
        match said {
            FromShim::Welcome { version, phase, end, taken, size, .. } => {
                self.version = version;
                self.typing.resume(taken);
                self.welcome(phase, end, size).await;
            }
            FromShim::Running { since } => self.running(since),
            FromShim::NotStarted(refusal) => self.not_started = Some(refusal),
            FromShim::Output { end } => self.output(end),
            FromShim::Taken { total } => {
                self.typing.take(total);
                self.pump().await;
            }
            FromShim::Usage(usage) => {
                if let Some(asker) = self.usages.pop_front() {
                    let _ = asker.send(Ok(usage));
                }
            }
            FromShim::ExecEnded { exec, code, refused } => {
                if let Some(asker) = self.execs.remove(&exec) {
                    let _ =
                        asker.send(code.ok_or_else(|| refused.unwrap_or_else(|| "it was not run".into())));
                }
            }
            FromShim::Refused(refusal) => self.refused(refusal),
            FromShim::Verdict(verdict) => self.account_for_verdict(&verdict),
            FromShim::Ended(ended) => return self.ended(End::Seen(Box::new(ended))).await,
        }
        Flow::Continue(())
    }

    async fn welcome(&mut self, phase: Phase, end: u64, size: Size) {
        self.clocks.found();
        if self.life == Lifecycle::Asked {
            self.step(state::Event::Launched);
        }
        self.handle.terminal.extend(Extent { end, ended: false });
        self.handle.terminal.feed().wake();
        if matches!(phase, Phase::Running | Phase::Stopping) && self.life == Lifecycle::Building {
            // Since when follows at once, from a shim that knows.
            self.running(self.record.started.unwrap_or_else(now));
        }
        match (phase, self.life) {
            (Phase::Stopping, Lifecycle::Running) => self.step(state::Event::StopAsked),
            (Phase::Starting | Phase::Running, Lifecycle::Stopping) => self.say_stop().await,
            _ => {}
        }
        let shape = self.wishes.shape.borrow_and_update().size;
        if (shape.cols, shape.rows) != (size.cols, size.rows) {
            self.say(&ToShim::Resize(Size { cols: shape.cols, rows: shape.rows })).await;
        }
        self.pump().await;
        self.show();
    }

    fn running(&mut self, since: u64) {
        self.step(state::Event::Started);
        self.clocks.started();
        self.account_for_start();
        let new = self.record.started != Some(since);
        self.record.started = Some(since);
        if new {
            self.keep();
        }
        if self.observer.is_none() {
            self.observer = Some(self.observer());
            self.resume_turn();
        }
        self.show();
        self.decide(Outcome::Started);
        self.restarting.drain(..).for_each(|asker| drop(asker.send(Ok(()))));
    }

    fn output(&mut self, end: u64) {
        self.handle.terminal.extend(Extent { end, ended: false });
        self.handle.touch();
        if let Some(observer) = &mut self.observer {
            observer.output(Instant::now());
        }
    }

    /// What the first start came to; said once.
    fn decide(&mut self, outcome: Outcome) {
        let started = outcome == Outcome::Started;
        let first = self.handle.outcome.send_if_modified(|old| {
            let first = old.is_none();
            if first {
                *old = Some(outcome);
            }
            first
        });
        if first && started {
            self.publish(Happened::AgentCreated(Box::new(self.handle.agent())));
        }
    }

    fn publish(&self, happened: Happened) {
        self.shared.events.publish_for(&self.record.tenant, Some(&self.record.id), happened);
    }

    /// Shows what it is now, and tells of another state.
    fn show(&mut self) {
        let observer = self.observer.as_mut().filter(|_| self.life == Lifecycle::Running);
        self.observed = observer.map(|observer| observer.observe(Instant::now()));
        let size = self.handle.terminal.size();
        let facts = Facts {
            record: &self.record,
            life: self.life,
            observed: self.observed.as_ref(),
            end: self.end.as_ref(),
            note: self.note.as_deref(),
            size,
        };
        let shown = view::agent(&facts, Some(&self.handle.shown.borrow()), now());
        self.account_for_state(shown.state);
        let mut another_state = false;
        let mut another_login = None;
        self.handle.shown.send_if_modified(|old| {
            another_state = old.state != shown.state;
            let told = |login: &Login| old.login.as_ref().is_some_and(|old| login.is_told_by(old));
            another_login = shown.login.clone().filter(|login| !told(login));
            std::mem::replace(old, shown.clone()) != shown
        });
        self.account_for_login(&shown);
        // Before it is known whether there will be such an agent at all, nobody hears of it.
        let known = matches!(*self.handle.outcome.borrow(), Some(Outcome::Started));
        if another_state && known {
            self.publish(Happened::AgentState(Box::new(self.handle.agent())));
        }
        if let Some(mut login) = another_login.filter(|_| known) {
            login.attempts = self.handle.desk.attempts();
            self.publish(Happened::LoginRequired(login));
        }
    }

    fn step(&mut self, event: state::Event) {
        match self.life.after(event) {
            Ok(life) => self.life = life,
            // A shim that says what cannot be is not believed.
            Err(error) => warn!(agent = self.record.id, %error, "ignored"),
        }
    }

    /// Keeps the record. What cannot be written is worth a warning; the agent goes on.
    fn keep(&self) {
        if let Err(error) = self.shared.store.put(&self.record) {
            warn!(agent = self.record.id, %error, "the record cannot be written");
        }
    }

    async fn pump(&mut self) {
        while self.socket.is_some() {
            let Some(bytes) = self.typing.next() else { return };
            self.say_frame(&crate::wire::service::encode_input(&bytes)).await;
        }
    }

    async fn say(&mut self, message: &ToShim) {
        self.say_frame(&crate::wire::service::encode(message)).await;
    }

    /// A connection that fails is noticed by whoever reads from it.
    async fn say_frame(&mut self, frame: &[u8]) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send_frame(frame, &[]).await
        {
            warn!(agent = self.record.id, %error, "the shim does not listen");
        }
    }

    async fn say_stop(&mut self) {
        let grace = self.clocks.grace.unwrap_or(self.shared.config.grace);
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.say(&ToShim::Stop { grace_ms }).await;
    }

    /// Asks it to end; the shim ends it when the time is over, and the launcher if the shim does not.
    async fn stop(&mut self, grace: Duration, why: String) {
        match self.life {
            Lifecycle::Ended => return,
            Lifecycle::Resting => self.clocks.rest_no_more(),
            _ => self.clocks.stop_by(grace),
        }
        self.note = Some(why);
        self.step(state::Event::StopAsked);
        if self.life == Lifecycle::Stopping {
            self.say_stop().await;
        } else {
            self.note = None;
        }
        self.show();
    }

    fn failure(&self, what: &'static str) -> SupervisorError {
        let state = self.handle.shown.borrow().state.as_str();
        SupervisorError::State { id: self.record.id.clone(), state, what }
    }
}
