//! What the audit log hears of an agent's life: intents before they are carried out, and what they came to.

use std::sync::{MutexGuard, PoisonError};

use super::{Agent, End, Outcome};
use crate::api::State;
use crate::audit::{Event, Unavailable};
use crate::daemon::audit::{Start, facts};
use crate::daemon::supervisor::spawn;
use crate::daemon::usage::{self, Subject, Times};
use crate::wire::service::places;
use crate::wire::service::shim::Verdict;

impl Agent {
    /// Something is about to be started: goes on once that is on disk.
    pub(super) async fn intend(&mut self, intent: Event) -> Result<(), Unavailable> {
        self.start = Some(self.shared.audit.start_of(intent).await?);
        Ok(())
    }

    /// It is about to be started anew.
    pub(super) async fn intend_relaunch(&mut self) -> Result<(), Unavailable> {
        let policy = self.record.policy.parse().ok();
        let hash = policy.and_then(|policy| spawn::policy_hash(&self.shared, &policy));
        match facts::relaunch(&self.record.id, &self.record.policy, hash) {
            Some(intent) => self.intend(intent).await,
            None => Ok(()),
        }
    }

    /// It runs.
    pub(super) fn account_for_start(&mut self) {
        let Some(Start { intent, .. }) = self.start.take() else { return };
        let path = self.shared.places.agent(&self.record.id).join(places::ATTESTATION);
        let attestation = std::fs::read(path).unwrap_or_default();
        self.record_all(facts::started(intent, &self.record.id, &attestation));
    }

    /// It does not, and will not.
    pub(super) fn account_for_no_start(&mut self, outcome: &Outcome) {
        let Some(Start { intent, .. }) = self.start.take() else { return };
        let (refusal, otherwise) = match outcome {
            Outcome::Refused(refusal) => (Some(refusal), "refused"),
            Outcome::Unanswered(..) => (None, "launcher"),
            Outcome::Unrecorded(_) => (None, "audit"),
            Outcome::Started | Outcome::CutShort => (None, "ended"),
        };
        self.record_all(facts::not_started(intent, &self.record.id, refusal, otherwise));
    }

    /// A daemon that is new has found it.
    pub(super) fn account_for_adoption(&self) {
        let agent = self.record.id.parse().ok();
        self.record_all(agent.map(|agent| Event::Adopted { agent, running: true }));
    }

    /// It is in this state now.
    pub(super) fn account_for_state(&self, state: State) {
        self.times().enter(state);
    }

    /// A wall has decided something that it had not decided before.
    pub(super) fn account_for_verdict(&self, verdict: &Verdict) {
        self.record_all(facts::verdict(&self.record.id, verdict));
    }

    /// What an earlier daemon has recorded of its usage is not recorded again.
    pub(super) fn resume_usage(&self) {
        if let Some(mark) = self.shared.usage.mark(&self.record.id) {
            self.times().resume(mark.incarnation, mark.total.states_ms);
        }
    }

    /// It is started anew: what comes is another incarnation's.
    pub(super) fn renew_usage(&self) {
        self.times().renew();
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.handle.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it used is recorded before anything that it left is removed. Found again, it is not recorded again.
    async fn account_for_usage(&self, end: &End) {
        let id = &self.record.id;
        let started = self.record.started;
        let metered = match end {
            End::Seen(ended) if ended.not_started.is_some() => None,
            End::Seen(ended) => ended
                .metered
                .as_deref()
                .cloned()
                .or_else(|| started.map(|started| usage::of_an_earlier_shim(id, started, ended))),
            // What its shim has said all the same, or had seen last.
            End::Unseen(_) => {
                let said = self.exit().and_then(|ended| ended.metered).map(|metered| *metered);
                said.or_else(|| usage::measured(&self.shared.places, id)).filter(|_| started.is_some())
            }
        };
        if let Some(metered) = metered {
            self.shared.usage.ended(&Subject::of(&self.record), &metered, &self.handle.times).await;
        }
    }

    /// It has ended. Each end is told once, however often a daemon is started after it.
    pub(super) async fn account_for_end(&mut self, end: &End) {
        self.account_for_usage(end).await;
        let refusal = match end {
            End::Seen(ended) => ended.not_started.as_ref(),
            End::Unseen(_) => None,
        };
        if let Some(Start { intent, .. }) = self.start.take() {
            self.record_all(facts::not_started(intent, &self.record.id, refusal, "ended"));
        }
        // What never ran has no end.
        if refusal.is_some() || self.record.started.is_none() || self.record.told == Some(end.at()) {
            return;
        }
        let rebooted = self.record.boot != self.shared.boot;
        let events = match end {
            End::Seen(ended) => facts::ended(&self.record.id, ended),
            End::Unseen(_) => facts::vanished(&self.record.id, rebooted).into_iter().collect(),
        };
        // What is not on disk yet is told again by the next daemon: better twice than never.
        if self.shared.audit.record_synced(events).await {
            self.record.told = Some(end.at());
            self.keep();
        }
    }

    /// Of a start that has come to nothing there is no other end to tell of.
    pub(super) fn no_end_but_this(&mut self, at: u64) {
        self.record.told = Some(at);
    }

    fn record_all(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.shared.audit.record(event));
    }
}
