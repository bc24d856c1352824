//! What the daemon knows, as the audit has it: names of variables without values, arguments counted, nothing that was typed.

use serde_json::Value;

use super::request;
use crate::audit::Digest;
use crate::audit::event::{Event, MOST_LISTED};
use crate::audit::parts::{
    Act, AttestationSummary, Denied, Destination, Ending, OrderSummary, Used, Verdict, Who,
};
use crate::audit::text::{
    FieldName, FilePath, Host, Identity, Name, Release, RequestId, Serial, VariableName, Word,
};
use crate::daemon::authz::{Caller, Decision};
use crate::daemon::supervisor::SupervisorError;
use crate::id::AgentId;
use crate::wire::service::launcher::Reason;
use crate::wire::service::order::{Home, Order, Workspace};
use crate::wire::service::{Ended, Refusal, shim};

/// The most files of an order that are named.
const MOST_FILES: usize = 64;

/// Whoever calls.
pub fn who(caller: &Caller) -> Who {
    Who {
        identity: Identity::of(&caller.identity),
        serial: Serial::of(&caller.serial),
        role: Some(Word::new(caller.role.name())),
        tenant: Some(caller.tenant.clone()),
        source: None,
    }
}

/// A request that was answered.
pub fn answered(decision: &Decision<'_>, status: u16) -> Event {
    let Decision { endpoint, caller, allowed, .. } = *decision;
    let row = endpoint.row();
    let rule = match (caller, allowed) {
        (Some(caller), true) => caller.role.name(),
        (Some(_), false) => "role",
        (None, _) => "no-grant",
    };
    Event::Request {
        request: RequestId::of(decision.request),
        who: Who {
            identity: Identity::of(decision.identity),
            serial: Serial::of(decision.serial),
            role: caller.map(|caller| Word::new(caller.role.name())),
            tenant: caller.map(|caller| caller.tenant.clone()),
            source: Some(decision.address),
        },
        action: Word::new(row.action.name()),
        endpoint: Word::new(endpoint.name()),
        agent: if endpoint.is_grpc() { agent_of(decision.path) } else { agent_in(row.path, decision.path) },
        verdict: if allowed { Verdict::Allowed } else { Verdict::Refused },
        rule: Word::new(rule),
        status,
    }
}

/// The agent that a path names: what stands in it where the table has `agents/{id}`.
fn agent_in(pattern: &str, path: &str) -> Option<AgentId> {
    let (before, _) = pattern.split_once("agents/{id}")?;
    path.strip_prefix(before)?.strip_prefix("agents/")?.split('/').next()?.parse().ok()
}

/// The agent that an authority names: its first label, which is an id or stands for one.
fn agent_of(authority: &str) -> Option<AgentId> {
    authority.split('.').next()?.parse().ok()
}

/// What is about to be done at a caller's request.
pub fn intent(act: Act, agent: &AgentId, caller: &Caller) -> Event {
    Event::Intent {
        act,
        agent: agent.clone(),
        tenant: Some(caller.tenant.clone()),
        who: Some(who(caller)),
        request: request(),
        policy: None,
        policy_hash: None,
        order: None,
    }
}

/// An agent is about to be started by this order.
pub fn spawn(agent: &AgentId, caller: &Caller, order: &Order, policy_hash: Option<Digest>) -> Event {
    Event::Intent {
        act: Act::Spawn,
        agent: agent.clone(),
        tenant: Some(caller.tenant.clone()),
        who: Some(who(caller)),
        request: request(),
        policy: order.policy.parse().ok(),
        policy_hash,
        order: Some(summary(order)),
    }
}

/// The service starts an agent anew, by its old order.
pub fn relaunch(agent: &str, policy: &str, policy_hash: Option<Digest>) -> Option<Event> {
    Some(Event::Intent {
        act: Act::Restart,
        agent: agent.parse().ok()?,
        tenant: None,
        who: None,
        request: None,
        policy: policy.parse().ok(),
        policy_hash,
        order: None,
    })
}

