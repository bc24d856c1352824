//! An agent as the API shows it.

use super::super::observer::Observed;
use super::super::state::Lifecycle;
use super::super::times::iso;
use crate::api::Login;
use crate::api::agent::{Agent, Size, State};
use crate::daemon::store::{Record, Verdict};
use crate::wire::service::Ended;

/// How an agent ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// Its shim saw it.
    Seen(Box<Ended>),
    /// Nobody did.
    Unseen(Verdict),
}

impl End {
    /// When, in milliseconds since 1970.
    pub(crate) fn at(&self) -> u64 {
        match self {
            Self::Seen(ended) => ended.at,
            Self::Unseen(verdict) => verdict.at,
        }
    }

    /// Whether it is a failure that a new start may mend.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::Seen(ended) => !ended.stopped && (ended.code != Some(0) || ended.out_of_memory),
            Self::Unseen(_) => true,
        }
    }

    fn state(&self) -> State {
        match self {
            Self::Seen(ended) if ended.not_started.is_some() || ended.out_of_memory => State::Failed,
            Self::Seen(ended) if ended.stopped || ended.code.is_some() => State::Exited,
            _ => State::Failed,
        }
    }

    /// In words.
    pub(crate) fn evidence(&self) -> String {
        let ended = match self {
            Self::Unseen(verdict) => return verdict.error.clone(),
            Self::Seen(ended) => ended,
        };
        if let Some(refusal) = &ended.not_started {
            return format!("it was not started: {}", refusal.detail);
        }
        let how = match (ended.code, ended.signal) {
            _ if ended.out_of_memory => "it was ended by its memory limit".to_owned(),
            (Some(code), _) => format!("it ended with exit code {code}"),
            (None, Some(signal)) => format!("it was ended by signal {signal}"),
            (None, None) => match ended.report.get("error").and_then(|error| error.as_str()) {
                Some(error) => format!("nobody saw how it ended: {error}"),
                None => "nobody saw how it ended".to_owned(),
            },
        };
        match (ended.stopped, ended.killed) {
            (true, true) => format!("it was stopped, and killed because it did not end in time: {how}"),
            (true, false) => format!("it was stopped: {how}"),
            _ => how,
        }
    }
}

/// What is shown is made of this.
pub(crate) struct Facts<'a> {
    pub(crate) record: &'a Record,
    pub(crate) life: Lifecycle,
    pub(crate) observed: Option<&'a Observed>,
    pub(crate) end: Option<&'a End>,
    /// Why it is stopping, or when it is started anew.
    pub(crate) note: Option<&'a str>,
    pub(crate) size: Size,
}

/// What it is doing, what says so, and whether something may be typed.
fn doing(facts: &Facts<'_>) -> (State, String, bool) {
    let say = |state, evidence: &str| (state, facts.note.unwrap_or(evidence).to_owned(), false);
    match (facts.life, facts.observed, facts.end) {
        (Lifecycle::Asked, ..) => say(State::Starting, "the launcher was asked for it"),
        (Lifecycle::Building, ..) => say(State::Starting, "its sandbox is being built"),
        (Lifecycle::Running, Some(seen), _) => (seen.state, seen.evidence.clone(), seen.safe_to_type),
        (Lifecycle::Running, None, _) => say(State::Starting, "it was started"),
        (Lifecycle::Stopping, ..) => say(State::Stopping, "it was asked to end"),
        (Lifecycle::Resting, ..) => say(State::Starting, "it will be started again"),
        (Lifecycle::Ended, _, Some(end)) => (end.state(), end.evidence(), false),
        (Lifecycle::Ended, _, None) => say(State::Failed, "it has ended, and nobody knows how"),
    }
}

/// As the API shows it; `since` is of the state shown before, if it is the same. What changes all the time (offset, last
/// activity) is filled in when somebody asks.
pub(crate) fn agent(facts: &Facts<'_>, before: Option<&Agent>, now: u64) -> Agent {
    let (state, evidence, safe_to_type) = doing(facts);
    let record = facts.record;
    let since = match before {
        Some(before) if before.state == state => before.since.clone(),
        _ => iso(facts.end.filter(|_| state.is_final()).map_or(now, End::at)),
    };
    let seen = match facts.end {
        Some(End::Seen(ended)) => Some(ended),
        _ => None,
    };
    let code =
        |ended: &Ended| ended.code.or_else(|| Some(128u8.wrapping_add(u8::try_from(ended.signal?).ok()?)));
    Agent {
        id: record.id.clone(),
        name: record.name.clone(),
        kind: record.kind.clone(),
        tenant: record.tenant.clone(),
        owner: record.owner.clone(),
        policy: record.policy.clone(),
        state,
        since: since.clone(),
        safe_to_type,
        created_at: iso(record.created),
        started_at: record.started.map(iso),
        ended_at: facts.end.map(|end| iso(end.at())),
        last_activity_at: None,
        exit_code: seen.and_then(|ended| code(ended)),
        signal: seen.and_then(|ended| ended.signal),
        out_of_memory: seen.is_some_and(|ended| ended.out_of_memory),
        error: facts.end.filter(|_| state == State::Failed).map(End::evidence),
        evidence,
        restarts: record.restarts,
        workspace: record.workspace.clone(),
        home: record.home.clone(),
        labels: record.labels.clone(),
        capabilities: record.capabilities.clone(),
        size: facts.size,
        offset: 0,
        login: facts.observed.filter(|_| state == State::LoginRequired).and_then(|seen| login(seen, &since)),
    }
}

/// With what only the agent's own life tells.
fn login(seen: &Observed, since: &str) -> Option<Login> {
    Some(Login { since: since.into(), ..seen.login.clone()? })
}
