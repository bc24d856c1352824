//! The daemon's side of the audit: what happens here becomes an event, and what must not happen unrecorded waits.
//!
//! ```text
//!  request answered, connection refused, attached …  ── record ─▶ log        nobody waits
//!  about to launch, remove, run, give a secret        ── intend ─▶ log ─▶ synced ─▶ the deed ─▶ its outcome: record
//! ```
//! What takes rights away (stop, detach) is never refused for want of a record: it is recorded when the log is back.

pub mod elsewhere;
pub mod facts;
mod pace;
pub mod policies;
pub mod refusals;
pub mod sinks;
pub mod tail;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;

use crate::audit::event::Event;
use crate::audit::parts::{Act, Outcome, Part, Rights};
use crate::audit::segment::HEAD;
use crate::audit::text::{RequestId, Word};
use crate::audit::writer::Keep;
use crate::audit::{Log, Options, Seal, Unavailable, head};
use crate::daemon::authz::{self, Caller, Decision, Endpoint};
use crate::daemon::problem;
use crate::id::AgentId;
use crate::wire::service::Places;
use pace::{OnItsWay, Pace};
use refusals::Refusals;
use sinks::{Sink, Sinks};

/// In the directory of the daemon's own records.
const KEY: &str = "audit.key";

/// How long the end of an agent waits for its record, before the rest of it goes on.
const PATIENCE: Duration = Duration::from_secs(2);

/// The node's audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    log: Log,
    dir: PathBuf,
    synced: watch::Receiver<u64>,
    refusals: Arc<Refusals>,
    sessions: Arc<AtomicU64>,
    sinks: Arc<Sinks>,
    keep: Arc<Keep>,
    pace: Pace,
}