fn summary(order: &Order) -> OrderSummary {
    let (workspace, workspace_name) = match &order.workspace {
        Workspace::None => (None, None),
        Workspace::Directory { path } => (Some(FilePath::of(path)), None),
        Workspace::Named { name } => (None, name.parse().ok()),
    };
    let home = match &order.home {
        Home::Ephemeral => None,
        Home::Named { name } => name.parse().ok(),
    };
    let words = order.command.len().saturating_sub(1) + order.arguments.len();
    let allow = order.allow.as_ref();
    OrderSummary {
        program: order.command.first().map(|program| FilePath::of(program)),
        arguments: words as u64,
        variables: order.environment.keys().take(MOST_LISTED).map(|name| VariableName::of(name)).collect(),
        workspace,
        workspace_name,
        home,
        files: order.files.iter().take(MOST_FILES).map(|file| FilePath::of(&file.path)).collect(),
        memory: order.memory,
        millicpus: order.millicpus,
        processes: order.processes,
        allow: allow.map(|all| all.iter().take(MOST_LISTED).map(|one| Host::of(one)).collect()),
    }
}

/// It runs; `attestation` is the file that its shim wrote.
pub fn started(intent: u64, agent: &str, attestation: &[u8]) -> Option<Event> {
    let said: Value = serde_json::from_slice(attestation).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let digest = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let shortfalls = said["shortfalls"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let attestation = AttestationSummary {
        hash: Digest::of(attestation),
        policy: text(&said["policy"]).and_then(|name| name.parse().ok()),
        policy_hash: digest(&said["policyHash"]),
        kernel: text(&said["kernel"]).map(|kernel| Release::of(&kernel)),
        seccomp_hash: digest(&said["seccomp"]["hash"]),
        landlock_abi: number(&said["landlock"]["abi"]),
        host_uid: number(&said["hostUid"]),
        shortfalls: shortfalls.take(MOST_LISTED).map(Name::of).collect(),
    };
    Some(Event::Started { intent, agent: agent.parse().ok()?, attestation })
}

/// It does not run.
pub fn not_started(
    intent: u64,
    agent: &str,
    refusal: Option<&Refusal>,
    otherwise: &'static str,
) -> Option<Event> {
    Some(Event::NotStarted {
        intent,
        agent: agent.parse().ok()?,
        reason: Word::new(refusal.map_or(otherwise, |refusal| reason(refusal.reason))),
        field: refusal.and_then(|refusal| refusal.field.as_deref()).map(FieldName::of),
    })
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Version => "version",
        Reason::Malformed => "malformed",
        Reason::UnknownPolicy => "unknown-policy",
        Reason::Exceeds => "exceeds",
        Reason::Host => "host",
        Reason::Exists => "exists",
        Reason::Busy => "busy",
        Reason::Unknown => "unknown",
        Reason::Failed => "failed",
        Reason::Other => "other",
    }
}

/// Why something was not done, in a word.
pub fn word(error: &SupervisorError) -> Word {
    Word::new(match error {
        SupervisorError::NotFound { .. } => "not-found",
        SupervisorError::Taken { .. } => "taken",
        SupervisorError::State { .. } | SupervisorError::NotDelivered { .. } => "state",
        SupervisorError::Field { .. } => "field",
        SupervisorError::Refused(refusal) => reason(refusal.reason),
        SupervisorError::Quota { .. } => "quota",
        SupervisorError::Draining => "draining",
        SupervisorError::Launcher { .. } => "launcher",
        SupervisorError::Timeout { .. } => "timeout",
        SupervisorError::Audit(_) => "audit",
        SupervisorError::Io { .. } => "failed",
    })
}

/// It has ended: how, where it went, what it was refused.
pub fn ended(agent: &str, ended: &Ended) -> Vec<Event> {
    let Ok(agent) = agent.parse::<AgentId>() else { return Vec::new() };
    let how = match ended {
        Ended { out_of_memory: true, .. } => Ending::OutOfMemory,
        Ended { code: Some(_), .. } => Ending::Exited,
        Ended { signal: Some(_), .. } => Ending::Signalled,
        _ => Ending::Lost,
    };
    let usage = &ended.usage;
    let used = Used {
        cpu_us: usage.cpu_us,
        memory_peak: usage.memory_peak,
        sent: usage.sent,
        received: usage.received,
        refused: usage.refused,
    };
    let end = Event::Ended {
        agent: agent.clone(),
        how,
        code: ended.code,
        signal: ended.signal,
        stopped: ended.stopped,
        killed: ended.killed,
        // The shim writes its last word after it has seen the cgroup empty.
        emptied: true,
        used,
    };
    [egress(&agent, &ended.report), denials(&agent, &ended.report), Some(end)].into_iter().flatten().collect()
}

/// Nobody saw how it ended; `emptied`: the launcher has proved that nothing of it is left.
pub fn vanished(agent: &str, rebooted: bool) -> Option<Event> {
    Some(Event::Ended {
        agent: agent.parse().ok()?,
        how: if rebooted { Ending::Reboot } else { Ending::Lost },
        code: None,
        signal: None,
        stopped: false,
        killed: !rebooted,
        emptied: true,
        used: Used::default(),
    })
}

