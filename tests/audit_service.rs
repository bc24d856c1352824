//! A whole service keeps account: of whoever asked, of what was done, and of nothing that is secret.

#[path = "service_parallax/world.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stockade::audit::verify;
use stockade::audit::verify::Known;
use world::{Client, PATIENCE, Service};

/// What must stand in no record.
const PLANTED: [&str; 5] = [
    "planted-value-1f0c",
    "planted-argument-77a1",
    "planted-content-0b2e",
    "planted-key-9d3d",
    "planted-output-52",
];

#[tokio::test]
async fn a_life_is_on_record_from_the_request_until_the_end_and_no_secret_is() {
    let service = std::sync::Arc::new(Service::start());
    let (operator, auditor) = (service.client("operator"), service.client("auditor"));
    let [value, argument, content, keys, output] = PLANTED;
    let script = format!("printf '%s%s\\n' planted- output-52; read x; : {argument}; exit 3");
    let request = json!({
        "id": "life", "type": "shell", "command": ["sh", "-c", script], "env": { "API_KEY": value },
        "workspaceId": "audited", "files": [{ "path": "note", "content": content }],
    });
    operator.ask("POST", "/v1/agents", request).await.expect(201);
    seen(&operator, "life", output).await;
    service.client("viewer").ask("POST", "/v1/agents/life/input", json!({ "text": "x" })).await.expect(403);
    let typed = json!({ "text": format!("{keys}\r") });
    operator.ask("POST", "/v1/agents/life/input", typed).await;
    operator.get("/v1/agents/life/wait").await.expect(200);
    operator.delete("/v1/agents/life").await.expect(204);

    let records = until(&auditor, |records| of(records, "acted").any(|e| e["act"] == "remove")).await;
    let intent = of(&records, "intent").find(|event| event["act"] == "spawn").expect("an intent");
    assert_eq!((&intent["agent"], &intent["policy"]), (&json!("life"), &json!("shell")), "{intent}");
    assert!(intent["who"]["identity"].as_str().is_some_and(|id| id.ends_with("/operator")), "{intent}");
    assert_eq!(intent["order"]["variables"], json!(["API_KEY"]), "{intent}");
    let seq = records.iter().find(|record| record["event"] == *intent).expect("its record")["seq"].clone();
    let started = of(&records, "started").find(|event| event["intent"] == seq).expect("an outcome");
    assert!(started["attestation"]["landlockAbi"].is_u64(), "{started}");
    let ended = of(&records, "ended").find(|event| event["agent"] == "life").expect("an end");
    assert_eq!((&ended["code"], &ended["emptied"]), (&json!(3), &json!(true)), "{ended}");
    let refused = of(&records, "request").find(|event| event["verdict"] == "refused").expect("a refusal");
    assert_eq!(
        (&refused["status"], &refused["rule"], &refused["agent"]),
        (&json!(403), &json!("role"), &json!("life"))
    );
    let asked = of(&records, "request").find(|event| event["endpoint"] == "Spawn").expect("a request");
    assert_eq!(asked["request"], intent["request"], "one request, one id");
    assert!(asked["who"]["source"].as_str().is_some_and(|source| source.starts_with("127.0.0.1:")));

    let places = service.dir().join("var/log/stockade/audit");
    for entry in fs::read_dir(&places).expect("the log") {
        let path = entry.expect("an entry").path();
        let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
        for planted in PLANTED {
            assert!(!text.contains(planted), "{planted} stands in {}", path.display());
        }
    }
}

#[tokio::test]
async fn only_who_may_reads_it_and_what_was_read_can_be_verified() {
    let service = std::sync::Arc::new(Service::start());
    for role in ["viewer", "operator"] {
        service.client(role).get("/v1/audit").await.expect(403);
    }
    service.client("auditor").get("/v1/agents").await.expect(403);
    let auditor = service.client("auditor");
    until(&auditor, |records| of(records, "request").filter(|e| e["status"] == 403).count() >= 3).await;
    let all = service.client("admin").get("/v1/audit").await.expect(200);
    assert_eq!(all.headers["content-type"], "application/x-ndjson");
    let copy = service.dir().join("copy.jsonl");
    fs::write(&copy, &all.body).expect("written");
    let report = verify(&copy, &Known::default()).expect("readable");
    assert!(report.intact && report.first == Some(1), "{report:?}");
    let last = auditor.get("/v1/audit?tail=2").await.expect(200);
    assert_eq!(last.text().lines().count(), 2);
    let nothing = auditor.get("/v1/audit?since=999999").await.expect(200);
    assert_eq!(nothing.text(), "");
    auditor.get("/v1/audit?since=1&tail=2").await.expect(400);
}

