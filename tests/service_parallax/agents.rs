//! Agents, over HTTP alone.

use serde_json::{Value, json};

use super::world::{Client, Service};

fn parallax() -> Client {
    Service::shared().client("parallax")
}

async fn spawned(client: &Client, id: &str) -> Value {
    let config =
        json!({ "id": id, "name": "worker", "type": "custom", "capabilities": ["code"], "role": "lead" });
    client.ask("POST", "/api/agents", config).await.expect(201).json()
}

async fn ready(client: &Client, id: &str) -> Value {
    client.until(&format!("/api/agents/{id}"), |agent| agent["status"] == "ready").await
}

#[tokio::test]
async fn health_is_always_an_answer_in_json() {
    let health = parallax().get("/api/health").await.expect(200).json();

    assert_eq!(health["healthy"], true, "{health}");
    assert_eq!(health["runtime"]["name"], "local");
    assert!(health["runtime"]["activeAgents"].is_u64());
}

#[tokio::test]
async fn an_agent_is_spawned_listed_shown_and_stopped() {
    let client = parallax();
    let spawned = spawned(&client, "px-life").await;
    assert_eq!((spawned["id"].as_str(), spawned["type"].as_str()), (Some("px-life"), Some("custom")));
    assert!(["starting", "ready"].contains(&spawned["status"].as_str().expect("a status")));
    let agent = ready(&client, "px-life").await;
    assert_eq!(agent["capabilities"], json!(["code"]));

    let listed = client
        .get("/api/agents?type=custom&type=claude&status=ready,busy&role=lead")
        .await
        .expect(200)
        .json();
    let ids: Vec<_> =
        listed["agents"].as_array().expect("a list").iter().map(|agent| agent["id"].clone()).collect();
    assert!(ids.contains(&json!("px-life")), "{listed}");
    assert_eq!(listed["count"].as_u64(), Some(ids.len() as u64));
    let none = client.get("/api/agents?type=custom&role=nobody").await.expect(200).json();
    assert_eq!(none, json!({ "agents": [], "count": 0 }));

    let stopped = client.delete("/api/agents/px-life?timeout=2000").await.expect(204);
    assert!(stopped.body.is_empty());
    let agent = client.get("/api/agents/px-life").await.expect(200).json();
    assert_eq!(agent["status"], "stopped", "{agent}");
    client.delete("/api/agents/px-life?force=true").await.expect(204);
}

#[tokio::test]
async fn the_same_request_again_finds_the_same_agent_and_another_one_does_not() {
    let client = parallax();
    spawned(&client, "px-twice").await;
    let config = json!({ "id": "px-twice", "name": "worker", "type": "custom", "capabilities": ["code"], "role": "lead" });
    client.ask("POST", "/api/agents", config.clone()).await.expect(200);
    let mut other = config;
    other["role"] = json!("reviewer");
    let refused = client.ask("POST", "/api/agents", other).await.expect(409).json();
    assert!(refused["error"].as_str().expect("a text").contains("px-twice"), "{refused}");
    client.delete("/api/agents/px-twice?force=true").await.expect(204);
}

#[tokio::test]
async fn a_message_is_answered_with_the_turn() {
    let client = parallax();
    spawned(&client, "px-send").await;
    ready(&client, "px-send").await;

    let message = json!({ "message": "echo $((6 * 7))-forty-two", "expectResponse": true, "timeout": 20000 });
    let answer = client.ask("POST", "/api/agents/px-send/send", message).await.expect(200).json();
    assert_eq!(answer["sent"], true);
    let response = &answer["response"];
    assert!(response["content"].as_str().expect("a text").contains("42-forty-two"), "{answer}");
    assert!(!response["content"].as_str().expect("a text").contains('\u{1b}'), "{answer}");
    assert_eq!(
        (response["direction"].as_str(), response["agentId"].as_str()),
        (Some("outbound"), Some("px-send"))
    );

    let plain =
        client.ask("POST", "/api/agents/px-send/send", json!({ "message": "true" })).await.expect(200).json();
    assert_eq!(plain, json!({ "sent": true }));
    client.ask("POST", "/api/agents/px-send/send", json!({})).await.expect(400);

    let logs = client.get("/api/agents/px-send/logs?tail=50").await.expect(200).json();
    let lines = logs["logs"].as_array().expect("lines");
    assert!(
        lines.iter().any(|line| line.as_str().is_some_and(|line| line.ends_with("42-forty-two"))),
        "{logs}"
    );
    assert_eq!(logs["count"].as_u64(), Some(lines.len() as u64));
    client.delete("/api/agents/px-send?force=true").await.expect(204);
}

