//! What the audit log hears of an agent's life: intents before they are carried out, and what they came to.

use super::{Agent, End, Outcome};
use crate::audit::{Event, Unavailable};
use crate::daemon::audit::facts;
use crate::wire::service::places;

impl Agent {
    /// Something is about to be started: goes on once that is on disk.
    pub(super) async fn intend(&mut self, intent: Event) -> Result<(), Unavailable> {
        self.intent = Some(self.shared.audit.intend(intent).await?);
        Ok(())
    }

    /// It is about to be started anew.
    pub(super) async fn intend_relaunch(&mut self) -> Result<(), Unavailable> {
        match facts::relaunch(&self.record.id, &self.record.policy) {
            Some(intent) => self.intend(intent).await,
            None => Ok(()),
        }
    }

    /// It runs.
    pub(super) fn account_for_start(&mut self) {
        let Some(intent) = self.intent.take() else { return };
        let path = self.shared.places.agent(&self.record.id).join(places::ATTESTATION);
        let attestation = std::fs::read(path).unwrap_or_default();
        self.record_all(facts::started(intent, &self.record.id, &attestation));
    }

    /// It does not, and will not.
    pub(super) fn account_for_no_start(&mut self, outcome: &Outcome) {
        let Some(intent) = self.intent.take() else { return };
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

    /// It has ended. Each end is told once, however often a daemon is started after it.
    pub(super) fn account_for_end(&mut self, end: &End) {
        let refusal = match end {
            End::Seen(ended) => ended.not_started.as_ref(),
            End::Unseen(_) => None,
        };
        if let Some(intent) = self.intent.take() {
            self.record_all(facts::not_started(intent, &self.record.id, refusal, "ended"));
        }
        // What never ran has no end.
        if refusal.is_some() || self.record.started.is_none() || self.record.told == Some(end.at()) {
            return;
        }
        let rebooted = self.record.boot != self.shared.boot;
        match end {
            End::Seen(ended) => self.record_all(facts::ended(&self.record.id, ended)),
            End::Unseen(_) => self.record_all(facts::vanished(&self.record.id, rebooted)),
        }
        self.record.told = Some(end.at());
        self.keep();
    }

    fn record_all(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.shared.audit.record(event));
    }
}
