//! How an agent's task begins and ends: launched, found again, lost, started anew.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Agent, End, Flow, Outcome};
use crate::api::events::Happened;
use crate::audit;
use crate::daemon::store::Verdict;
use crate::daemon::supervisor::SupervisorError;
use crate::daemon::supervisor::socket::Socket;
use crate::daemon::supervisor::state::{Event, Lifecycle};
use crate::daemon::supervisor::times::now;
use crate::daemon::terminal::Extent;
use crate::wire;
use crate::wire::service::launcher::Reason;
use crate::wire::service::{Ended, FromLauncher, FromShim, Refusal, ToLauncher, ToShim, Versions, places};

/// How long a launcher that ended meanwhile may have started a shim that says so.
const DOUBT: Duration = Duration::from_secs(2);

/// How often a shim is looked for that has closed its connection, and how long after the first time.
const SEARCHES: (u32, Duration) = (6, Duration::from_millis(20));

/// How long a shim may take to greet.
const GREETING: Duration = Duration::from_secs(5);

/// The pause before the launcher is asked again to put an end to an agent.
const AGAIN: Duration = Duration::from_secs(1);

/// Why nothing of an agent is removed or replaced yet.
const UNWRITTEN: &str = "what it used cannot be recorded now (is the disk full?): try again later";

/// What a task begins with.
pub(crate) enum Begin {
    /// A new agent, by this order.
    Launch(OwnedFd, Box<audit::Event>),
    /// One that may be there already.
    Adopt,
}

impl Agent {
    pub(super) async fn begin(&mut self, begin: Begin) -> Flow {
        match begin {
            Begin::Adopt => self.adopt().await,
            Begin::Launch(order, intent) => {
                if let Err(unavailable) = self.intend(*intent).await {
                    return self.give_up(Outcome::Unrecorded(unavailable)).await;
                }
                let id = self.record.id.clone();
                match self.launch(ToLauncher::Launch { id }, Some(order)).await {
                    Ok(flow) => flow,
                    Err(outcome) => self.give_up(outcome).await,
                }
            }
        }
    }

    /// Has the launcher start a shim.
    async fn launch(&mut self, message: ToLauncher, order: Option<OwnedFd>) -> Result<Flow, Outcome> {
        let failed = |error: io::Error| Outcome::Unanswered(error.kind(), error.to_string());
        let (ours, theirs) = wire::pair().map_err(failed)?;
        let socket = Socket::new(ours).map_err(failed)?;
        // It lies there until the shim reads it: one way less.
        socket.send(&ToShim::Hello { versions: Versions::OWN }, &[]).await.map_err(failed)?;
        let fds = order.into_iter().chain([theirs]).collect();
        match self.shared.launcher.ask(message, fds).await {
            Ok(FromLauncher::Launched { .. }) => {}
            Ok(FromLauncher::Refused(refusal)) => return Err(Outcome::Refused(refusal)),
            Ok(other) => {
                return Err(failed(io::Error::other(format!("it answered a launch with {other:?}"))));
            }
            // It may have started the shim before it ended: then that says so.
            Err(error) => match tokio::time::timeout(DOUBT, socket.receive::<FromShim>()).await {
                Ok(Ok(Some(said))) => {
                    self.launched(socket);
                    return Ok(self.said(said).await);
                }
                _ => return Err(failed(error)),
            },
        }
        self.launched(socket);
        Ok(ControlFlow::Continue(()))
    }

    fn launched(&mut self, socket: Socket) {
        self.socket = Some(socket);
        self.step(Event::Launched);
        self.clocks.start_by(self.shared.config.start);
    }

    /// The first start came to nothing: nothing of it stays.
    async fn give_up(&mut self, outcome: Outcome) -> Flow {
        let id = self.record.id.clone();
        self.account_for_no_start(&outcome);
        match &outcome {
            // Nothing was asked for.
            Outcome::Unrecorded(_) => {}
            // What an older agent of this id has left is not ours to remove, and of a refused order there is nothing.
            Outcome::Refused(_) if self.life == Lifecycle::Asked => {}
            Outcome::Refused(_) | Outcome::CutShort | Outcome::Started => self.clear().await,
            Outcome::Unanswered(..) => {
                // Nobody waits for a launcher that is not there; its own sweep has ended what it had begun.
                self.decide(outcome.clone());
                self.clear().await;
            }
        }
        if let Err(error) = self.shared.store.forget(&id) {
            warn!(agent = id, %error, "a record cannot be removed");
        }
        self.shared.agents().remove(&id);
        self.decide(outcome);
        ControlFlow::Break(())
    }

