//! The WebSockets: the bus, the filtered events, the terminal.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::world::{Client, PATIENCE, Service};

fn parallax() -> Client {
    Service::shared().client("parallax")
}

async fn spawn(client: &Client, id: &str) {
    let config = json!({ "id": id, "name": id, "type": "custom" });
    client.ask("POST", "/api/agents", config).await.expect(201);
}

async fn ready(client: &Client, id: &str) {
    client.until(&format!("/api/agents/{id}"), |agent| agent["status"] == "ready").await;
}

#[tokio::test]
async fn the_bus_tells_of_an_agent_from_start_to_stop_once_each_and_never_by_a_name_of_the_client_s_own() {
    let client = parallax();
    let mut bus = client.socket("/ws").await.expect("the bus");
    spawn(&client, "ws-life").await;
    ready(&client, "ws-life").await;
    client.delete("/api/agents/ws-life?timeout=2000").await.expect(204);

    let mut told = Vec::new();
    loop {
        let envelope = bus.json().await;
        let name = envelope["event"].as_str().expect("a name").to_owned();
        assert!(!["error", "connected", "disconnected"].contains(&name.as_str()), "{envelope}");
        let time = envelope["timestamp"].as_str().expect("a time");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{envelope}");
        if envelope["data"]["agent"]["id"] == "ws-life" {
            told.push(name.clone());
            if name == "agent_stopped" {
                assert!(envelope["data"]["reason"].is_string(), "{envelope}");
                break;
            }
        }
    }
    assert_eq!(told, ["agent_started", "agent_ready", "agent_stopped"]);
    let rest = bus.rest(Duration::from_millis(500)).await;
    let again = rest.iter().any(|envelope| envelope["data"]["agent"]["id"] == "ws-life");
    assert!(!again, "{rest:#?}");
}

#[tokio::test]
async fn what_an_agent_answers_comes_as_a_message_on_the_plain_bus() {
    let client = parallax();
    let mut bus = client.socket("/ws").await.expect("the bus");
    spawn(&client, "ws-message").await;
    ready(&client, "ws-message").await;
    client
        .ask("POST", "/api/agents/ws-message/send", json!({ "message": "echo $((40 + 2))" }))
        .await
        .expect(200);

    let envelope =
        bus.until(|e| e["event"] == "message" && e["data"]["message"]["agentId"] == "ws-message").await;

    let message = &envelope["data"]["message"];
    assert_eq!(
        (message["direction"].as_str(), message["type"].as_str()),
        (Some("outbound"), Some("response"))
    );
    assert!(message["content"].as_str().expect("text").contains("42"), "{message}");
    client.delete("/api/agents/ws-message?force=true").await.expect(204);
}

