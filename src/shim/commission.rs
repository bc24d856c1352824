//! From a policy and a request to an agent that has ended: looked at, decided, carried out; and once more, where the
//! workspace changed meanwhile.

use crate::cgroup::{CgroupError, Layout, Mounts};
use crate::host::Host;
use crate::host::survey::Survey;
use crate::id::AgentId;
use crate::plan::{self, Given, Plan, PlanError, Request};
use crate::policy::{Policy, Shortfall};

use super::ahead::Ahead;
use super::disks::{DiskError, Disks};
use super::front::Front;
use super::keeper::Keeper;
use super::{Ground, Outcome, ShimError};

/// How often a start is planned anew because the workspace changed meanwhile.
const MOST_ATTEMPTS: u32 = 100;

/// What a start is made of.
pub struct Commission<'a> {
    /// Its own name, if it has one: its cgroup is named after its range of uids.
    pub agent: Option<&'a AgentId>,
    /// What is allowed.
    pub policy: &'a Policy,
    /// What this kernel can.
    pub host: &'a Host,
    /// What is asked for.
    pub request: &'a Request,
    /// None on a host where nothing can start: the plan says why.
    pub keeper: Option<&'a Keeper>,
    /// What was made in advance.
    pub ahead: Ahead,
}

/// Why there was no agent, or none that could be attended to.
#[derive(Debug, thiserror::Error)]
pub enum CommissionError {
    /// The host's cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The plan says no.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The disks of a bandwidth limit.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The sandbox.
    #[error(transparent)]
    Shim(#[from] ShimError),
}

impl CommissionError {
    /// Whether the policy or the host said no.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Plan(plan) => plan.is_refusal(),
            Self::Shim(shim) => shim.is_refusal(),
            Self::Cgroup(_) | Self::Disk(_) => false,
        }
    }
}

impl Commission<'_> {
    /// Looks at the host, decides, and runs it. `planned` sees each plan before anything is made of it, and says the policy's
    /// hash if the attestation is to hold it, and to list every mount and resource limit.
    ///
    /// # Errors
    /// Also what `planned` says.
    pub fn carry_out<E: From<CommissionError>>(
        &self,
        front: &mut impl Front,
        planned: &mut dyn FnMut(&Plan) -> Result<Option<String>, E>,
    ) -> Result<Outcome, E> {
        let mut again = 0..MOST_ATTEMPTS;
        loop {
            match self.attempt(front, planned)? {
                // Its plan was made from what other runs in this workspace have just removed.
                Err(error) if error.is_outdated() && again.next().is_some() => {}
                result => return result.map_err(|error| CommissionError::from(error).into()),
            }
        }
    }

    fn attempt<E: From<CommissionError>>(
        &self,
        front: &mut impl Front,
        planned: &mut dyn FnMut(&Plan) -> Result<Option<String>, E>,
    ) -> Result<Result<Outcome, ShimError>, E> {
        let Self { policy, host, agent, .. } = *self;
        let (plan, layout, disks) = self.decide()?;
        let (layout, keeper) = layout.zip(self.keeper).expect("a plan was made, so there is no refusal");
        let layout = if front.counts() { layout.counting_io() } else { layout };
        let detailed = planned(&plan)?;
        let ground = Ground {
            agent,
            plan: &plan,
            policy,
            host,
            layout: &layout,
            disks: &disks.found,
            detailed: detailed.as_deref(),
            ahead: &self.ahead,
        };
        Ok(super::run(&ground, keeper, front))
    }

    fn decide(&self) -> Result<(Plan, Option<Layout>, Disks), CommissionError> {
        let Self { policy, host, request, .. } = *self;
        let survey = Survey::look(plan::resolve::paths_of_interest(policy, request));
        // Without root the cgroups could not even be looked at; the plan says that better.
        let layout = self.keeper.map(|_| self.layout()).transpose()?;
        let mut limits_missing =
            layout.as_ref().map(|layout| layout.shortfalls(&policy.limits)).unwrap_or_default();
        let decide =
            |limits_missing| plan::resolve(&Given { policy, host, limits_missing, survey: &survey }, request);
        let mut plan = decide(limits_missing.clone())?;
        let disks = if plan.limits.io.is_some() { Disks::behind(&plan.mounts)? } else { Disks::default() };
        if disks.incomplete && limits_missing.insert(Shortfall::IoLimit) {
            plan = decide(limits_missing)?;
        }
        Ok((plan, layout, disks))
    }

    fn layout(&self) -> Result<Layout, CgroupError> {
        let known = self.ahead.mounts.take().filter(Mounts::are_current);
        Layout::among(&known.map_or_else(Mounts::read, Ok)?)
    }
}