#[tokio::test]
async fn what_was_answered_is_on_record_for_whoever_reads_it_next() {
    let service = std::sync::Arc::new(Service::start());
    let (viewer, auditor) = (service.client("viewer"), service.client("auditor"));
    for id in (0..20).map(|number| format!("nobody-{number}")) {
        viewer.get(&format!("/v1/agents/{id}")).await.expect(404);
        let text = auditor.get("/v1/audit").await.expect(200).text();
        let records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        let asked = of(&records, "request").filter(|event| event["agent"] == *id);
        assert_eq!(asked.map(|event| &event["status"]).collect::<Vec<_>>(), [404], "of {id}");
    }
}

#[tokio::test]
async fn a_daemon_that_was_killed_leaves_a_log_that_the_next_one_goes_on_with() {
    let service = std::sync::Arc::new(Service::start());
    let (operator, auditor) = (service.client("operator"), service.client("auditor"));
    operator.ask("POST", "/v1/agents", json!({ "id": "stays", "type": "shell" })).await.expect(201);
    until(&auditor, |records| of(records, "started").count() == 1).await;
    let killed = service.daemon();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).expect("it is ours");
    service.daemon_after(killed).await;
    let records = until(&auditor, |records| of(records, "adopted").count() == 1).await;
    assert_eq!(of(&records, "serviceStarted").count(), 2);
    assert_eq!(of(&records, "serviceStopped").count(), 0);
    intact(&service.dir().join("var/log/stockade/audit"));
    operator.delete("/v1/agents/stays?force=true").await.expect(204);
}

#[tokio::test]
async fn without_a_log_nothing_is_started_and_what_runs_goes_on_and_can_be_stopped() {
    let service = std::sync::Arc::new(Service::start());
    let (operator, auditor) = (service.client("operator"), service.client("auditor"));
    operator.ask("POST", "/v1/agents", json!({ "id": "runs", "type": "shell" })).await.expect(201);
    let log = service.dir().join("var/log/stockade/audit");
    let aside = log.with_file_name("aside");
    fs::rename(&log, &aside).expect("renamed");

    let spawn =
        || async { operator.ask("POST", "/v1/agents", json!({ "id": "new", "type": "shell" })).await };
    let refused = spawn().await.expect(503).json();
    assert_eq!(refused["code"], "audit-unavailable", "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("audit")), "{refused}");
    operator.get("/v1/agents/new").await.expect(404);
    operator.get("/v1/agents/runs").await.expect(200);
    operator.ask("POST", "/v1/agents/runs/exec", json!({ "command": ["true"] })).await.expect(503);
    let stopped = operator.ask("POST", "/v1/agents/runs/stop", json!({ "graceMs": 0, "wait": true })).await;
    stopped.expect(200);

    fs::rename(&aside, &log).expect("renamed");
    let deadline = Instant::now() + PATIENCE;
    while spawn().await.status != 201 {
        assert!(Instant::now() < deadline, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What happened meanwhile is told now.
    let records = until(&auditor, |records| of(records, "ended").any(|e| e["agent"] == "runs")).await;
    assert!(of(&records, "resumed").any(|event| event["reason"] == "gone"), "{records:?}");
    assert!(of(&records, "acted").any(|event| event["act"] == "stop"), "{records:?}");
    intact(&log);
    for id in ["runs", "new"] {
        operator.delete(&format!("/v1/agents/{id}?force=true")).await.expect(204);
    }
}

fn intact(log: &Path) {
    let report = verify(log, &Known::default()).expect("readable");
    assert!(report.intact, "{report:?}");
}

fn of<'a>(records: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    records.iter().map(|record| &record["event"]).filter(move |event| event["type"] == kind)
}

/// Waits until the log says so; all of it.
async fn until(auditor: &Client, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = auditor.get("/v1/audit").await.expect(200).text();
        let records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        if holds(&records) {
            return records;
        }
        assert!(Instant::now() < deadline, "not on record:\n{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until an agent has put this out.
async fn seen(client: &Client, id: &str, output: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !client.get(&format!("/v1/agents/{id}/logs")).await.expect(200).text().contains(output) {
        assert!(Instant::now() < deadline, "{output} was not put out");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
