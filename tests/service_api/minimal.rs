//! The minimal face, as it was first asked for.

use http_body_util::BodyExt;
use serde_json::json;

use super::operator;
use crate::world::PATIENCE;

#[tokio::test]
async fn an_agent_is_spawned_listed_read_and_stopped_in_four_calls() {
    let client = operator();
    let seed = json!({
        "agentId": "seed", "agentType": "shell", "workspaceId": "seed-work", "capabilities": ["code"],
        "env": { "WHO": "seed" }
    });
    let agent = client.ask("POST", "/spawn", seed.clone()).await.expect(201).json();
    assert_eq!((agent["id"].as_str(), agent["type"].as_str()), (Some("seed"), Some("shell")), "{agent}");
    client.ask("POST", "/spawn", seed.clone()).await.expect(200);
    let mut other = seed;
    other["env"] = json!({ "WHO": "other" });
    client.ask("POST", "/spawn", other).await.expect(409);
    client.until("/api/agents/seed", |agent| agent["status"] == "ready").await;

    let listed = client.get("/agents?type=shell").await.expect(200).json();
    assert!(listed["agents"].as_array().expect("a list").iter().any(|a| a["id"] == "seed"), "{listed}");
    client
        .ask("POST", "/api/agents/seed/send", json!({ "message": "echo I am $WHO in $PWD" }))
        .await
        .expect(200);
    let logs = client
        .until("/agents/seed/logs?tail=20", |logs| {
            let mut lines = logs["logs"].as_array().into_iter().flatten();
            lines.any(|line| line.as_str().is_some_and(|line| line.starts_with("I am seed in /")))
        })
        .await;
    assert!(logs["count"].is_u64());

    client.ask("POST", "/stop", json!({ "agentId": "seed", "timeout": 1000 })).await.expect(204);
    client.ask("POST", "/stop", json!({ "agentId": "nobody" })).await.expect(404);
    client.ask("POST", "/stop", json!({ "agentId": "../x" })).await.expect(400);
    client.delete("/v1/agents/seed").await.expect(204);
}

#[tokio::test]
async fn followed_logs_are_text_until_the_agent_ends() {
    let client = operator();
    client.ask("POST", "/spawn", json!({ "agentId": "seed-f", "agentType": "shell" })).await.expect(201);
    client.until("/api/agents/seed-f", |agent| agent["status"] == "ready").await;
    let request = http::Request::get("/agents/seed-f/logs?follow=true").header("host", "localhost");
    let response = client.open(request.body(Default::default()).expect("a request")).await;
    assert_eq!(
        (response.status().as_u16(), response.headers()["content-type"].as_bytes()),
        (200, &b"text/plain; charset=utf-8"[..])
    );
    client
        .ask("POST", "/api/agents/seed-f/send", json!({ "message": "echo followed; exit" }))
        .await
        .expect(200);
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("in time");
    let text = String::from_utf8_lossy(&body.expect("a body").to_bytes()).into_owned();
    assert!(text.lines().any(|line| line == "followed"), "{text:?}");
    client.delete("/v1/agents/seed-f").await.expect(204);
}
