//! What goes in, and what comes out as text.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{gone, operator, shell};
use crate::world::{Client, PATIENCE};

async fn type_in(client: &Client, id: &str, text: &str) {
    client.ask("POST", &format!("/v1/agents/{id}/input"), json!({ "text": text })).await.expect(204);
}

async fn logged(client: &Client, id: &str, line: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !client.get(&format!("/v1/agents/{id}/logs")).await.expect(200).text().lines().any(|l| l == line) {
        assert!(std::time::Instant::now() < deadline, "{line:?} was never logged");
    }
}

#[tokio::test]
async fn a_message_is_answered_and_typed_once_for_one_key() {
    let client = operator();
    shell(&client, "ask").await;
    let message = json!({ "message": "echo $((6 * 7))", "wait": true, "key": "k" });
    let sent = client.ask("POST", "/v1/agents/ask/send", message.clone()).await.expect(200).json();
    assert_eq!((sent["sent"].as_bool(), sent["response"].as_str()), (Some(true), Some("42")), "{sent}");
    let again = client.ask("POST", "/v1/agents/ask/send", message).await.expect(200).json();
    assert_eq!(again["id"], sent["id"]);
    let late = json!({ "message": "sleep 30", "wait": true, "timeoutMs": 200 });
    assert_eq!(client.ask("POST", "/v1/agents/ask/send", late).await.expect(504).json()["code"], "timeout");
    let answers =
        client.get("/v1/agents/ask/logs").await.expect(200).text().lines().filter(|l| *l == "42").count();
    assert_eq!(answers, 1);
    gone(&client, "ask").await;
}

#[tokio::test]
async fn what_became_of_a_message_is_told_by_its_status_and_can_be_asked_for() {
    let client = operator();
    let script = include_str!("../service_delivery/cli.py");
    let spawn = json!({
        "id": "told", "type": "claude", "policy": "shell", "workspaceId": "told", "answers": [],
        "command": ["python3", "-c", script, "claude", "pages=dialog"],
    });
    client.ask("POST", "/v1/agents", spawn).await.expect(201);
    client.until("/v1/agents/told", |agent| agent["state"] == "blocked").await;
    let send = |message: Value| client.ask("POST", "/v1/agents/told/send", message);
    let refused = send(json!({ "message": "hello" })).await.expect(409).json();
    assert_eq!(refused["code"], "wrong-state");
    let queued = send(json!({ "message": "hello", "queue": true, "key": "k" })).await.expect(202).json();
    assert_eq!(
        (queued["sent"].as_bool(), queued["stage"].as_str()),
        (Some(false), Some("queued")),
        "{queued}"
    );
    assert_eq!(queued["why"], "the agent waits for a decision");
    let other = send(json!({ "message": "another", "key": "k" })).await.expect(422).json();
    assert_eq!(other["field"], "key");
    // The question's own answer, by whoever may give it.
    client.ask("POST", "/v1/agents/told/exec", json!({ "command": ["touch", "go"] })).await.expect(200);
    let told =
        client.until("/v1/agents/told/deliveries", |all| all["deliveries"][0]["stage"] == "answered").await;
    let delivery = &told["deliveries"][0];
    assert_eq!(
        (&delivery["id"], &delivery["verified"], &delivery["bytes"]),
        (&queued["id"], &json!(true), &json!(5))
    );
    assert!(
        delivery["response"].as_str().is_some_and(|text| text.starts_with("I got 5 characters")),
        "{told}"
    );
    assert!(delivery.get("text").is_none() && !told.to_string().contains("\"hello\""), "{told}");
    let again = send(json!({ "message": "hello", "wait": true, "key": "k" })).await.expect(200).json();
    assert_eq!((&again["id"], &again["response"]), (&queued["id"], &delivery["response"]));
    gone(&client, "told").await;
}

#[tokio::test]
async fn text_keys_and_bytes_are_typed_as_they_are() {
    let client = operator();
    shell(&client, "keys").await;
    let typed = json!({ "text": "echo ky", "keys": ["left", "e", "end", "s", "enter"] });
    client.ask("POST", "/v1/agents/keys/input", typed).await.expect(204);
    logged(&client, "keys", "keys").await;
    // "echo bytes\r"
    client.ask("POST", "/v1/agents/keys/input", json!({ "base64": "ZWNobyBieXRlcw0=" })).await.expect(204);
    logged(&client, "keys", "bytes").await;
    for wrong in [json!({}), json!({ "keys": ["hyper+x"] }), json!({ "base64": "AAA=", "text": "x" })] {
        client.ask("POST", "/v1/agents/keys/input", wrong).await.expect(422);
    }
    gone(&client, "keys").await;
    client.ask("POST", "/v1/agents/keys/input", json!({ "text": "x" })).await.expect(404);
}

