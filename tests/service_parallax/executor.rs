//! A workflow, as the control plane's executor runs one: roles, readiness, steps, a stop.

use serde_json::{Value, json};

use super::threads::{control_plane, input, is};
use super::world::{Client, Socket};

/// One step: a message, and the turn that answers it.
async fn step(client: &Client, bus: &mut Socket, thread: &str, task: &str) -> Value {
    let send = json!({ "message": task });
    client.ask("POST", &format!("/api/threads/{thread}/send"), send).await.expect(200);
    let turn = bus.until(|e| is(e, thread, "thread_turn_complete")).await;
    turn["data"]["event"]["data"].clone()
}

#[tokio::test]
async fn a_workflow_of_three_roles_is_carried_out_step_by_step() {
    let (client, mut bus) = control_plane().await;
    let roles = ["wf-thread-0", "wf-thread-1", "wf-thread-2"];
    for role in roles {
        client.ask("POST", "/api/threads", input(role, "wf")).await.expect(201);
    }
    // Any thread's readiness counts, so one that came twice would let the workflow begin too early.
    let mut ready = Vec::new();
    while ready.len() < roles.len() {
        let envelope = bus.until(|e| e["data"]["event"]["executionId"] == "wf").await;
        if envelope["data"]["event"]["type"] == "thread_ready" {
            ready.push(envelope["data"]["event"]["threadId"].as_str().expect("an id").to_owned());
        }
    }
    ready.sort();
    assert_eq!(ready, roles);

    let plan = step(&client, &mut bus, roles[0], "echo plan: $((1 + 1)) beans").await;
    assert!(plan["output"].as_str().expect("text").contains("plan: 2 beans"), "{plan}");
    for role in &roles[1..] {
        let task = format!("echo '{}' | tr a-z A-Z; echo CONFIDENCE: 0.75", "two beans");
        let done = step(&client, &mut bus, role, &task).await;
        assert!(done["output"].as_str().expect("text").contains("TWO BEANS"), "{done}");
        assert_eq!(done["confidence"], 0.75);
    }
    let listed = client.get("/api/threads?executionId=wf&status=ready,busy").await.expect(200).json();
    assert_eq!(listed["count"], 3, "{listed}");
    for role in roles {
        client.delete(&format!("/api/threads/{role}?force=true")).await.expect(204);
        bus.until(|e| is(e, role, "thread_stopped")).await;
    }
    client.delete("/api/executions/wf/resources").await.expect(204);
    assert_eq!(client.get("/api/threads?executionId=wf").await.expect(200).json()["count"], 0);
}