impl Audit {
    /// Begins to write. A log that cannot be opened yet is tried again and again: until then no intent is taken.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(places: &Places) -> io::Result<Self> {
        let (told, synced) = watch::channel(0);
        let tell = move |seq| {
            told.send_replace(seq);
        };
        let dir = places.audit();
        let keep = Arc::<Keep>::default();
        let options = Options {
            keep: keep.clone(),
            told: Some(Arc::new(tell)),
            ..Options::new(&dir, places.records().join(KEY))
        };
        let log = Log::start(options)?;
        Ok(Self {
            log,
            dir,
            synced,
            keep,
            refusals: Arc::default(),
            sessions: Arc::default(),
            sinks: Arc::default(),
            pace: Pace::default(),
        })
    }

    /// From now on the log goes to these, and to no others.
    pub fn feed(&self, sinks: Vec<Sink>, places: &Places, node: &str) {
        let (log, synced) = (self.dir.clone(), self.synced.clone());
        let cursors = places.records().join("sinks");
        self.sinks.replace(sinks, &sinks::Source { log, synced, cursors, node: node.to_owned() });
    }

    /// From now on no more of the log is kept than this; none: all of it.
    pub fn keep(&self, bytes: Option<u64>, time: Option<Duration>) {
        self.keep.set(bytes, time);
    }

    /// From now on another key signs. The number of the record that says so, and the id of the new key.
    ///
    /// # Errors
    /// When the log cannot be written now.
    pub async fn rotate_key(&self) -> Result<u64, Unavailable> {
        self.log.rotate_key().await
    }

    /// The latest signature over the log, as it lies beside it.
    pub fn head(&self) -> io::Result<Option<Seal>> {
        head::read(&self.dir.join(HEAD), |_| true)
    }

    /// How its sinks do, and how many records each has not got yet.
    pub fn sinks(&self) -> Vec<(sinks::Status, u64)> {
        let end = *self.synced.borrow();
        let all = self.sinks.status();
        let lag = |status: sinks::Status| {
            let behind = end.saturating_sub(status.delivered);
            (status, behind)
        };
        all.into_iter().map(lag).collect()
    }

    /// This happened. Nobody waits for it.
    pub fn record(&self, event: Event) {
        drop(self.log.record(event));
    }

    /// This happened; whether it is on disk. A log that cannot be written is not waited for: it keeps what it was told.
    pub async fn record_synced(&self, events: Vec<Event>) -> bool {
        let tickets: Vec<_> =
            events.into_iter().map(|event| self.log.record_within(event, Duration::ZERO)).collect();
        if self.state().is_err() {
            return false;
        }
        let all = async {
            for ticket in tickets {
                if ticket.await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or(false)
    }

    /// The number of the last record there is, with everything that was recorded until now. A log that cannot be written is not waited
    /// for: then it is the last one that is on disk.
    pub async fn end(&self) -> u64 {
        let _ = tokio::time::timeout(PATIENCE, self.log.flush()).await;
        *self.synced.borrow()
    }

    /// This is about to happen: once it is on disk, it may.
    ///
    /// # Errors
    /// When it cannot be recorded, and must not happen.
    pub async fn intend(&self, intent: Event) -> Result<u64, Unavailable> {
        self.log.record(intent).await
    }

    /// This is about to be started: once that is on disk, it may be.
    ///
    /// # Errors
    /// As [`Self::intend`].
    pub async fn start_of(&self, intent: Event) -> Result<Start, Unavailable> {
        let (on_its_way, patience) = self.pace.start();
        let intent = self.log.record_within(intent, patience).await?;
        Ok(Start { intent, _on_its_way: on_its_way })
    }

    /// This is about to be done to an agent, at this caller's request.
    ///
    /// # Errors
    /// As [`Self::intend`].
    pub async fn deed(&self, caller: &Caller, agent: &AgentId, act: Act) -> Result<Deed, Unavailable> {
        let intent = self.intend(facts::intent(act, agent, caller)).await?;
        Ok(Deed { audit: self.clone(), intent, agent: agent.clone(), act, told: false })
    }

    /// The same for what is done whether it can be recorded now or not.
    pub async fn deed_anyhow(&self, caller: &Caller, agent: &AgentId, act: Act) -> Deed {
        let intent = self.intend(facts::intent(act, agent, caller)).await.unwrap_or(0);
        Deed { audit: self.clone(), intent, agent: agent.clone(), act, told: false }
    }

    /// A viewer is attached for as long as this lives.
    pub fn attached(&self, caller: &Caller, agent: &str, may_type: bool) -> Option<Attached> {
        let agent: AgentId = agent.parse().ok()?;
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let rights = if may_type { Rights::Type } else { Rights::View };
        self.record(Event::Attached { agent: agent.clone(), session, who: facts::who(caller), rights });
        Some(Attached { audit: self.clone(), agent, session })
    }

    /// A connection that did not get as far as a request. Many of one kind from one address are one record.
    fn refused(&self, address: SocketAddr, reason: &'static str, named: Option<(&str, &str)>) {
        self.refusals.count(address, reason, named).into_iter().for_each(|event| self.record(event));
    }

    /// Writes down, now and then, what [`Self::refused`] has counted.
    pub async fn follow_refusals(self) {
        loop {
            tokio::time::sleep(refusals::TOGETHER).await;
            self.refusals.over().into_iter().for_each(|event| self.record(event));
        }
    }

    /// Whether intents are taken.
    ///
    /// # Errors
    /// Why not.
    pub fn state(&self) -> Result<(), Unavailable> {
        self.log.state()
    }

    /// Writes and signs what waits. Nothing is recorded after it.
    pub async fn close(&self) {
        let (log, left) = (self.log.clone(), self.refusals.over());
        left.into_iter().for_each(|event| self.record(event));
        // It syncs.
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
    }
}

impl authz::Record for Audit {
    /// Nothing has happened yet: what it came to is recorded, and what must not happen unrecorded is intended first.
    fn decided(&self, decision: &Decision<'_>) {
        authz::decision::Log.decided(decision);
    }

    fn answered(&self, decision: &Decision<'_>, status: StatusCode) {
        // Asked by machines every few seconds, and nothing is revealed.
        if !matches!(decision.endpoint, Endpoint::Metrics | Endpoint::ParallaxHealth) {
            self.record(facts::answered(decision, status.as_u16()));
        }
    }

    fn connection_refused(&self, address: SocketAddr, reason: &'static str, named: Option<(&str, &str)>) {
        self.refused(address, reason, named);
    }

    fn reloaded(&self, outcome: Result<&[&'static str], &str>) {
        let (outcome, waits) = match outcome {
            Ok(waits) => (Outcome::Done, waits.iter().map(|part| Word::new(part)).collect()),
            Err(_) => (Outcome::Refused, Vec::new()),
        };
        self.record(Event::Reloaded { part: Part::Config, outcome, hash: None, waits });
    }
}

/// A start that is on its way until somebody has said what it came to.
pub struct Start {
    /// The number of its record.
    pub intent: u64,
    _on_its_way: OnItsWay,
}

/// Something that is being done; unless somebody says what it came to, it was given up.
pub struct Deed {
    audit: Audit,
    intent: u64,
    agent: AgentId,
    act: Act,
    told: bool,
}

impl Deed {
    /// It came to this.
    pub fn came_to<T>(self, result: &crate::daemon::supervisor::Result<T>) {
        match result {
            Ok(_) => self.tell(Outcome::Done, None),
            Err(error) => self.tell(Outcome::Refused, Some(facts::word(error))),
        }
    }

    /// It was not done, for this reason.
    pub fn refused(self, reason: &'static str) {
        self.tell(Outcome::Refused, Some(Word::new(reason)));
    }

    /// It was done.
    pub fn done(self) {
        self.tell(Outcome::Done, None);
    }

    fn tell(mut self, outcome: Outcome, reason: Option<Word>) {
        self.told = true;
        self.write(outcome, reason);
    }

    fn write(&self, outcome: Outcome, reason: Option<Word>) {
        let Self { intent, act, .. } = *self;
        self.audit.record(Event::Acted { intent, agent: self.agent.clone(), act, outcome, reason });
    }
}

impl Drop for Deed {
    fn drop(&mut self) {
        if !self.told {
            self.write(Outcome::Failed, Some(Word::new("given-up")));
        }
    }
}

/// A viewer, attached.
pub struct Attached {
    audit: Audit,
    agent: AgentId,
    session: u64,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let (agent, session) = (self.agent.clone(), self.session);
        self.audit.record(Event::Detached { agent, session, reason: Word::new("closed") });
    }
}

/// Of the request that this task answers.
fn request() -> Option<RequestId> {
    problem::request_id().map(|id| RequestId::of(&id))
}
