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
    let audit = Service::shared().client("auditor").get("/v1/audit").await.expect(200).text();
    let records =
        audit.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["event"].clone());
    let answered: Vec<Value> =
        records.filter(|event| event["type"] == "questionAnswered" && event["agent"] == id).collect();
    let screens: Vec<&Value> = answered.iter().map(|event| &event["screen"]).collect();
    assert_eq!(screens, ["security-notes", "trust"], "what was answered in the user's stead is on record");
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

/// A sign-in of Gemini CLI's whose first code is refused: a line to it is a code.
const SIGN_IN: &str = r#"
import sys
for n in (1, 2):
    sys.stdout.write("\x1b[?1049h\x1b[2J\x1b[HPlease visit the following URL to authorize the application:\r\n\r\n")
    sys.stdout.write(f"https://accounts.google.com/o/oauth2/v2/auth?client_id=x&state=s-{n}\r\n\r\nEnter the authorization code: ")
    sys.stdout.flush()
    sys.stdin.readline()
sys.stdin.readline()
"#;

#[tokio::test]
async fn a_thread_hears_of_its_login_once_and_again_when_that_is_at_another_address() {
    let (client, mut bus) = control_plane().await;
    let policies = Service::shared().dir().join("etc/stockade/policies");
    std::fs::create_dir_all(&policies).expect("made");
    let text = format!(
        "extends = 'shell'\ndescription = 'a script'\n[agent]\ncommand = ['python3', '-c', '''{SIGN_IN}''']\n"
    );
    std::fs::write(policies.join("gemini.toml"), text).expect("written");
    let id = "th-login";
    let mut asked = input(id);
    asked["agentType"] = json!("gemini");
    client.ask("POST", "/api/threads", asked).await.expect(201);
    let url = |event: &Value| event["data"]["event"]["data"]["url"].as_str().map(str::to_owned);
    let first = until(&mut bus, id, |event| is(event, id, "thread_auth_required")).await;
    let told = first.last().and_then(url).expect("an address");
    assert!(told.ends_with("state=s-1"), "{told}");
    client
        .ask("POST", &format!("/v1/agents/{id}/input"), json!({ "keys": ["x", "enter"] }))
        .await
        .expect(204);
    let again = until(&mut bus, id, |event| {
        is(event, id, "thread_auth_required") && url(event).is_some_and(|url| url.ends_with("state=s-2"))
    })
    .await;
    assert_eq!(count(&first, id, "thread_auth_required") + count(&again, id, "thread_auth_required"), 2);
    client.delete(&format!("/api/threads/{id}?force=true")).await.expect(204);
    client.delete(&format!("/api/executions/ex-{id}/resources")).await.expect(204);
}
