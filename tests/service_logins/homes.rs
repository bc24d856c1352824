//! A home that is kept, and with it a login, is one agent's at a time.

use serde_json::{Value, json};

use super::{gone, operator};
use crate::world::{Client, Service};

fn at_home(id: &str, home: &str, script: &str) -> Value {
    json!({ "id": id, "type": "shell", "home": home, "command": ["sh", "-c", script] })
}

async fn spawn(client: &Client, request: Value) -> crate::world::Answer {
    client.ask("POST", "/v1/agents", request).await
}

#[tokio::test]
async fn a_home_is_one_agents_at_a_time_and_keeps_its_login_for_the_next() {
    let client = operator();
    spawn(&client, at_home("home-1", "kept", "echo token-1 >~/credentials; sleep 600")).await.expect(201);
    let refused = spawn(&client, at_home("home-2", "kept", "true")).await.expect(409).json();
    assert_eq!((&refused["code"], &refused["field"]), (&json!("home-in-use"), &json!("home")), "{refused}");
    client.get("/v1/agents/home-2").await.expect(404);
    // Another home is nobody's, and so is one of the same name elsewhere.
    spawn(&client, at_home("home-3", "other", "true")).await.expect(201);
    gone(&client, "home-3").await;

    let waits = {
        let client = operator();
        let mut request = at_home("home-2", "kept", "cat ~/credentials; sleep 600");
        request["homeWait"] = json!(20);
        tokio::spawn(async move { spawn(&client, request).await.status })
    };
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!waits.is_finished(), "it waits");
    gone(&client, "home-1").await;
    assert_eq!(waits.await.expect("an answer"), 201, "and has it once the first has gone");
    client.until("/v1/agents/home-2", |agent| agent["offset"].as_u64() > Some(0)).await;
    let log = client.get("/v1/agents/home-2/logs").await.expect(200).text();
    assert!(log.contains("token-1"), "{log}");
    let mut long = at_home("home-4", "kept", "true");
    long["homeWait"] = json!(21);
    assert_eq!(spawn(&client, long).await.expect(422).json()["field"], "homeWait");
    gone(&client, "home-2").await;
}

#[tokio::test]
async fn the_hold_on_a_home_outlives_the_daemon_and_ends_with_the_agent() {
    let service = std::sync::Arc::new(Service::start());
    let client = service.client("operator");
    spawn(&client, at_home("holder", "kept", "sleep 600")).await.expect(201);
    let killed = service.daemon();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).expect("it is ours");
    service.daemon_after(killed).await;
    spawn(&client, at_home("second", "kept", "true")).await.expect(409);
    gone(&client, "holder").await;
    let mut request = at_home("second", "kept", "true");
    request["homeWait"] = json!(10);
    spawn(&client, request).await.expect(201);
    gone(&client, "second").await;
    // One that is started anew takes it again.
    spawn(&client, at_home("again", "kept", "sleep 600")).await.expect(201);
    client.ask("POST", "/v1/agents/again/restart", json!({})).await.expect(200);
    spawn(&client, at_home("second", "kept", "true")).await.expect(409);
    gone(&client, "again").await;
}
