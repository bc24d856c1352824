//! Threads whose agent is a CLI with screens: a script shows those of Claude Code.

use serde_json::{Value, json};

use super::threads::{control_plane, is};
use super::world::{Service, Socket};

const SCRIPT: &str = include_str!("../service_delivery/cli.py");

/// What `claude` is on this node: the script, with these traits.
fn claude_is(traits: &[&str]) {
    let policies = Service::shared().dir().join("etc/stockade/policies");
    std::fs::create_dir_all(&policies).expect("made");
    let words: String = traits.iter().map(|word| format!(", '{word}'")).collect();
    let text = format!(
        "extends = 'shell'\ndescription = 'a script'\n[agent]\ncommand = ['python3', '-c', '''{SCRIPT}''', 'claude'{words}]\n"
    );
    std::fs::write(policies.join("claude.toml"), text).expect("written");
}

fn input(id: &str) -> Value {
    json!({
        "id": id, "executionId": format!("ex-{id}"), "name": "lead", "agentType": "claude", "role": "lead",
        "objective": "count the beans",
        "contextFiles": [{ "path": "CLAUDE.md", "content": "remember\n" }]
    })
}

/// Events of one thread up to the one that is wanted, by their types.
async fn until(bus: &mut Socket, id: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let event = bus.until(|e| e["event"] == "thread_event" && e["data"]["event"]["threadId"] == id).await;
        events.push(event.clone());
        if wanted(&event) {
            return events;
        }
    }
}

fn count(events: &[Value], id: &str, kind: &str) -> usize {
    events.iter().filter(|event| is(event, id, kind)).count()
}

#[tokio::test]
async fn a_thread_is_ready_once_and_each_of_its_messages_completes_one_turn_with_the_agents_words() {
    let (client, mut bus) = control_plane().await;
    claude_is(&["pages=notes,trust"]);
    let id = "th-driven";
    client.ask("POST", "/api/threads", input(id)).await.expect(201);
    // Before it can be ready: kept, and typed then.
    client
        .ask("POST", &format!("/api/threads/{id}/send"), json!({ "message": "one\nand more" }))
        .await
        .expect(200);
    let mut events = until(&mut bus, id, |event| is(event, id, "thread_turn_complete")).await;
    client
        .ask("POST", &format!("/api/threads/{id}/send"), json!({ "message": "CONFIDENCE: 0.5" }))
        .await
        .expect(200);
    events.extend(until(&mut bus, id, |event| is(event, id, "thread_turn_complete")).await);

    let answer = client
        .ask("POST", &format!("/api/agents/{id}/send"), json!({ "message": "three", "expectResponse": true }))
        .await
        .expect(200)
        .json();
    let content = answer["response"]["content"].as_str().expect("a response");
    assert!(
        content.starts_with("I got 5 characters in 1 lines, ending 'three'.\n\nMessages: 3."),
        "{content}"
    );
    assert_eq!(answer["response"]["direction"], "outbound");
    events.extend(until(&mut bus, id, |event| is(event, id, "thread_turn_complete")).await);

    assert_eq!(count(&events, id, "thread_ready"), 1, "{events:#?}");
    assert_eq!(count(&events, id, "thread_turn_complete"), 3, "{events:#?}");
    let first = events.iter().find(|event| is(event, id, "thread_turn_complete")).expect("a turn");
    let output = first["data"]["event"]["data"]["output"].as_str().expect("output");
    assert!(output.starts_with("I got 12 characters in 2 lines, ending 'one\\nand more'."), "{output}");
    assert!(!output.contains(['❯', '✻', '─', '⎿', '●']), "{output}");
    let thread = &first["data"]["thread"];
    assert_eq!((&thread["status"], &thread["completion"]["state"]), (&json!("ready"), &json!("partial")));
    assert!(
        thread["summary"].as_str().is_some_and(|summary| summary.contains("I got 12 characters")),
        "{thread}"
    );
    client.delete(&format!("/api/threads/{id}?force=true")).await.expect(204);
    client.delete(&format!("/api/executions/ex-{id}/resources")).await.expect(204);

    // What cannot be delivered is told to whoever waits for its turn.
    claude_is(&["blind=1"]);
    let id = "th-blind";
    client.ask("POST", "/api/threads", input(id)).await.expect(201);
    bus.until(|event| is(event, id, "thread_ready")).await;
    let refused = client
        .ask("POST", &format!("/api/threads/{id}/send"), json!({ "message": "hello" }))
        .await
        .expect(409);
    assert_eq!(refused.json()["code"], "not-delivered");
    let failed = bus.until(|event| is(event, id, "thread_failed")).await;
    let error = failed["data"]["event"]["data"]["error"].as_str().expect("why");
    assert!(error.contains("uncertain") && error.contains("did not show"), "{error}");
    client.delete(&format!("/api/threads/{id}?force=true")).await.expect(204);
    client.delete(&format!("/api/executions/ex-{id}/resources")).await.expect(204);
}
