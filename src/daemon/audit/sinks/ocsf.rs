//! A record in the words of the Open Cybersecurity Schema Framework, version 1.3.0. What it has no word for is in
//! `unmapped`, and the line itself in `raw_data`: who wants to verify the log needs nothing else.

use serde_json::{Map, Value, json};

/// The classes that are used: category, class, and what kind of activity.
struct Class {
    category: u32,
    class: u32,
    activity: u32,
}

const fn class(category: u32, class: u32, activity: u32) -> Class {
    Class { category, class, activity }
}

/// Which class an event belongs to.
fn class_of(kind: &str, event: &Value) -> Class {
    match kind {
        // API Activity; Other.
        "request" | "intent" | "acted" | "questionAnswered" => class(6, 6003, 99),
        // Application Lifecycle; Start, Stop, Other.
        "serviceStarted" => class(6, 6002, 3),
        "serviceStopped" => class(6, 6002, 4),
        "reloaded" | "segmentOpened" | "checkpoint" | "keyRotated" | "recovered" | "abandoned"
        | "resumed" | "pruned" | "budget" => class(6, 6002, 99),
        // Process Activity; Launch, Terminate.
        "started" | "notStarted" | "adopted" => class(1, 1007, 1),
        "ended" => class(1, 1007, 2),
        // Authentication; Logon, Logoff.
        "connectionRefused" | "loginBegun" | "loginCompleted" | "attached" => class(3, 3002, 1),
        "detached" => class(3, 3002, 2),
        // Network Activity; Traffic.
        "egress" => class(4, 4001, 6),
        "verdict" if event["wall"] == "egress" => class(4, 4001, 6),
        // Detection Finding; Create.
        "denials" | "verdict" => class(2, 2004, 1),
        _ if event.get("who").is_some() => class(6, 6003, 99),
        _ => class(0, 0, 0),
    }
}

/// The line as an OCSF event.
pub(super) fn of(line: &str) -> Option<String> {
    let record: Value = serde_json::from_str(line).ok()?;
    let event = &record["event"];
    let kind = event["type"].as_str()?;
    let time = record["at"].as_str()?.parse::<jiff::Timestamp>().ok()?;
    let Class { category, class, activity } = class_of(kind, event);
    let failed = event["verdict"] == "refused"
        || ["refused", "failed"].iter().any(|outcome| event["outcome"] == *outcome)
        || matches!(kind, "connectionRefused" | "notStarted");
    let severity = if failed || matches!(kind, "denials" | "recovered" | "abandoned") { 2 } else { 1 };
    let mut out = json!({
        "metadata": {
            "version": "1.3.0",
            "product": { "name": "Stockade", "vendor_name": "Stockade", "version": env!("CARGO_PKG_VERSION") },
            "uid": record["hash"],
            "sequence": record["seq"],
            "log_name": "audit",
            "event_code": kind,
        },
        "time": time.as_millisecond(),
        "category_uid": category,
        "class_uid": class,
        "activity_id": activity,
        "activity_name": kind,
        "type_uid": u64::from(class) * 100 + u64::from(activity),
        "severity_id": severity,
        "status_id": if failed { 2 } else { 1 },
        "raw_data": line,
    });
    let fields = out.as_object_mut()?;
    actor(event, fields);
    object(kind, event, fields);
    fields.insert("unmapped".into(), event.clone());
    serde_json::to_string(&out).ok()
}

/// Who did it, from where.
fn actor(event: &Value, fields: &mut Map<String, Value>) {
    let who = &event["who"];
    if let Some(identity) = who["identity"].as_str() {
        let user = json!({ "name": identity, "uid": who["serial"], "groups": [{ "name": who["role"] }] });
        fields.insert("actor".into(), json!({ "user": user }));
        fields.insert("user".into(), user);
    }
    let source = who["source"].as_str().or(event["source"].as_str());
    if let Some(source) = source.and_then(|source| source.parse::<std::net::SocketAddr>().ok()) {
        fields.insert("src_endpoint".into(), json!({ "ip": source.ip(), "port": source.port() }));
    }
}

/// What it was done to.
fn object(kind: &str, event: &Value, fields: &mut Map<String, Value>) {
    if let Some(agent) = event["agent"].as_str() {
        fields.insert("resources".into(), json!([{ "uid": agent, "type": "agent" }]));
        fields.insert("process".into(), json!({ "name": agent }));
    }
    let operation = event["endpoint"].as_str().or(event["act"].as_str());
    if let Some(operation) = operation {
        fields
            .insert("api".into(), json!({ "operation": operation, "request": { "uid": event["request"] } }));
    }
    if let Some(reason) = event["reason"].as_str().or(event["rule"].as_str()) {
        fields.insert("status_detail".into(), reason.into());
    }
    if kind == "denials" || kind == "verdict" && event["wall"] != "egress" {
        let uid = event["agent"].as_str().unwrap_or_default();
        fields.insert("finding_info".into(), json!({ "title": "sandbox denials", "uid": uid }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_in_ocsf_s_words_and_the_line_is_in_it_byte_for_byte() {
        let line = r#"{"seq":9,"at":"2026-11-26T16:00:00.500000Z","prev":"0","event":{"type":"request","request":"r","who":{"identity":"spiffe://a/b","serial":"1","role":"viewer","source":"10.1.2.3:4"},"action":"operate","endpoint":"Spawn","verdict":"refused","rule":"role","status":403},"hash":"ab"}"#;
        let text = of(line).expect("an event");
        let event: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(event["raw_data"], line);
        assert_eq!((event["class_uid"].as_u64(), event["type_uid"].as_u64()), (Some(6003), Some(600_399)));
        assert_eq!((event["status_id"].as_u64(), event["time"].as_i64()), (Some(2), Some(1_795_708_800_500)));
        assert_eq!(
            (&event["actor"]["user"]["name"], &event["src_endpoint"]["ip"]),
            (&json!("spiffe://a/b"), &json!("10.1.2.3"))
        );
        assert!(!text.contains('\n'));
    }

    #[test]
    fn every_event_of_the_log_has_a_class() {
        for kind in crate::audit::Event::KINDS {
            assert_ne!(class_of(kind, &json!({})).class, 0, "{kind}");
        }
    }
}