#[tokio::test]
async fn a_message_over_the_bus_is_typed_and_nonsense_is_left_out_of_account() {
    let client = parallax();
    let mut bus = client.socket("/ws?agentId=ws-typed").await.expect("the bus");
    spawn(&client, "ws-typed").await;
    bus.until(|e| e["event"] == "ready" && e["data"]["agent"]["id"] == "ws-typed").await;
    for nonsense in
        ["", "{", "[]", r#"{"type":"send"}"#, r#"{"type":"send","agentId":"nobody","message":"x"}"#]
    {
        bus.send(nonsense).await;
    }
    bus.send(r#"{"type":"send","agentId":"ws-typed","message":"echo $((20 + 3))-typed"}"#).await;
    let answered = |e: &Value| e["event"] == "message" && e["data"]["message"]["agentId"] == "ws-typed";
    let envelope = bus.until(answered).await;
    assert!(envelope.to_string().contains("23-typed"), "{envelope}");
    client.delete("/api/agents/ws-typed?force=true").await.expect(204);
    bus.until(|e| e["event"] == "stopped" && e["data"]["agent"]["id"] == "ws-typed").await;
}

#[tokio::test]
async fn filtered_events_greet_answer_a_ping_and_leave_out_other_agents() {
    let client = parallax();
    let mut events = client.socket("/ws/events?agentId=ws-one").await.expect("events");
    let greeting = events.json().await;
    assert_eq!(greeting["type"], "connected");
    assert_eq!(greeting["filter"], json!({ "agentId": "ws-one" }));
    events.send(r#"{"type":"ping"}"#).await;
    assert_eq!(events.json().await["type"], "pong");
    spawn(&client, "ws-other").await;
    ready(&client, "ws-other").await;
    spawn(&client, "ws-one").await;
    let first = events.until(|e| e["event"] != "thread_event").await;
    assert_eq!(first["data"]["agent"]["id"], "ws-one", "{first}");
    for id in ["ws-one", "ws-other"] {
        client.delete(&format!("/api/agents/{id}?force=true")).await.expect(204);
    }
    let mut open = client.socket("/ws/events").await.expect("events");
    assert!(open.json().await["filter"].is_null());
}

#[tokio::test]
async fn a_terminal_speaks_text_takes_json_for_itself_and_closes_with_its_agent() {
    let client = parallax();
    spawn(&client, "ws-term").await;
    ready(&client, "ws-term").await;
    let mut terminal = client.socket("/ws/agents/ws-term/terminal").await.expect("a terminal");
    let first = terminal.json().await;
    assert_eq!((first["type"].as_str(), first["agentId"].as_str()), (Some("connected"), Some("ws-term")));

    terminal.send(r#"{"type":"resize","cols":97,"rows":31}"#).await;
    terminal.send(r#"{"type":"swallowed"}"#).await;
    // Typed letter by letter, so that the echo does not hold what the command prints.
    // Size and keys are not in step, with ssh neither.
    let mut output = String::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    while !output.contains("31 97") {
        assert!(std::time::Instant::now() < deadline, "it keeps another size: {output:?}");
        terminal.send("stty size; echo don\"e\"\r").await;
        output = terminal.output_until("done").await;
        assert!(!output.contains("swallowed"), "{output:?}");
    }

    terminal.send("{ echo ju\"st\" text; }\r").await;
    terminal.output_until("just text").await;
    terminal.send("printf 'é…𝄞%.0s' $(seq 2000); echo; echo e\"nd\"\r").await;
    let output = terminal.output_until("end").await;
    assert!(!output.contains('\u{FFFD}'), "a character was cut");
    assert!(output.matches('𝄞').count() >= 2000);

    terminal.send("exit 3\r").await;
    let (frames, closed) = terminal.until_the_end().await;
    assert!(frames.iter().all(|frame| matches!(frame, Message::Text(_))), "{frames:?}");
    assert_eq!(closed.map(|(code, _)| code), Some(1000));
    client.until("/api/agents/ws-term", |agent| agent["exitCode"] == 3).await;
}

#[tokio::test]
async fn an_unknown_agent_s_terminal_is_accepted_and_closed_as_such() {
    let mut terminal = parallax().socket("/ws/agents/nobody/terminal").await.expect("it is accepted");
    let (frames, closed) = terminal.until_the_end().await;
    assert!(frames.is_empty());
    assert_eq!(closed, Some((4404, "Agent not found".into())));
}

#[tokio::test]
async fn who_may_only_look_sees_the_terminal_and_types_nothing() {
    let service = Service::shared();
    let (client, viewer) = (service.client("parallax"), service.client("viewer"));
    spawn(&client, "ws-look").await;
    ready(&client, "ws-look").await;
    let mut looking = viewer.socket("/ws/agents/ws-look/terminal").await.expect("a terminal");
    looking.json().await;
    looking.send("echo from-the-view\"er\"\r").await;
    client
        .ask("POST", "/api/agents/ws-look/send", json!({ "message": "echo from-the-own\"er\"" }))
        .await
        .expect(200);
    let output = looking.output_until("from-the-owner").await;
    assert!(!output.contains("from-the-viewer"), "{output:?}");
    viewer.ask("POST", "/api/agents", json!({ "name": "x", "type": "custom" })).await.expect(403);
    client.delete("/api/agents/ws-look?force=true").await.expect(204);
}