#[tokio::test]
async fn uptime_is_in_seconds() {
    let client = parallax();
    spawned(&client, "px-metrics").await;
    ready(&client, "px-metrics").await;

    let metrics = client.get("/api/agents/px-metrics/metrics").await.expect(200).json();

    let uptime = metrics["uptime"].as_f64().expect("a number");
    assert!((0.0..60.0).contains(&uptime), "{metrics}");
    assert!(metrics["memory"].as_u64().is_some_and(|bytes| bytes > 0), "{metrics}");
    client.delete("/api/agents/px-metrics?force=true").await.expect(204);
}

#[tokio::test]
async fn what_is_not_there_is_404_in_json_whatever_is_asked_of_it() {
    let client = parallax();
    for (method, path) in [
        ("GET", "/api/agents/nobody"),
        ("DELETE", "/api/agents/nobody"),
        ("GET", "/api/agents/nobody/logs"),
        ("GET", "/api/agents/nobody/metrics"),
        ("GET", "/api/threads/nothing"),
        ("DELETE", "/api/threads/nothing"),
        ("GET", "/api/no/such/route"),
        ("POST", "/api/nothing"),
    ] {
        let answer = client.raw(method, path, "").await.expect(404);
        assert!(answer.json()["error"].is_string(), "{method} {path}: {}", answer.text());
    }
}

#[tokio::test]
async fn mistakes_of_the_caller_are_told_as_such_in_json() {
    let client = parallax();
    for (status, body) in [
        (400, r#"{"type": "custom"}"#),
        (400, r#"{"name": "x"}"#),
        (400, "{"),
        (400, r#"{"id": "../x", "name": "x", "type": "custom"}"#),
        (400, r#"{"id": "-x", "name": "x", "type": "custom"}"#),
        (400, r#"{"name": "x", "type": "custom", "env": {"A;B": "c"}}"#),
        (422, r#"{"name": "x", "type": "hermes"}"#),
        (422, r#"{"name": "x", "type": "echo"}"#),
        (422, r#"{"name": "x", "type": "no-such-type"}"#),
        (422, r#"{"name": "x", "type": "custom", "resources": {"memory": "lots"}}"#),
    ] {
        let answer = client.raw("POST", "/api/agents", body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.json()["error"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn cleaning_up_an_execution_twice_is_as_good_as_once() {
    let client = parallax();
    let config = json!({ "id": "px-clean", "name": "x", "type": "custom", "executionId": "px-execution" });
    client.ask("POST", "/api/agents", config).await.expect(201);
    client.delete("/api/executions/px-execution/resources").await.expect(204);
    client.get("/api/agents/px-clean").await.expect(200);
    client.delete("/api/agents/px-clean?force=true").await.expect(204);
    for _ in 0..2 {
        client.delete("/api/executions/px-execution/resources").await.expect(204);
    }
    client.get("/api/agents/px-clean").await.expect(404);
}

#[tokio::test]
async fn context_larger_than_parallax_takes_itself_is_taken() {
    let client = parallax();
    let content = "x".repeat(300 * 1024);
    let input = json!({
        "id": "px-large", "executionId": "e", "name": "x", "agentType": "custom", "objective": "o",
        "contextFiles": [{ "path": "notes/context.md", "content": content }]
    });
    client.ask("POST", "/api/threads", input).await.expect(201);
    client.until("/api/threads/px-large", |thread| thread["status"] == "ready").await;
    let message = json!({ "message": "wc -c < notes/context.md", "expectResponse": true });
    let answer = client.ask("POST", "/api/agents/px-large/send", message).await.expect(200).json();
    assert!(answer["response"]["content"].as_str().is_some_and(|text| text.contains("307200")), "{answer}");
    client.delete("/api/threads/px-large?force=true").await.expect(204);
}
