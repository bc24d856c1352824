//! Whether one more agent may start, and how the quotas stand. The caller holds the map of agents until the agent is in
//! it: of several at once no more get through than one by one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::agent::Handle;
use super::shared::Shared;
use super::times::{iso, now};
use super::{Result, SupervisorError};
use crate::api::node::QuotaLine;
use crate::daemon::quota::budget::Level;
use crate::daemon::quota::{Budget, Claim, Excess, Period, Quota, Standing};

type Agents = BTreeMap<String, Arc<Handle>>;

/// Who asks for an agent.
pub(super) struct Asker<'a> {
    pub(super) tenant: &'a str,
    pub(super) identity: &'a str,
}

impl From<Excess> for SupervisorError {
    fn from(Excess { detail, retry_after }: Excess) -> Self {
        Self::Quota { detail, retry_after }
    }
}

/// Whether there may be one agent more; if so, it counts as started.
pub(super) fn check(shared: &Shared, agents: &Agents, asker: &Asker<'_>, claim: Claim) -> Result<()> {
    let Asker { tenant, identity } = *asker;
    let (of_tenant, of_identity) = (shared.config.quota(tenant), shared.config.identity_quota(identity));
    let (whose, own) = (format!("tenant {tenant}"), format!("identity {identity}"));
    of_tenant.check(&whose, &standing_of_tenant(agents, tenant), claim)?;
    if let Some(quota) = of_identity {
        quota.check(&own, &standing_of_identity(agents, identity), claim)?;
    }
    check_long_run(shared, &of_tenant, tenant)?;
    let now = Instant::now();
    let mut starts = shared.starts();
    let limits = [
        (&whose, of_tenant.starts_per_minute),
        (&own, of_identity.and_then(|quota| quota.starts_per_minute)),
    ];
    for (whose, most) in limits {
        let Some(most) = most else { continue };
        if let Err(retry_after) = starts.check(whose, most, now) {
            let detail = format!("{whose} may start {most} agents a minute, and has: come again later");
            return Err(SupervisorError::Quota { detail, retry_after });
        }
    }
    for (whose, most) in limits {
        if most.is_some() {
            starts.add(whose, now);
        }
    }
    Ok(())
}

/// What is used up until a day or a month is over.
fn check_long_run(shared: &Shared, quota: &Quota, tenant: &str) -> Result<()> {
    let today = iso(now());
    if let Some(most) = quota.egress_per_day {
        let used = shared.usage.used(tenant, Period::Day.of(&today)).sent();
        let used = u64::try_from(used).unwrap_or(0);
        if used >= most {
            let detail =
                format!("the agents of tenant {tenant} have sent {used} bytes today, and may send {most}");
            return Err(SupervisorError::Quota { detail, retry_after: Period::Day.left(&today) });
        }
    }
    let Some((budget, per)) = quota.budget.as_ref().and_then(|budget| Some((budget, budget.per?))) else {
        return Ok(());
    };
    let used = shared.usage.used(tenant, per.of(&today));
    match budget.spent(&used).into_iter().find(|spent| spent.level == Level::Over) {
        None => Ok(()),
        Some(spent) => {
            let (what, used, limit) = (spent.what, spent.used, spent.limit);
            let detail = format!("the budget of tenant {tenant} is used up: {used} of {limit} {what}");
            Err(SupervisorError::Quota { detail, retry_after: per.left(&today) })
        }
    }
}

/// The longest time that an agent of theirs may run, if there is one.
pub(super) fn lifetime(shared: &Shared, asker: &Asker<'_>) -> Option<Duration> {
    let of_identity = shared.config.identity_quota(asker.identity).and_then(|quota| quota.lifetime);
    [shared.config.quota(asker.tenant).lifetime, of_identity].into_iter().flatten().min()
}

/// All agents of the node.
pub(super) fn standing_of_all(agents: &Agents) -> Standing {
    standing(agents, |_| true)
}

fn standing_of_tenant(agents: &Agents, tenant: &str) -> Standing {
    standing(agents, |handle| handle.tenant == tenant)
}

fn standing_of_identity(agents: &Agents, identity: &str) -> Standing {
    standing(agents, |handle| handle.owner == identity)
}

fn standing(agents: &Agents, is_meant: impl Fn(&Handle) -> bool) -> Standing {
    let mut standing = Standing::default();
    let meant = agents.values().filter(|handle| is_meant(handle) && handle.is_active());
    meant.for_each(|handle| standing.add(handle.claim));
    standing
}

/// How the quotas of these tenants and of this identity stand.
pub(super) fn lines(shared: &Shared, tenants: &[String], identity: &str) -> Vec<QuotaLine> {
    let mut lines = Vec::new();
    let agents = shared.agents();
    for tenant in tenants {
        let (quota, whose) = (shared.config.quota(tenant), format!("tenant {tenant}"));
        let standing = standing_of_tenant(&agents, tenant);
        of_quota(shared, &quota, &whose, &standing, &mut lines);
        long_run(shared, &quota, tenant, &whose, &mut lines);
    }
    if let Some(quota) = shared.config.identity_quota(identity) {
        let standing = standing_of_identity(&agents, identity);
        of_quota(shared, quota, &format!("identity {identity}"), &standing, &mut lines);
    }
    lines
}

fn of_quota(shared: &Shared, quota: &Quota, whose: &str, now: &Standing, lines: &mut Vec<QuotaLine>) {
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
        lines.push(line(("starts-per-minute", used, most.into())));
    }
}

fn long_run(shared: &Shared, quota: &Quota, tenant: &str, whose: &str, lines: &mut Vec<QuotaLine>) {
    let today = iso(now());
    let end = |per: Period| {
        let left = u64::try_from(per.left(&today).as_millis()).unwrap_or(0);
        Some(iso(now().saturating_add(left)))
    };
    let mut push = |what: &str, used, limit, resets_at| {
        let (whose, what) = (whose.to_owned(), what.to_owned());
        lines.push(QuotaLine { whose, what, used, limit, resets_at });
    };
    if let Some(most) = quota.egress_per_day {
        let used = shared.usage.used(tenant, Period::Day.of(&today)).sent();
        push("egress-bytes-per-day", u64::try_from(used).unwrap_or(0), most, end(Period::Day));
    }
    if let Some(budget @ Budget { per: Some(per), .. }) = &quota.budget {
        for spent in budget.spent(&shared.usage.used(tenant, per.of(&today))) {
            push(spent.what, spent.used, spent.limit, end(*per));
        }
    }
}
