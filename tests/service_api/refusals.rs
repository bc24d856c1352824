//! What is refused, and how that is said.

use serde_json::{Value, json};

use super::{gone, operator, shell};
use crate::world::Service;

/// Status and field of the refusal of this spawn.
async fn refused(request: Value) -> (u16, Option<String>) {
    let answer = operator().ask("POST", "/v1/agents", request.clone()).await;
    assert!((400..500).contains(&answer.status), "{request}: {} {}", answer.status, answer.text());
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["detail"], problem["error"]);
    assert!(problem["requestId"].as_str().is_some_and(|id| !id.is_empty()), "{problem}");
    (answer.status, problem["field"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_name_that_could_be_more_than_a_name_is_malformed() {
    for hostile in ["a;b", "a\nb", "../x", "%2e%2e", "a\0b", "-x", "", "a b", "a/b", ".", "$(id)"] {
        for field in ["id", "policy", "workspaceId", "home"] {
            let (status, named) = refused(json!({ "type": "shell", field: hostile })).await;
            assert_eq!((status, named.as_deref()), (400, Some(field)), "{hostile:?}");
        }
        let (status, named) = refused(json!({ "type": "shell", "env": { hostile: "x" } })).await;
        assert_eq!((status, named.as_deref()), (400, Some("env")), "{hostile:?}");
    }
    let client = operator();
    for path in ["..%2fx", "%2e%2e", "a%00b", "-x", "a;b", "a%0ab", "%ff"] {
        for way in ["", "/logs", "/screen", "/stats", "/attestation", "/recording", "/wait", "/login"] {
            let answer = client.get(&format!("/v1/agents/{path}{way}")).await;
            assert_eq!(answer.status, 400, "{path}{way}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_path_that_leads_out_is_malformed() {
    for path in ["/etc/passwd", "../x", "a/../../x", "", "a\0b"] {
        let files = json!([{ "path": path, "content": "" }]);
        let (status, named) = refused(json!({ "type": "shell", "workspaceId": "w", "files": files })).await;
        assert_eq!((status, named.as_deref()), (400, Some("files")), "{path:?}");
    }
    assert_eq!(refused(json!({ "type": "shell", "workspace": "relative" })).await.0, 400);
}

#[tokio::test]
async fn what_makes_no_sense_names_its_field() {
    for (request, field) in [
        (json!({}), "type"),
        (json!({ "type": "shell", "oops": 1 }), "oops"),
        (json!({ "type": "shell", "env": [] }), "env"),
        (json!({ "type": "custom" }), "command"),
        (json!({ "type": "shell", "command": [] }), "command"),
        (json!({ "type": "shell", "size": { "cols": 0, "rows": 24 } }), "size"),
        (json!({ "type": "shell", "workspace": "/srv", "workspaceId": "w" }), "workspaceId"),
        (json!({ "type": "shell", "limits": { "cpus": -1.0 } }), "limits"),
    ] {
        let (status, named) = refused(request.clone()).await;
        assert_eq!((status, named.as_deref()), (422, Some(field)), "{request}");
    }
    assert_eq!(refused(json!({ "type": "no-such-kind" })).await.0, 422);
    assert_eq!(operator().raw("POST", "/v1/agents", "{").await.status, 400);
}

#[tokio::test]
async fn parameters_that_are_none_are_refused_by_name() {
    let client = operator();
    shell(&client, "query").await;
    for path in [
        "/v1/agents?limit=0",
        "/v1/agents?limit=501",
        "/v1/agents?limit=x",
        "/v1/agents?cursor=!",
        "/v1/agents?oops=1",
        "/v1/agents/query/logs?format=xml",
        "/v1/agents/query/logs?tail=-1",
        "/v1/agents/query/logs?since=yesterday",
        "/v1/agents/query/screen?format=png",
        "/v1/agents/query/wait?timeoutMs=soon",
        "/v1/events?since=x",
    ] {
        let problem = client.get(path).await.expect(400).json();
        assert!(problem["field"].is_string(), "{path}: {problem}");
    }
    for path in ["mode=admin", "cols=80", "cols=0&rows=24", "since=-1"] {
        let status = client.socket(&format!("/v1/agents/query/terminal?{path}")).await.err();
        assert!(status.is_some_and(|status| status.is_client_error()), "{path}: {status:?}");
    }
    gone(&client, "query").await;
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_404_whatever_is_asked_of_it() {
    let client = operator();
    for (method, way, body) in [
        ("GET", "", ""),
        ("DELETE", "", ""),
        ("POST", "/stop", ""),
        ("POST", "/restart", ""),
        ("POST", "/send", r#"{"message":"x"}"#),
        ("POST", "/input", r#"{"text":"x"}"#),
        ("POST", "/resize", r#"{"cols":80,"rows":24}"#),
        ("POST", "/exec", r#"{"command":["true"]}"#),
        ("PUT", "/secrets/x", r#"{"value":"x"}"#),
        ("GET", "/wait", ""),
        ("GET", "/logs", ""),
        ("GET", "/screen", ""),
        ("GET", "/recording", ""),
        ("GET", "/attestation", ""),
        ("GET", "/stats", ""),
        ("GET", "/login", ""),
    ] {
        let answer = client.raw(method, &format!("/v1/agents/nobody{way}"), body).await.expect(404);
        assert_eq!(answer.json()["code"], "agent-not-found", "{method} {way}");
    }
}

#[tokio::test]
async fn a_value_of_a_variable_is_never_shown() {
    let client = operator();
    let secret = "s3cret-0f-a-variable";
    let wrong = json!({ "type": "shell", "env": { "KEY": format!("{secret}\0") } });
    assert!(!client.ask("POST", "/v1/agents", wrong).await.expect(400).text().contains(secret));
    let request = json!({ "id": "hush", "type": "shell", "env": { "KEY": secret } });
    assert!(!client.ask("POST", "/v1/agents", request).await.expect(201).text().contains(secret));
    for path in [
        "/v1/agents",
        "/v1/agents/hush",
        "/v1/agents/hush/attestation",
        "/v1/events?follow=false",
        "/api/agents",
    ] {
        assert!(!client.get(path).await.expect(200).text().contains(secret), "{path}");
    }
    gone(&client, "hush").await;
}

#[tokio::test]
async fn a_viewer_changes_nothing_and_an_auditor_sees_no_agent() {
    let service = Service::shared();
    let (client, viewer, auditor) = (operator(), service.client("viewer"), service.client("auditor"));
    shell(&client, "roles").await;
    viewer.get("/v1/agents/roles").await.expect(200);
    auditor.get("/v1/agents/roles").await.expect(403);
    for (method, path, body) in [
        ("POST", "/v1/agents", r#"{"type":"shell"}"#),
        ("DELETE", "/v1/agents/roles", ""),
        ("POST", "/v1/agents/roles/stop", ""),
        ("POST", "/v1/agents/roles/input", r#"{"text":"x"}"#),
        ("POST", "/v1/node/drain", ""),
        ("POST", "/stop", r#"{"agentId":"roles"}"#),
    ] {
        viewer.raw(method, path, body).await.expect(403);
    }
    client.raw("POST", "/v1/node/drain", "").await.expect(403);
    gone(&client, "roles").await;
}

#[tokio::test]
async fn the_description_that_is_served_is_that_of_the_routes() {
    let document = operator().get("/openapi.json").await.expect(200).json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    assert!(document["paths"]["/v1/agents/{id}/terminal"]["get"]["responses"]["101"].is_object());
}
