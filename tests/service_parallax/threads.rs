//! Threads: what a workflow drives.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Client, Service, Socket};

/// A client of the control plane's, and its bus.
pub async fn control_plane() -> (Client, Socket) {
    let client = Service::shared().client("parallax");
    let bus = client.socket("/ws").await.expect("the bus");
    (client, bus)
}

/// What a control plane sends for one role.
pub fn input(id: &str, execution: &str) -> Value {
    json!({
        "id": id, "executionId": execution, "name": "lead", "agentType": "custom", "role": "lead",
        "objective": "count the beans",
        "metadata": { "pattern": "test", "nested": { "a": [1, 2] } },
        "env": { "FROM": "outside" },
        "preparation": {
            "env": { "FROM": "preparation" },
            "contextFiles": [{ "path": ".parallax/memory.md", "content": "remember\n" }]
        }
    })
}

/// Whether this envelope is this event of this thread.
pub fn is(envelope: &Value, thread: &str, kind: &str) -> bool {
    envelope["event"] == "thread_event"
        && envelope["data"]["event"]["threadId"] == thread
        && envelope["data"]["event"]["type"] == kind
}

#[tokio::test]
async fn a_thread_has_the_handle_that_was_asked_for_and_its_environment() {
    let (client, mut bus) = control_plane().await;
    let thread = client.ask("POST", "/api/threads", input("th-handle", "ex-handle")).await.expect(201).json();
    for (field, value) in [
        ("id", json!("th-handle")),
        ("executionId", json!("ex-handle")),
        ("runtimeName", json!("local")),
        ("agentType", json!("custom")),
        ("name", json!("lead")),
        ("role", json!("lead")),
        ("objective", json!("count the beans")),
        ("metadata", json!({ "pattern": "test", "nested": { "a": [1, 2] } })),
    ] {
        assert_eq!(thread[field], value, "{thread}");
    }
    for time in ["createdAt", "updatedAt"] {
        assert!(thread[time].as_str().is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok()), "{thread}");
    }
    bus.until(|e| is(e, "th-handle", "thread_ready")).await;

    let message = "echo \"<$FROM|$PARALLAX_THREAD_ID|$PARALLAX_EXECUTION_ID|$PARALLAX_THREAD_OBJECTIVE>\"; \
                   cat \"$PARALLAX_THREAD_MEMORY_FILE\"";
    client.ask("POST", "/api/threads/th-handle/send", json!({ "message": message })).await.expect(200);
    let turn = bus.until(|e| is(e, "th-handle", "thread_turn_complete")).await;
    let output = turn["data"]["event"]["data"]["output"].as_str().expect("output");
    assert!(output.contains("<preparation|th-handle|ex-handle|count the beans>"), "{output:?}");
    assert!(output.contains("remember"), "{output:?}");
    client.delete("/api/threads/th-handle?force=true").await.expect(204);
    client.delete("/api/executions/ex-handle/resources").await.expect(204);
}

#[tokio::test]
async fn each_message_completes_one_turn_and_readiness_is_told_once() {
    let (client, mut bus) = control_plane().await;
    client.ask("POST", "/api/threads", input("th-turns", "ex-turns")).await.expect(201);
    let mut ready = 0;
    let mut turns = Vec::new();
    let mut count = |envelope: &Value| {
        ready += usize::from(is(envelope, "th-turns", "thread_ready"));
        if is(envelope, "th-turns", "thread_turn_complete") {
            turns.push(envelope["data"].clone());
        }
    };
    while !bus.until(|e| e["event"] == "thread_event").await["data"]["event"]["type"].eq("thread_ready") {}
    for n in 1..=3 {
        let message = json!({ "message": format!("echo turn-$((10 + {n})); echo CONFIDENCE: 0.{n}") });
        client.ask("POST", "/api/threads/th-turns/send", message).await.expect(200);
        let turn = bus.until(|e| is(e, "th-turns", "thread_turn_complete")).await;
        count(&turn);
    }
    bus.rest(Duration::from_secs(2)).await.iter().for_each(&mut count);
    assert_eq!((ready, turns.len()), (0, 3), "after the first readiness");
    for (n, turn) in turns.iter().enumerate() {
        let data = &turn["event"]["data"];
        let output = data["output"].as_str().expect("output");
        assert!(output.contains(&format!("turn-1{}", n + 1)), "{output:?}");
        assert!(!output.contains('\u{1b}'), "{output:?}");
        assert_eq!(data["confidence"].as_f64(), Some((n + 1) as f64 / 10.0), "{turn}");
        // What is beside the event is written to the database.
        let thread = &turn["thread"];
        assert_eq!(thread["completion"]["state"], "partial", "{thread}");
        assert_eq!(thread["completion"]["summary"], thread["summary"]);
        assert!(thread["summary"].as_str().expect("a summary").contains("CONFIDENCE"), "{thread}");
        assert_eq!(thread["status"], "ready", "{thread}");
    }
    client.delete("/api/threads/th-turns?force=true").await.expect(204);
}