    /// Has the launcher remove what is kept.
    async fn clear(&self) {
        let remove = ToLauncher::Remove { id: self.record.id.clone(), workspace: false };
        match self.shared.launcher.ask(remove, Vec::new()).await {
            Ok(FromLauncher::Done) => {}
            Ok(answer) => warn!(agent = self.record.id, ?answer, "what is kept of it was not removed"),
            Err(error) => warn!(agent = self.record.id, %error, "what is kept of it was not removed"),
        }
    }

    /// Finds it again: its shim, or what that has left.
    async fn adopt(&mut self) -> Flow {
        self.adopted = true;
        self.resume_usage();
        if self.record.started.is_some() {
            // Whoever asks for its id finds it, whatever becomes of it. One of which nobody knows whether it was ever
            // started is there once its shim says so.
            self.decide_silently();
        }
        self.recall_activity();
        if let Some(verdict) = self.record.verdict.clone() {
            return self.ended(End::Unseen(verdict)).await;
        }
        let flow = match self.connect().await {
            Ok(()) => match self.greeted().await {
                Ok(said) => {
                    self.account_for_adoption();
                    self.said(said).await
                }
                Err(_) => self.lost().await,
            },
            Err(_) => match self.exit() {
                Some(ended) => self.ended(End::Seen(Box::new(ended))).await,
                None if self.record.boot != self.shared.boot => self.rebooted().await,
                None => self.lost().await,
            },
        };
        self.shared.adopted();
        flow
    }

    fn decide_silently(&self) {
        self.handle.outcome.send_replace(Some(Outcome::Started));
    }

    /// When it last put something out, as its log says.
    fn recall_activity(&self) {
        let written = self.handle.terminal.written().unwrap_or(0);
        self.handle.activity.store(written, Ordering::Relaxed);
    }

