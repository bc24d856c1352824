//! Agents, from the request to the end.

use serde_json::json;

use super::{gone, operator, shell};
use crate::world::Service;

#[tokio::test]
async fn an_agent_is_started_used_stopped_and_removed() {
    let client = operator();
    let agent = shell(&client, "life").await;
    assert_eq!((agent["type"].as_str(), agent["policy"].as_str()), (Some("shell"), Some("shell")));
    assert_eq!((agent["tenant"].as_str(), agent["safeToType"].as_bool()), (Some("dev"), Some(true)));
    assert!(agent["owner"].as_str().expect("an owner").ends_with("/operator"), "{agent}");
    let attestation = client.get("/v1/agents/life/attestation").await.expect(200).json();
    assert!(attestation.is_object());
    let stats = client.get("/v1/agents/life/stats").await.expect(200).json();
    assert!(stats["processes"].as_u64().is_some_and(|n| n > 0), "{stats}");

    client.delete("/v1/agents/life").await.expect(409);
    let waiting = client.get("/v1/agents/life/wait?timeoutMs=1").await.expect(202).json();
    assert_eq!(waiting["state"], "ready", "{waiting}");
    let stopped = client.ask("POST", "/v1/agents/life/stop", json!({ "graceMs": 2000, "wait": true })).await;
    assert_eq!(stopped.expect(200).json()["state"], "exited");
    client.get("/v1/agents/life/wait").await.expect(200);
    client.raw("POST", "/v1/agents/life/stop", "").await.expect(200);
    client.delete("/v1/agents/life").await.expect(204);
    client.get("/v1/agents/life").await.expect(404);
}

#[tokio::test]
async fn the_same_request_again_finds_the_same_agent_and_another_is_a_conflict() {
    let client = operator();
    shell(&client, "same").await;
    client.ask("POST", "/v1/agents", json!({ "type": "shell", "id": "same" })).await.expect(200);
    let taken = client.ask("POST", "/v1/agents", json!({ "id": "same", "type": "shell", "name": "x" })).await;
    let problem = taken.expect(409).json();
    assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some("id-taken"), Some(409)));
    gone(&client, "same").await;
}

#[tokio::test]
async fn lists_come_in_pages_and_filtered() {
    let client = operator();
    for n in 0..5 {
        let request = json!({ "id": format!("page-{n}"), "type": "shell", "labels": { "set": "pages", "n": n.to_string() } });
        client.ask("POST", "/v1/agents", request).await.expect(201);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/agents?label=set=pages&limit=2".to_owned();
    loop {
        let page = client.get(&path).await.expect(200).json();
        let agents = page["agents"].as_array().expect("a list");
        assert!(agents.len() <= 2);
        seen.extend(agents.iter().map(|agent| agent["id"].as_str().expect("an id").to_owned()));
        match page["cursor"].as_str() {
            Some(cursor) => path = format!("/v1/agents?label=set=pages&limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, (0..5).map(|n| format!("page-{n}")).collect::<Vec<_>>());
    let one = client.get("/v1/agents?label=set=pages&label=n=3&type=shell,claude").await.expect(200).json();
    assert_eq!(one["agents"].as_array().map(Vec::len), Some(1), "{one}");
    let none = client.get("/v1/agents?label=set=pages&status=exited,failed").await.expect(200).json();
    assert_eq!(none["agents"], json!([]));
    for n in 0..5 {
        gone(&client, &format!("page-{n}")).await;
    }
}

#[tokio::test]
async fn something_else_runs_within_an_agent_s_walls() {
    let client = operator();
    shell(&client, "exec").await;
    let request =
        json!({ "command": ["sh", "-c", "cat; echo $X >&2; exit 3"], "stdin": "in", "env": { "X": "err" } });
    let result = client.ask("POST", "/v1/agents/exec/exec", request).await.expect(200).json();
    assert_eq!(result, json!({ "exitCode": 3, "stdout": "in", "stderr": "err\n", "truncated": false }));
    client.ask("POST", "/v1/agents/exec/exec", json!({ "command": [] })).await.expect(422);
    let missing = json!({ "command": ["no-such-program"] });
    let result = client.ask("POST", "/v1/agents/exec/exec", missing).await.expect(200).json();
    assert_eq!(result["exitCode"], 127);
    let why = result["stderr"].as_str().expect("a text");
    assert!(why.starts_with("stockade: no-such-program: not found inside the sandbox"), "{why}");
    gone(&client, "exec").await;
}

#[tokio::test]
async fn a_credential_that_its_policy_lacks_is_refused_whether_it_has_a_network_or_not() {
    let client = operator();
    shell(&client, "lacks-network").await;
    let request =
        json!({ "id": "lacks-name", "type": "custom", "policy": "claude", "command": ["sleep", "60"] });
    client.ask("POST", "/v1/agents", request).await.expect(201);
    for id in ["lacks-network", "lacks-name"] {
        client.until(&format!("/v1/agents/{id}"), |agent| agent["state"] != "starting").await;
        let secret = json!({ "value": "long enough for a secret" });
        let path = format!("/v1/agents/{id}/secrets/nope");
        let problem = client.ask("PUT", &path, secret).await.expect(422).json();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("nope")), "{problem}");
        // What is asked next gets its own answer.
        client.get(&format!("/v1/agents/{id}/stats")).await.expect(200);
        gone(&client, id).await;
    }
}

#[tokio::test]
async fn an_agent_starts_anew_under_its_id() {
    let client = operator();
    shell(&client, "anew").await;
    client.ask("POST", "/v1/agents/anew/send", json!({ "message": "exit 4" })).await.expect(200);
    let ended = client.until("/v1/agents/anew", |agent| agent["exitCode"] == 4).await;
    assert!(["exited", "failed"].contains(&ended["state"].as_str().expect("a state")), "{ended}");
    client.raw("POST", "/v1/agents/anew/restart", "").await.expect(200);
    let agent = client.until("/v1/agents/anew", |agent| agent["state"] == "ready").await;
    assert!(agent["exitCode"].is_null(), "{agent}");
    gone(&client, "anew").await;
}

#[tokio::test]
async fn the_node_and_its_policies_are_shown() {
    let client = Service::shared().client("viewer");
    let node = client.get("/v1/node").await.expect(200).json();
    assert_eq!((node["launcher"].as_bool(), node["draining"].as_bool()), (Some(true), Some(false)));
    let policies = client.get("/v1/policies").await.expect(200).json();
    let names: Vec<_> = policies.as_array().expect("a list").iter().map(|p| p["name"].as_str()).collect();
    for name in ["base", "claude", "shell"] {
        assert!(names.contains(&Some(name)), "{names:?}");
    }
}