#[tokio::test]
async fn logs_come_as_text_json_and_bytes_cut_to_the_last_lines_or_a_moment() {
    let client = operator();
    shell(&client, "logs").await;
    type_in(&client, "logs", "printf '\\033[31mred\\033[0m\\n'; seq 100; echo d\"one\"\r").await;
    logged(&client, "logs", "done").await;
    // And the prompt after it.
    let deadline = std::time::Instant::now() + PATIENCE;
    while client.get("/v1/agents/logs/logs?tail=1").await.expect(200).text().trim_end() == "done" {
        assert!(std::time::Instant::now() < deadline, "the shell does not go on");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    let text = client.get("/v1/agents/logs/logs").await.expect(200).text();
    assert!(text.lines().any(|line| line == "red") && !text.contains('\u{1b}'), "{text}");
    let tail = client.get("/v1/agents/logs/logs?tail=3").await.expect(200).text();
    assert_eq!(tail.lines().take(2).collect::<Vec<_>>(), ["100", "done"], "{tail}");
    let raw = client.get("/v1/agents/logs/logs?format=raw").await.expect(200);
    assert!(raw.body.windows(8).any(|bytes| bytes == b"\x1b[31mred"));
    let part = client.get("/v1/agents/logs/logs?format=raw&since=10").await.expect(200);
    assert_eq!(part.body, raw.body.slice(10..));

    let json = client.get("/v1/agents/logs/logs?format=json&tail=2").await.expect(200).text();
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((lines.len(), lines[0]["text"].as_str()), (2, Some("done")));
    let at = lines[0]["at"].as_str().expect("a time");
    assert!(at.parse::<jiff::Timestamp>().is_ok(), "{at}");
    let since = client.get(&format!("/v1/agents/logs/logs?since={at}")).await.expect(200).text();
    assert!(since.contains("done"), "{since}");
    assert_eq!(client.get("/v1/agents/logs/logs?since=2100-01-01T00:00:00Z").await.expect(200).text(), "");
    assert!(client.get("/v1/agents/logs/logs?since=1h").await.expect(200).text().contains("red"));
    gone(&client, "logs").await;
}

#[tokio::test]
async fn followed_logs_go_on_line_by_line_until_the_agent_ends() {
    let client = operator();
    shell(&client, "tailed").await;
    type_in(&client, "tailed", "echo be\"fore\"\r").await;
    logged(&client, "tailed", "before").await;
    let request = http::Request::get("/v1/agents/tailed/logs?follow=true&tail=2").header("host", "localhost");
    let response = client.open(request.body(Default::default()).expect("a request")).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    type_in(&client, "tailed", "echo af\"ter\"; exit 0\r").await;
    let mut text = String::new();
    while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time") {
        if let Ok(bytes) = frame.expect("a frame").into_data() {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.iter().filter(|line| **line == "before").count(), 1, "{text}");
    assert_eq!(lines.iter().filter(|line| **line == "after").count(), 1, "{text}");
    gone(&client, "tailed").await;
}

#[tokio::test]
async fn the_screen_is_shown_as_json_and_drawn_as_bytes() {
    let client = operator();
    shell(&client, "shown").await;
    client.ask("POST", "/v1/agents/shown/resize", json!({ "cols": 60, "rows": 10 })).await.expect(204);
    type_in(&client, "shown", "clear; printf '\\033]0;a title\\007'; echo on-the-scr\"een\"\r").await;
    let screen = client
        .until("/v1/agents/shown/screen", |screen| {
            screen.to_string().contains("on-the-screen") && screen["title"] == "a title"
        })
        .await;
    assert_eq!(screen["size"], json!({ "cols": 60, "rows": 10 }));
    assert_eq!(screen["lines"].as_array().map(Vec::len), Some(10), "{screen}");
    assert_eq!(screen["alternate"], false);
    assert!(screen["cursor"]["row"].as_u64().is_some_and(|row| row < 10));
    let drawn = client.get("/v1/agents/shown/screen?format=ansi").await.expect(200);
    assert!(drawn.text().contains("on-the-screen") && drawn.text().contains('\u{1b}'));
    let recording = client.get("/v1/agents/shown/recording").await.expect(200).text();
    let header: Value = serde_json::from_str(recording.lines().next().expect("a header")).expect("JSON");
    assert_eq!(header["version"], 2);
    assert!(recording.contains("on-the-screen"));
    gone(&client, "shown").await;
}
