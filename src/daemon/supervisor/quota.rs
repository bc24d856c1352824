//! Whether one more agent may start, and how the quotas stand. The caller holds the map of agents until the agent is in
//! it: of several at once no more get through than one by one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::agent::Handle;
use super::config::Rules;
use super::shared::Shared;
use super::times::{iso, now};
use super::{Result, SupervisorError};
use crate::api::node::QuotaLine;
use crate::api::usage::Amounts;
use crate::daemon::quota::budget::{Level, Spent};
use crate::daemon::quota::{Budget, Claim, Excess, Period, Quota, Standing};

type Agents = BTreeMap<String, Arc<Handle>>;

/// Who asks for an agent.
pub(super) struct Asker<'a> {
    pub(super) tenant: &'a str,
    pub(super) identity: &'a str,
}

impl From<Excess> for SupervisorError {
    fn from(Excess { detail, numbers, retry_after }: Excess) -> Self {
        Self::Quota { detail, numbers, retry_after }
    }
}

/// Somebody who has a quota.
struct Holder<'a> {
    /// `tenant research`
    whose: String,
    quota: Quota,
    of: Of<'a>,
}

/// By what agents are somebody's.
#[derive(Clone, Copy)]
enum Of<'a> {
    Tenant(&'a str),
    Identity(&'a str),
}

impl Of<'_> {
    fn has(self, handle: &Handle) -> bool {
        match self {
            Self::Tenant(name) => handle.tenant == name,
            Self::Identity(name) => handle.owner == name,
        }
    }
}

fn of_tenant<'a>(rules: &Rules, tenant: &'a str) -> Holder<'a> {
    Holder { whose: format!("tenant {tenant}"), quota: rules.quota(tenant), of: Of::Tenant(tenant) }
}

fn of_identity<'a>(rules: &Rules, identity: &'a str) -> Option<Holder<'a>> {
    let quota = rules.identity_quota(identity)?.clone();
    Some(Holder { whose: format!("identity {identity}"), quota, of: Of::Identity(identity) })
}

/// Whether there may be one agent more; if so, it counts as started.
pub(super) fn check(shared: &Shared, agents: &Agents, asker: &Asker<'_>, claim: Claim) -> Result<()> {
    let Asker { tenant, identity } = *asker;
    let rules = shared.rules();
    let holders: Vec<_> =
        std::iter::once(of_tenant(&rules, tenant)).chain(of_identity(&rules, identity)).collect();
    for Holder { whose, quota, of } in &holders {
        quota.check(whose, &standing(agents, *of), claim)?;
    }
    for holder in &holders {
        check_long_run(shared, holder)?;
    }
    let now = Instant::now();
    let mut starts = shared.starts();
    let limited =
        || holders.iter().filter_map(|holder| Some((holder.whose.as_str(), holder.quota.starts_per_minute?)));
    for (whose, most) in limited() {
        if let Err(retry_after) = starts.check(whose, most, now) {
            let detail = format!("{whose} may start {most} agents a minute, and has: come again later");
            let numbers = [starts.count(whose, now) as u64, most.into(), 1];
            return Err(Excess::new(whose, STARTS, numbers, detail, retry_after).into());
        }
    }
    limited().for_each(|(whose, _)| starts.add(whose, now));
    Ok(())
}

const STARTS: &str = "starts-per-minute";
const EGRESS: &str = "egress-bytes-per-day";

/// What is used up until a day or a month is over.
fn check_long_run(shared: &Shared, Holder { whose, quota, of }: &Holder<'_>) -> Result<()> {
    let today = iso(now());
    if let Some(most) = quota.egress_per_day {
        let used = sent_today(shared, *of, &today);
        if used >= most {
            let detail = format!("the agents of {whose} have sent {used} bytes today, and may send {most}");
            let left = Period::Day.left(&today);
            return Err(Excess::new(whose, EGRESS, [used, most, 0], detail, left).into());
        }
    }
    let (Some(budget @ Budget { per: Some(per), .. }), Of::Tenant(tenant)) = (&quota.budget, of) else {
        return Ok(());
    };
    let used = used_by(shared, tenant, per.of(&today));
    match budget.spent(&used).into_iter().find(|spent| spent.level == Level::Over) {
        None => Ok(()),
        Some(Spent { what, used, limit, .. }) => {
            let detail = format!("the budget of {whose} is used up: {used} of {limit} {what}");
            Err(Excess::new(whose, what, [used, limit, 0], detail, per.left(&today)).into())
        }
    }
}

