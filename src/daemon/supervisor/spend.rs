//! What agents and tenants have used, held against their budgets: warned once, then stopped.

use std::collections::HashSet;
use std::sync::Arc;

use super::agent::Handle;
use super::collect::Look;
use super::shared::Shared;
use super::times::{iso, now};
use crate::api::State;
use crate::api::events::{self, Happened};
use crate::api::usage::Amounts;
use crate::audit::event::Event;
use crate::audit::text::Word;
use crate::daemon::quota::budget::{Level, Spent};

/// What was told already: by whom it is about, what, and how far.
#[derive(Debug, Default)]
pub(super) struct Spending {
    told: HashSet<(String, &'static str, Level)>,
}

/// So many are remembered; a warning may come twice then.
const MOST: usize = 100_000;

/// A budget that warns, or is used up.
pub(super) struct Reached {
    /// Whose, if it is one agent's.
    pub(super) agent: Option<String>,
    /// Whose.
    pub(super) tenant: String,
    /// For judges.
    pub(super) budget: Option<Event>,
    /// For everybody.
    pub(super) happened: Happened,
    /// What is to end, and why.
    pub(super) stop: Vec<(Arc<Handle>, String)>,
}

impl Spending {
    /// Looks at the agents of one tenant that run.
    pub(super) fn look(&mut self, shared: &Shared, tenant: &str, looks: &[&Look]) -> Vec<Reached> {
        let quota = shared.rules().quota(tenant);
        let mut found = Vec::new();
        let mut untold = Amounts::default();
        for (handle, metered) in looks {
            let (used, more) = shared.usage.live(&handle.id, metered);
            untold.add(&more, 1);
            let Some(budget) = &quota.agent_budget else { continue };
            for spent in budget.spent(&used) {
                let whose = format!("agent {} {}", handle.id, metered.incarnation);
                for spent in spent.steps() {
                    found.extend(self.reached(&whose, tenant, Some(&handle.id), spent, &[handle]));
                }
            }
        }
        if let Some((budget, per)) = quota.budget.as_ref().and_then(|budget| Some((budget, budget.per?))) {
            let today = iso(now());
            let period = per.of(&today);
            let mut used = shared.usage.used(tenant, period);
            used.add(&untold, 1);
            let all: Vec<&Arc<Handle>> = looks.iter().map(|(handle, _)| handle).collect();
            for spent in budget.spent(&used).into_iter().flat_map(Spent::steps) {
                found.extend(self.reached(&format!("tenant {tenant} {period}"), tenant, None, spent, &all));
            }
        }
        if self.told.len() > MOST {
            self.told.clear();
        }
        found
    }

    /// What is to be said and done; nothing, if there is enough or that was said.
    fn reached(
        &mut self,
        whose: &str,
        tenant: &str,
        agent: Option<&str>,
        spent: Spent,
        handles: &[&Arc<Handle>],
    ) -> Option<Reached> {
        let Spent { what, used, limit, level } = spent;
        let of = if agent.is_some() { "agent" } else { "tenant" };
        let why = format!("the budget of its {of} is used up: {used} of {limit} {what}");
        let why = if agent.is_some() { why.replace("of its agent ", "") } else { why };
        // One that was started since, or that its shim has not ended yet.
        let runs = |handle: &&&Arc<Handle>| {
            let state = handle.shown.borrow().state;
            !state.is_final() && state != State::Stopping
        };
        let stop: Vec<_> = match level {
            Level::Over => {
                handles.iter().filter(runs).map(|handle| ((*handle).clone(), why.clone())).collect()
            }
            Level::Fine | Level::Warn => Vec::new(),
        };
        let is_news = level != Level::Fine && self.told.insert((whose.to_owned(), what, level));
        if !is_news && stop.is_empty() {
            return None;
        }
        let budget = events::Budget { of: of.into(), what: what.into(), used, limit };
        let word = Word::new(if level == Level::Over { "over" } else { "warn" });
        let event = tenant.parse().ok().map(|tenant| Event::Budget {
            agent: agent.and_then(|agent| agent.parse().ok()),
            tenant,
            what: Word::new(what),
            used,
            limit,
            level: word,
        });
        Some(Reached {
            agent: agent.map(str::to_owned),
            tenant: tenant.to_owned(),
            budget: event,
            happened: match level {
                Level::Over => Happened::BudgetExceeded(budget),
                _ => Happened::BudgetWarning(budget),
            },
            stop,
        })
    }
}
