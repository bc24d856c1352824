//! What was used, over the API: records with a cursor, for whoever may see them.

use serde_json::{Value, json};

use super::{gone, operator};
use crate::world::{Client, Service};

/// All records of one agent.
async fn records(client: &Client, query: &str) -> Vec<Value> {
    let text = client.get(&format!("/v1/usage?{query}")).await.expect(200).text();
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

#[tokio::test]
async fn the_final_record_of_an_agent_is_there_once_it_has_ended_and_stays_when_it_is_removed() {
    let client = operator();
    let command = ["sh", "-c", "i=0; while [ $i -lt 9999 ]; do i=$((i+1)); done; exit 3"];
    let request = json!({ "id": "billed", "type": "custom", "policy": "offline", "command": command });
    client.ask("POST", "/v1/agents", request).await.expect(201);
    client.get("/v1/agents/billed/wait?timeoutMs=30000").await.expect(200);
    gone(&client, "billed").await;
    let records = records(&client, "agent=billed").await;
    let last = records.last().expect("a record");
    assert_eq!(
        (&last["type"], &last["specversion"]),
        (&json!("stockade.usage.final"), &json!("1.0")),
        "{last}"
    );
    assert_eq!((&last["subject"], &last["data"]["tenant"]), (&json!("billed"), &json!("dev")));
    assert!(last["data"]["total"]["cpuUs"].as_u64().is_some_and(|us| us > 0), "{last}");
    assert!(last["data"]["complete"] == true && last["source"].as_str().is_some(), "{last}");

    let since = last["sequence"].as_str().expect("a place").to_owned();
    assert_eq!(self::records(&client, &format!("agent=billed&since={since}")).await, Vec::<Value>::new());
    assert_eq!(self::records(&client, "agent=billed&tenant=other").await, Vec::<Value>::new());
    client.get("/v1/usage?since=x").await.expect(400);
    client.get("/v1/usage?oops=1").await.expect(400);
    let metrics = client.get("/metrics").await.expect(200).text();
    for name in ["stockade_usage_cpu_seconds_total", "stockade_usage_records_total{kind=\"final\"}"] {
        assert!(metrics.contains(name), "{name} is missing");
    }
    assert!(!metrics.contains("billed"), "no metric names an agent");
}

#[tokio::test]
async fn the_key_of_the_audit_log_is_rotated_by_an_administrator_and_by_nobody_else() {
    let service = Service::shared();
    operator().ask("POST", "/v1/audit/rotate-key", json!({})).await.expect(403);
    let admin = service.client("admin");
    let rotated = admin.ask("POST", "/v1/audit/rotate-key", json!({})).await.expect(200).json();
    let (record, key) =
        (rotated["record"].as_u64().expect("a record"), rotated["keyId"].as_str().expect("a key"));
    let line = admin.get(&format!("/v1/audit?since={}", record - 1)).await.expect(200).text();
    let first: Value = serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["event"]["type"], &first["event"]["keyId"]), (&json!("keyRotated"), &json!(key)));
}
