//! What becomes of threads while nobody listens, and while no daemon runs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::threads::{input, is};
use super::world::Service;

#[tokio::test]
async fn a_turn_that_ended_while_nobody_listened_is_told_once_to_whoever_listens_next() {
    let service = Arc::new(Service::start());
    let client = service.client("parallax");
    let mut bus = client.socket("/ws").await.expect("the bus");
    client.ask("POST", "/api/threads", input("away", "ex-away")).await.expect(201);
    bus.until(|e| is(e, "away", "thread_ready")).await;
    drop(bus);
    client.ask("POST", "/api/threads/away/send", json!({ "message": "echo missed-it" })).await.expect(200);
    client.until("/api/threads/away", |thread| thread["completion"].is_object()).await;

    let mut bus = client.socket("/ws").await.expect("the bus");
    let turn = bus.until(|e| is(e, "away", "thread_turn_complete")).await;
    assert!(turn["data"]["event"]["data"]["output"].as_str().expect("text").contains("missed-it"));
    drop(bus);
    let mut bus = client.socket("/ws").await.expect("the bus");
    let rest = bus.rest(Duration::from_secs(1)).await;
    assert!(!rest.iter().any(|e| is(e, "away", "thread_turn_complete")), "{rest:#?}");
    client.delete("/api/threads/away?force=true").await.expect(204);
}

#[tokio::test]
async fn threads_are_listed_as_they_were_after_the_daemon_was_killed_and_are_not_ready_a_second_time() {
    let service = Arc::new(Service::start());
    let client = service.client("parallax");
    let mut bus = client.socket("/ws").await.expect("the bus");
    let made = client.ask("POST", "/api/threads", input("kept", "ex-kept")).await.expect(201).json();
    bus.until(|e| is(e, "kept", "thread_ready")).await;

    let killed = service.daemon();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).expect("it is there");
    bus.until_the_end().await;
    service.daemon_after(killed).await;

    let client = service.client("parallax");
    let kept = client.until("/api/threads/kept", |thread| thread["status"] == "ready").await;
    for field in ["createdAt", "executionId", "objective", "metadata", "role", "runtimeName", "name"] {
        assert_eq!(kept[field], made[field], "{kept}");
    }
    let mut bus = client.socket("/ws").await.expect("the bus");
    client
        .ask("POST", "/api/threads/kept/send", json!({ "message": "echo still $((5 * 5))" }))
        .await
        .expect(200);
    let mut ready = false;
    let turn = loop {
        let envelope = bus.json().await;
        ready |= is(&envelope, "kept", "thread_ready");
        if is(&envelope, "kept", "thread_turn_complete") {
            break envelope;
        }
    };
    assert!(turn["data"]["event"]["data"]["output"].as_str().expect("text").contains("still 25"), "{turn}");
    assert!(!ready, "its readiness was told a second time");
    client.delete("/api/threads/kept?force=true").await.expect(204);
}