#[tokio::test]
async fn a_stop_is_told_once_and_the_thread_stays_listed() {
    let (client, mut bus) = control_plane().await;
    client.ask("POST", "/api/threads", input("th-stop", "ex-stop")).await.expect(201);
    bus.until(|e| is(e, "th-stop", "thread_ready")).await;
    client.delete("/api/threads/th-stop?timeout=1000").await.expect(204);
    let stopped = bus.until(|e| is(e, "th-stop", "thread_stopped")).await;
    assert!(stopped["data"]["event"]["data"]["reason"].is_string(), "{stopped}");
    assert_eq!(stopped["data"]["thread"]["status"], "stopped");
    let rest = bus.rest(Duration::from_secs(1)).await;
    assert!(
        !rest.iter().any(|e| is(e, "th-stop", "thread_stopped") || is(e, "th-stop", "thread_failed")),
        "{rest:#?}"
    );

    let listed = client.get("/api/threads?executionId=ex-stop&status=stopped,failed&agentType=custom").await;
    let listed = listed.expect(200).json();
    assert_eq!((listed["count"].as_u64(), listed["threads"][0]["id"].as_str()), (Some(1), Some("th-stop")));
    let none = client.get("/api/threads?executionId=ex-stop&status=ready").await.expect(200).json();
    assert_eq!(none, json!({ "threads": [], "count": 0 }));
    client.delete("/api/threads/th-stop").await.expect(204);
}

#[tokio::test]
async fn a_thread_whose_program_ends_badly_has_failed() {
    let (client, mut bus) = control_plane().await;
    client.ask("POST", "/api/threads", input("th-crash", "ex-crash")).await.expect(201);
    bus.until(|e| is(e, "th-crash", "thread_ready")).await;
    client
        .ask("POST", "/api/threads/th-crash/send", json!({ "raw": "exit 7", "keys": ["enter"] }))
        .await
        .expect(200);
    let failed = bus.until(|e| is(e, "th-crash", "thread_failed")).await;
    assert_eq!(failed["data"]["event"]["data"]["error"], "exit code 7", "{failed}");
    assert_eq!(failed["data"]["thread"]["status"], "failed");
    let agent = client.get("/api/agents/th-crash").await.expect(200).json();
    assert_eq!((agent["status"].as_str(), agent["exitCode"].as_u64()), (Some("stopped"), Some(7)));
}

#[tokio::test]
async fn a_thread_takes_a_message_or_keys_and_nothing_is_a_mistake() {
    let (client, mut bus) = control_plane().await;
    client.ask("POST", "/api/threads", input("th-keys", "ex-keys")).await.expect(201);
    bus.until(|e| is(e, "th-keys", "thread_ready")).await;
    for nothing in [json!({}), json!({ "message": "" }), json!({ "keys": [] })] {
        client.ask("POST", "/api/threads/th-keys/send", nothing).await.expect(400);
    }
    let typed = json!({ "raw": "cat\r", "keys": ["h", "e", "l", "l", "o", "enter", "ctrl+c"] });
    client.ask("POST", "/api/threads/th-keys/send", typed).await.expect(200);
    client
        .until("/api/agents/th-keys/logs", |logs| {
            let lines = logs["logs"].as_array().into_iter().flatten();
            lines.filter(|line| *line == "hello").count() == 2
        })
        .await;
    client.delete("/api/threads/th-keys?force=true").await.expect(204);
}

#[tokio::test]
async fn what_a_thread_puts_out_is_told_as_output_and_never_as_a_message() {
    let (client, mut bus) = control_plane().await;
    client.ask("POST", "/api/threads", input("th-output", "ex-output")).await.expect(201);
    bus.until(|e| is(e, "th-output", "thread_ready")).await;
    client
        .ask("POST", "/api/threads/th-output/send", json!({ "message": "echo put-o\"ut\"" }))
        .await
        .expect(200);
    let mut said = String::new();
    while !said.contains("put-out\n") && !said.ends_with("put-out") {
        let output = bus.until(|e| is(e, "th-output", "thread_output")).await;
        let data = &output["data"]["event"]["data"];
        assert!(data["message"].is_null(), "{output}");
        said.push_str(data["output"].as_str().expect("text"));
    }
    client.delete("/api/threads/th-output?force=true").await.expect(204);
}