    async fn greeted(&mut self) -> io::Result<FromShim> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let said = tokio::time::timeout(GREETING, socket.receive::<FromShim>()).await;
        said.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
            .ok_or(io::ErrorKind::ConnectionReset.into())
    }

    async fn connect(&mut self) -> io::Result<()> {
        let socket = Socket::connect(&self.shared.places.shim_socket(&self.record.id)).await?;
        socket.send(&ToShim::Hello { versions: Versions::OWN }, &[]).await?;
        self.socket = Some(socket);
        Ok(())
    }

    /// What the shim wrote down at the end.
    pub(super) fn exit(&self) -> Option<Ended> {
        let text = std::fs::read(self.shared.places.agent(&self.record.id).join(places::EXIT)).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| warn!(agent = self.record.id, %error, "exit.json cannot be read"))
            .ok()
    }

    async fn rebooted(&mut self) -> Flow {
        let error = "the node was rebooted while it ran".to_owned();
        self.ended(End::Unseen(Verdict { error, at: now() })).await
    }

    /// The connection to its shim is gone.
    pub(super) async fn lost(&mut self) -> Flow {
        self.socket = None;
        self.usages.clear();
        self.execs.clear();
        if let Some(refusal) = self.not_started.take() {
            return self.ended(End::Seen(Box::new(self.never_started(refusal)))).await;
        }
        self.clocks.search = Some((Instant::now(), 0));
        ControlFlow::Continue(())
    }

    fn never_started(&self, refusal: Refusal) -> Ended {
        Ended {
            code: None,
            signal: None,
            out_of_memory: false,
            stopped: false,
            killed: false,
            not_started: Some(refusal),
            boot: self.shared.boot.clone(),
            at: now(),
            end: self.handle.terminal.extent().end,
            usage: Default::default(),
            report: Default::default(),
            metered: None,
        }
    }

    /// Looks for its shim once more, for what that has left, and at last gives it up.
    pub(super) async fn search(&mut self) -> Flow {
        let count = self.clocks.search.take().map_or(0, |(_, count)| count);
        if self.connect().await.is_ok() {
            // It may take the connection and close it again: then this counts, too.
            self.clocks.search = Some((Instant::now() + GREETING, count + 1));
            return match self.greeted().await {
                Ok(said) => self.said(said).await,
                Err(_) => self.search_later(count + 1).await,
            };
        }
        self.search_later(count + 1).await
    }

    async fn search_later(&mut self, count: u32) -> Flow {
        self.socket = None;
        if let Some(ended) = self.exit() {
            return self.ended(End::Seen(Box::new(ended))).await;
        }
        if count >= SEARCHES.0 {
            return self.put_down("its shim has vanished".into()).await;
        }
        self.clocks.search = Some((Instant::now() + SEARCHES.1 * 2u32.pow(count), count));
        ControlFlow::Continue(())
    }

    /// Has the launcher kill what is left of it, and prove that.
    pub(super) async fn put_down(&mut self, error: String) -> Flow {
        self.socket = None;
        let kill = ToLauncher::Kill { id: self.record.id.clone() };
        match self.shared.undertaker.ask(kill, Vec::new()).await {
            Ok(FromLauncher::Done) => {}
            // Nothing is left of what it does not know.
            Ok(FromLauncher::Refused(refusal)) if refusal.reason == Reason::Unknown => {}
            other => {
                warn!(agent = self.record.id, answer = ?other, "the launcher has not put an end to it yet");
                self.note =
                    Some(format!("{error}; the launcher has not proved yet that nothing of it is left"));
                self.show();
                self.clocks.search = Some((Instant::now() + AGAIN, SEARCHES.0));
                return ControlFlow::Continue(());
            }
        }
        match self.exit() {
            Some(ended) => self.ended(End::Seen(Box::new(ended))).await,
            None => self.ended(End::Unseen(Verdict { error, at: now() })).await,
        }
    }

    /// Nothing of it is left.
    pub(super) async fn ended(&mut self, end: End) -> Flow {
        self.step(Event::Ended);
        self.account_for_end(&end).await;
        self.socket = None;
        self.typing.end();
        self.usages.clear();
        self.execs.clear();
        let log = self.handle.terminal.kept().map_or(0, |(_, end)| end);
        let reach = match &end {
            End::Seen(ended) if ended.boot == self.shared.boot => ended.end,
            _ => log,
        };
        self.handle.terminal.extend(Extent { end: reach, ended: true });
        self.end_turn();
        if let End::Unseen(verdict) = &end
            && self.record.verdict.as_ref() != Some(verdict)
        {
            self.record.verdict = Some(verdict.clone());
            self.keep();
        }
        if matches!(&end, End::Seen(ended) if ended.not_started.is_none() && self.adopted) {
            self.decide_silently();
        }
        if self.handle.outcome.borrow().is_none() {
            let detail = end.evidence();
            let refusal = match end {
                End::Seen(ended) => ended.not_started,
                End::Unseen(_) => None,
            };
            let failed = Refusal { reason: Reason::Failed, detail, field: None };
            let outcome = match refusal {
                None if self.adopted => Outcome::CutShort,
                // The launcher was ended, too, before it had started a shim.
                Some(Refusal { reason: Reason::Failed, .. }) if self.adopted => Outcome::CutShort,
                refusal => Outcome::Refused(refusal.unwrap_or(failed)),
            };
            return self.give_up(outcome).await;
        }
        self.rest(end).await
    }

    /// It has ended; perhaps not for good.
    async fn rest(&mut self, end: End) -> Flow {
        let asked = self.clocks.grace.is_some() || self.note.is_some();
        let healthy = self.shared.config.restarts.healthy;
        if self.clocks.running_since.is_some_and(|since| since.elapsed() >= healthy) {
            self.clocks.failures = 0;
        }
        self.clocks.ended();
        self.observer = None;
        let again = self.record.auto_restart && end.is_failure() && !asked && !self.shared.is_draining();
        let rebooted = matches!(&end, End::Unseen(_)) && self.record.boot != self.shared.boot;
        self.note = None;
        if again && !rebooted && self.restarting.is_empty() {
            let pause = self.shared.config.restarts.pause(self.clocks.failures);
            self.clocks.failures += 1;
            self.step(Event::Again);
            self.clocks.rest_until(pause);
            self.note = Some(format!("{}; it is started again after {pause:?}", end.evidence()));
        }
        self.end = Some(end);
        self.show();
        if self.restarting.is_empty() { ControlFlow::Continue(()) } else { self.relaunch().await }
    }

    /// Starts it anew, by the order that it was started with.
    pub(super) fn relaunch(&mut self) -> Pin<Box<dyn Future<Output = Flow> + Send + '_>> {
        // A start may end at once, and be followed by the next: a future of its own each time.
        Box::pin(self.launch_anew())
    }

    async fn launch_anew(&mut self) -> Flow {
        self.step(Event::Relaunch);
        self.renew_usage();
        self.clocks.running_since = None;
        self.handle.terminal.renew().await;
        self.record.restarts += 1;
        self.record.boot.clone_from(&self.shared.boot);
        self.record.verdict = None;
        self.note = None;
        self.end = None;
        self.not_started = None;
        self.keep();
        self.show();
        info!(agent = self.record.id, restarts = self.record.restarts, "started anew");
        let id = self.record.id.clone();
        let launched = match self.intend_relaunch().await {
            // What the last start used is nowhere else once it is started anew.
            _ if !self.shared.usage.is_written(&id) => Err(self.unwritten()),
            Ok(()) => self.launch(ToLauncher::Relaunch { id }, None).await,
            Err(unavailable) => Err(Outcome::Unrecorded(unavailable)),
        };
        match launched {
            Ok(flow) => flow,
            Err(outcome) => {
                self.account_for_no_start(&outcome);
                let (error, told) = match outcome {
                    Outcome::Refused(refusal) => (refusal.detail.clone(), refusal.into()),
                    Outcome::Unanswered(kind, text) => {
                        (text.clone(), SupervisorError::Launcher { source: io::Error::new(kind, text) })
                    }
                    Outcome::Unrecorded(unavailable) => (unavailable.to_string(), unavailable.into()),
                    Outcome::Started | Outcome::CutShort => unreachable!("launch fails with a reason"),
                };
                if let Some(asker) = self.restarting.pop() {
                    let _ = asker.send(Err(told));
                }
                self.restarting.clear();
                let verdict = Verdict { error: format!("it was not started again: {error}"), at: now() };
                self.no_end_but_this(verdict.at);
                self.ended(End::Unseen(verdict)).await
            }
        }
    }

    fn unwritten(&self) -> Outcome {
        let detail = format!("agent {}: {UNWRITTEN}", self.record.id);
        Outcome::Refused(Refusal { reason: Reason::Failed, detail, field: None })
    }

    /// Removes an agent that has ended, with all that is kept of it.
    pub(super) async fn remove(&mut self) -> Result<(), SupervisorError> {
        if !self.life.is_over() {
            return Err(self.failure("stop it before it is removed"));
        }
        if !self.shared.usage.is_written(&self.record.id) {
            return Err(self.failure(UNWRITTEN));
        }
        let remove = ToLauncher::Remove { id: self.record.id.clone(), workspace: false };
        let asked = self.shared.launcher.ask(remove, Vec::new()).await;
        match asked.map_err(|source| SupervisorError::Launcher { source })? {
            FromLauncher::Refused(refusal) if refusal.reason != Reason::Unknown => return Err(refusal.into()),
            _ => {}
        }
        let what = || format!("cannot forget agent {}", self.record.id);
        self.shared
            .store
            .forget(&self.record.id)
            .map_err(|source| SupervisorError::Io { what: what(), source })?;
        self.shared.forget(&self.record.id);
        self.shared.usage.forget(&self.record.id);
        self.publish(Happened::AgentRemoved);
        Ok(())
    }
}