/// A wall has decided something for the first time.
pub fn verdict(agent: &str, said: &shim::Verdict) -> Option<Event> {
    Some(Event::Verdict {
        agent: agent.parse().ok()?,
        wall: Name::of(&said.wall),
        what: Host::of(said.what.trim_start_matches('#')),
        port: said.port,
        verdict: if said.allowed { Verdict::Allowed } else { Verdict::Refused },
        rule: said.why.as_deref().map(Host::of),
    })
}

fn egress(agent: &AgentId, report: &Value) -> Option<Event> {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let host = |entry: &Value| {
        let name = entry["name"].as_str().or(entry["address"].as_str()).unwrap_or_default();
        Host::of(name)
    };
    let port = |entry: &Value| u16::try_from(number(&entry["port"])).unwrap_or(0);
    let carried =
        report["network"]["connections"].as_array().into_iter().flatten().map(|entry| Destination {
            host: host(entry),
            port: port(entry),
            verdict: Verdict::Allowed,
            rule: entry["rule"].as_str().map(Host::of),
            count: number(&entry["count"]),
            sent: number(&entry["sent"]),
            received: number(&entry["received"]),
        });
    let denials = report["denials"].as_array().into_iter().flatten();
    let refused = denials.filter(|entry| entry["wall"] == "egress").map(|entry| Destination {
        host: host(entry),
        port: port(entry),
        verdict: Verdict::Refused,
        rule: entry["reason"].as_str().map(Host::of),
        count: number(&entry["count"]),
        sent: 0,
        received: 0,
    });
    // What was refused first: it is what somebody will look for.
    let mut destinations: Vec<Destination> = refused.chain(carried).collect();
    let more = destinations.len().saturating_sub(MOST_LISTED) as u64;
    destinations.truncate(MOST_LISTED);
    let any = !destinations.is_empty();
    any.then(|| Event::Egress { agent: agent.clone(), destinations, more })
}

fn denials(agent: &AgentId, report: &Value) -> Option<Event> {
    let mut kinds = std::collections::BTreeMap::<(String, String), u64>::new();
    for entry in report["denials"].as_array().into_iter().flatten().filter(|entry| entry["wall"] != "egress")
    {
        let wall = entry["wall"].as_str().unwrap_or_default();
        let what = entry["call"].as_str().or(entry["right"].as_str()).unwrap_or_default();
        let count = kinds.entry((wall.to_owned(), what.trim_start_matches('#').to_owned())).or_default();
        *count = count.saturating_add(entry["count"].as_u64().unwrap_or(0));
    }
    let more = kinds.len().saturating_sub(MOST_LISTED) as u64;
    let listed = kinds.into_iter().take(MOST_LISTED);
    let denials: Vec<Denied> = listed
        .map(|((wall, what), count)| Denied { wall: Name::of(&wall), what: Name::of(&what), count })
        .collect();
    let any = !denials.is_empty();
    any.then(|| Event::Denials { agent: agent.clone(), denials, more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_taken_from_where_the_table_has_one_and_from_nowhere_else() {
        let agent = |pattern, path| agent_in(pattern, path).map(String::from);
        assert_eq!(agent("/v1/agents/{id}/stop", "/v1/agents/a-1/stop"), Some("a-1".into()));
        assert_eq!(agent("/agents/{id}/logs", "/agents/x/logs"), Some("x".into()));
        assert_eq!(agent("/api/threads/{id}", "/api/threads/t"), None);
        assert_eq!(agent("/v1/agents/{id}", "/v1/agents/..%2fx"), None);
    }

    #[test]
    fn an_order_is_told_without_a_value_an_argument_or_a_file_s_content() {
        let order: Order = serde_json::from_value(serde_json::json!({
            "id": "a", "tenant": "t", "policy": "base", "size": {"cols": 1, "rows": 1}, "logBytes": 1,
            "command": ["/bin/sh", "-c", "planted-word"], "arguments": ["--token=planted-argument"],
            "environment": {"API_KEY": "planted-value"},
            "files": [{"path": "a/b", "content": "planted-content"}],
        }))
        .expect("an order");
        let told = serde_json::to_string(&summary(&order)).expect("JSON");
        assert!(
            told.contains("API_KEY") && told.contains("a/b") && told.contains("\"arguments\":3"),
            "{told}"
        );
        assert!(!told.contains("planted"), "{told}");
    }
}
