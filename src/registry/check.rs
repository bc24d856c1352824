//! What Parallax would choke on, in any entry, ours or not.

use serde_json::Value;

use super::entry::{AGENTS, SERVICES};

/// Something wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Whom it harms.
    pub harm: Harm,
    /// What is wrong, and what follows.
    pub what: String,
}

/// Whom a fault harms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    /// Only whoever uses this entry.
    Entry,
    /// Everybody who lists agents.
    Everybody,
}

/// Goes through one entry as Parallax does.
pub fn faults(key: &str, value: &[u8]) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut fault = |harm, what: &str| found.push(Fault { harm, what: what.to_owned() });
    let is_agent = key.starts_with(AGENTS);
    let Ok(value) = serde_json::from_slice::<Value>(value) else {
        fault(Harm::Everybody, "is not JSON: every listing and the health check fail, for all agents");
        return found;
    };
    let Some(fields) = value.as_object() else {
        fault(Harm::Everybody, "is no JSON object: whoever lists agents reads fields that it does not have");
        return found;
    };
    if !is_agent {
        return found;
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    match fields.get("metadata").and_then(Value::as_object) {
        None => fault(Harm::Everybody, "has no `metadata`: GET /api/agents answers 500 to everybody"),
        Some(metadata) => {
            let listed = metadata.get("capabilities").and_then(Value::as_array);
            if listed.is_none_or(|list| !list.iter().all(Value::is_string)) {
                fault(
                    Harm::Everybody,
                    "`metadata.capabilities` is no list of texts: selecting an agent fails",
                );
            }
            for name in ["expertise", "historicalConfidence", "default_confidence"] {
                if metadata.get(name).is_some_and(|value| !value.is_number()) {
                    fault(Harm::Entry, &format!("`metadata.{name}` is no number: sorting goes astray"));
                }
            }
        }
    }
    if text("endpoint").is_none_or(str::is_empty) {
        fault(Harm::Everybody, "has no `endpoint`: every pattern that could select it fails as a whole");
    }
    if fields.contains_key("registeredAt") {
        fault(
            Harm::Everybody,
            "has `registeredAt`: gRPC ListAgents fails, and a Watch ends the control plane",
        );
    }
    if text("id").is_none_or(|id| key.strip_prefix(AGENTS) != Some(id)) {
        fault(Harm::Entry, "`id` is not what its key says: it cannot be got, renewed or deleted by its id");
    }
    if text("type") != Some("agent") {
        fault(Harm::Entry, "`type` is not `agent`, though its key says so");
    }
    found
}

/// The last part of a key, for people.
pub fn short(key: &str) -> &str {
    key.strip_prefix(SERVICES).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::entry::tests::entry;

    #[test]
    fn what_stockade_writes_has_no_fault_whatever_an_agent_is_called() {
        for name in ["plain", "", "\"}],\n\0", "\u{2028}\u{202e}\u{1F980}", "__proto__", "${7*7}", "%s%n"] {
            let mut entry = entry("a", name);
            entry.metadata.capabilities = vec![name.into()];
            assert_eq!(faults("/parallax/services/agent/a", &entry.value()), []);
        }
    }

    #[test]
    fn every_known_way_to_break_parallax_is_named() {
        let of = |value: &str| faults("/parallax/services/agent/a", value.as_bytes());
        let worst = |value: &str| of(value).into_iter().map(|fault| fault.harm).max();
        let good = String::from_utf8(entry("a", "a").value()).expect("text");
        for (from, to) in [
            ("{\"id\"", "{\"id"),
            ("\"metadata\"", "\"metadate\""),
            ("[\"code\"]", "\"code\""),
            ("unix:/run/stockade/doors/a.sock", ""),
            ("\"ttl\"", "\"registeredAt\":\"2026-01-01T00:00:00Z\",\"ttl\""),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from} is not in the value");
            assert_eq!(worst(&bad), Some(Harm::Everybody), "{to}");
        }
        assert_eq!(worst(&good.replace("\"id\":\"a\"", "\"id\":\"b\"")), Some(Harm::Entry));
        assert_eq!(worst("null"), Some(Harm::Everybody));
        assert_eq!(faults("/parallax/services/monitor/n", b"{}"), []);
    }
}