/// What a tenant has used on the days that begin so: what is recorded, and what was seen on top of it.
fn used_by(shared: &Shared, tenant: &str, days: &str) -> Amounts {
    let mut used = shared.usage.used(tenant, days);
    used.add(&untold(shared, Of::Tenant(tenant)), 1);
    used
}

fn sent_today(shared: &Shared, of: Of<'_>, today: &str) -> u64 {
    let day = Period::Day.of(today);
    let recorded = match of {
        Of::Tenant(tenant) => shared.usage.used(tenant, day).sent(),
        Of::Identity(identity) => shared.usage.sent(identity, day),
    };
    u64::try_from(recorded + untold(shared, of).sent()).unwrap_or(0)
}

/// What agents that run were seen to have used and nobody has recorded yet.
fn untold(shared: &Shared, of: Of<'_>) -> Amounts {
    let mut sum = Amounts::default();
    for (handle, metered) in shared.looks().iter().filter(|(handle, _)| of.has(handle)) {
        sum.add(&shared.usage.live(&handle.id, metered).1, 1);
    }
    sum
}

/// The longest time that an agent of theirs may run, if there is one.
pub(super) fn lifetime(shared: &Shared, asker: &Asker<'_>) -> Option<Duration> {
    let rules = shared.rules();
    let of_identity = rules.identity_quota(asker.identity).and_then(|quota| quota.lifetime);
    [rules.quota(asker.tenant).lifetime, of_identity].into_iter().flatten().min()
}

/// All agents of the node.
pub(super) fn standing_of_all(agents: &Agents) -> Standing {
    sum(agents, |_| true)
}

fn standing(agents: &Agents, of: Of<'_>) -> Standing {
    sum(agents, |handle| of.has(handle))
}

fn sum(agents: &Agents, is_meant: impl Fn(&Handle) -> bool) -> Standing {
    let mut standing = Standing::default();
    let meant = agents.values().filter(|handle| is_meant(handle) && handle.is_active());
    meant.for_each(|handle| standing.add(handle.claim));
    standing
}

/// How the quotas of these tenants and of this identity stand.
pub(super) fn lines(shared: &Shared, tenants: &[String], identity: &str) -> Vec<QuotaLine> {
    let rules = shared.rules();
    let tenants = tenants.iter().map(|tenant| of_tenant(&rules, tenant));
    let holders: Vec<_> = tenants.chain(of_identity(&rules, identity)).collect();
    let mut lines = Vec::new();
    for holder in &holders {
        let standing = standing(&shared.agents(), holder.of);
        of_quota(shared, holder, &standing, &mut lines);
        long_run(shared, holder, &mut lines);
    }
    lines
}

fn of_quota(
    shared: &Shared,
    Holder { whose, quota, .. }: &Holder<'_>,
    now: &Standing,
    lines: &mut Vec<QuotaLine>,
) {
    let line = |(what, used, limit): (&'static str, u64, u64)| QuotaLine {
        whose: whose.to_owned(),
        what: what.to_owned(),
        used,
        limit,
        resets_at: None,
    };
    lines.extend(quota.numbers(now).into_iter().map(line));
    if let Some(most) = quota.starts_per_minute {
        let used = shared.starts().count(whose, Instant::now()) as u64;
        lines.push(line((STARTS, used, most.into())));
    }
    // Of each agent, so that nothing of it is used up.
    if let Some(lifetime) = quota.lifetime {
        lines.push(line(("lifetime-seconds", 0, lifetime.as_secs())));
    }
}

fn long_run(shared: &Shared, Holder { whose, quota, of }: &Holder<'_>, lines: &mut Vec<QuotaLine>) {
    let now = now();
    let today = iso(now);
    let end = |per: Period| {
        let left = u64::try_from(per.left(&today).as_millis()).unwrap_or(0);
        Some(iso(now.saturating_add(left)))
    };
    let mut push = |what: &str, used, limit, resets_at| {
        let (whose, what) = (whose.to_owned(), what.to_owned());
        lines.push(QuotaLine { whose, what, used, limit, resets_at });
    };
    if let Some(most) = quota.egress_per_day {
        push(EGRESS, sent_today(shared, *of, &today), most, end(Period::Day));
    }
    if let (Some(budget @ Budget { per: Some(per), .. }), Of::Tenant(tenant)) = (&quota.budget, of) {
        for spent in budget.spent(&used_by(shared, tenant, per.of(&today))) {
            push(spent.what, spent.used, spent.limit, end(*per));
        }
    }
}
