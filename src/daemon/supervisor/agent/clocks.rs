//! What an agent's task waits for though nothing happens: limits of time, pauses, deadlines.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Agent, Flow};
use crate::daemon::supervisor::state::Lifecycle;
use crate::daemon::supervisor::times::now;

/// So much longer than the grace period a shim may take to prove the cgroup empty.
const PROOF: Duration = Duration::from_secs(10);

/// The deadlines of one agent.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// The sandbox must stand by then.
    start: Option<Instant>,
    /// The cgroup must be empty by then.
    stop: Option<Instant>,
    /// The grace period of the stop that was asked for.
    pub(super) grace: Option<Duration>,
    /// It is started anew then.
    rest: Option<Instant>,
    /// The next attempt to find its shim, and how many there were.
    pub(super) search: Option<(Instant, u32)>,
    /// When it was started, the last time, as far as this daemon saw it.
    pub(super) running_since: Option<Instant>,
    /// How often it was started anew without having been healthy.
    pub(super) failures: u32,
}

impl Clocks {
    pub(super) fn start_by(&mut self, patience: Duration) {
        self.start = Some(Instant::now() + patience);
    }

    pub(super) fn started(&mut self) {
        self.start = None;
        self.running_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn stop_by(&mut self, grace: Duration) {
        self.grace = Some(grace);
        self.stop = Some(Instant::now() + grace + PROOF);
    }

    pub(super) fn rest_until(&mut self, pause: Duration) {
        self.rest = Some(Instant::now() + pause);
    }

    pub(super) fn rest_no_more(&mut self) {
        self.rest = None;
    }

    pub(super) fn found(&mut self) {
        self.search = None;
    }

    /// It has ended; only the count of failures is left.
    pub(super) fn ended(&mut self) {
        *self = Self { failures: self.failures, ..Self::default() };
    }
}

/// Something that is due, the most urgent first.
enum Due {
    Start,
    Stop,
    Rest,
    Search,
    Lifetime(u64),
    Idle(u64),
    Look,
}

impl Agent {
    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.all_due().into_iter().map(|(at, _)| at).min()
    }

    fn all_due(&self) -> Vec<(Instant, Due)> {
        let clocks = &self.clocks;
        let mut all = Vec::new();
        all.extend(clocks.start.map(|at| (at, Due::Start)));
        all.extend(clocks.stop.map(|at| (at, Due::Stop)));
        all.extend(clocks.rest.map(|at| (at, Due::Rest)));
        all.extend(clocks.search.map(|(at, _)| (at, Due::Search)));
        if self.life == Lifecycle::Running {
            // A limit counts from the start, not from when this daemon came.
            let in_ms = |since: u64, seconds: u64| {
                let left = since.saturating_add(seconds.saturating_mul(1000)).saturating_sub(now());
                Instant::now() + Duration::from_millis(left.min(u64::from(u32::MAX)))
            };
            let started = self.record.started.unwrap_or(self.record.created);
            all.extend(self.record.lifetime.map(|limit| (in_ms(started, limit), Due::Lifetime(limit))));
            // What was typed while another daemon was there is not known: it counts as typed until this one came.
            let active = self.handle.activity.load(Ordering::Relaxed).max(started).max(self.shared.since);
            all.extend(self.record.idle_timeout.map(|limit| (in_ms(active, limit), Due::Idle(limit))));
            all.extend(self.observer.as_ref().and_then(|observer| observer.due()).map(|at| (at, Due::Look)));
        }
        all
    }

    /// Does what is due.
    pub(super) async fn rung(&mut self) -> Flow {
        let all = self.all_due();
        // What is over already is due at the time when that was found.
        let now = Instant::now();
        for (_, due) in all.into_iter().filter(|(at, _)| *at <= now) {
            match due {
                Due::Start => {
                    let what =
                        format!("building its sandbox took longer than {:?}", self.shared.config.start);
                    return self.put_down(what).await;
                }
                Due::Stop => return self.put_down("its shim did not end it in time".into()).await,
                Due::Rest => {
                    self.clocks.rest = None;
                    return self.relaunch().await;
                }
                Due::Search => return self.search().await,
                Due::Lifetime(limit) => {
                    let grace = self.shared.config.grace;
                    self.stop(grace, format!("its lifetime of {limit} s is over")).await;
                }
                Due::Idle(limit) => {
                    let grace = self.shared.config.grace;
                    self.stop(grace, format!("no output and no input for {limit} s")).await;
                }
                Due::Look => self.look(),
            }
        }
        ControlFlow::Continue(())
    }
}
