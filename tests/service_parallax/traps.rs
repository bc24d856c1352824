//! What an unmodified control plane stumbles over, one test each, where no other test shows it already.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::threads::{control_plane, input, is};

#[tokio::test]
async fn a_spawn_is_answered_long_before_the_client_gives_up_and_before_readiness() {
    let (client, mut bus) = control_plane().await;
    let begun = Instant::now();
    let thread = client.ask("POST", "/api/threads", input("tr-fast", "ex-fast")).await.expect(201).json();
    assert!(begun.elapsed() < Duration::from_secs(30) / 2);
    assert_eq!(thread["status"], "starting", "{thread}");
    bus.until(|e| is(e, "tr-fast", "thread_ready")).await;
    client.delete("/api/threads/tr-fast?force=true").await.expect(204);
}

#[tokio::test]
async fn a_spawn_that_is_sent_again_makes_no_second_thread_and_no_second_readiness() {
    let (client, mut bus) = control_plane().await;
    let first = client.ask("POST", "/api/threads", input("tr-again", "ex-again")).await.expect(201).json();
    bus.until(|e| is(e, "tr-again", "thread_ready")).await;
    let again = client.ask("POST", "/api/threads", input("tr-again", "ex-again")).await.expect(200).json();
    assert_eq!((&again["id"], &again["createdAt"]), (&first["id"], &first["createdAt"]));
    let mut other = input("tr-again", "ex-again");
    other["objective"] = json!("count the peas");
    client.ask("POST", "/api/threads", other).await.expect(409);
    let rest = bus.rest(Duration::from_secs(1)).await;
    assert!(!rest.iter().any(|e| is(e, "tr-again", "thread_ready")), "{rest:#?}");
    client.delete("/api/threads/tr-again?force=true").await.expect(204);
}

#[tokio::test]
async fn a_refused_spawn_leaves_no_thread_behind() {
    let (client, _) = control_plane().await;
    let mut wrong = input("tr-refused", "ex-refused");
    wrong["workspace"] = json!({ "path": "/no/such/directory" });
    wrong["preparation"] = json!({});
    let refused = client.ask("POST", "/api/threads", wrong).await;
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    client.get("/api/threads/tr-refused").await.expect(404);
    for path in ["../../etc/cron.d/x", "/etc/cron.d/x", "a/../../x"] {
        let mut wrong = input("tr-refused", "ex-refused");
        wrong["preparation"] = json!({ "contextFiles": [{ "path": path, "content": "x" }] });
        client.ask("POST", "/api/threads", wrong).await.expect(400);
    }
    for field in ["executionId", "name", "agentType", "objective"] {
        let mut wrong = input("tr-refused", "ex-refused");
        wrong.as_object_mut().expect("an object").remove(field);
        client.ask("POST", "/api/threads", wrong).await.expect(400);
    }
}

#[tokio::test]
async fn no_turn_completes_before_the_first_message_and_the_objective_is_not_typed() {
    let (client, mut bus) = control_plane().await;
    client.ask("POST", "/api/threads", input("tr-first", "ex-first")).await.expect(201);
    bus.until(|e| is(e, "tr-first", "thread_ready")).await;
    let rest = bus.rest(Duration::from_secs(2)).await;
    assert!(!rest.iter().any(|e| is(e, "tr-first", "thread_turn_complete")), "{rest:#?}");
    let logs = client.get("/api/agents/tr-first/logs").await.expect(200).text();
    assert!(!logs.contains("beans"), "{logs}");
    client.delete("/api/threads/tr-first?force=true").await.expect(204);
}

#[tokio::test]
async fn of_a_long_turn_the_last_8000_characters_are_told() {
    let (client, mut bus) = control_plane().await;
    client.ask("POST", "/api/threads", input("tr-long", "ex-long")).await.expect(201);
    bus.until(|e| is(e, "tr-long", "thread_ready")).await;
    let message = json!({ "message": "seq -f 'line %g é' 5000" });
    client.ask("POST", "/api/threads/tr-long/send", message).await.expect(200);
    let turn = bus.until(|e| is(e, "tr-long", "thread_turn_complete")).await;
    let output = turn["data"]["event"]["data"]["output"].as_str().expect("output");
    assert!(output.chars().count() <= 8000 && output.contains("line 5000 é"), "{output:?}");
    assert!(output.chars().count() > 7000, "{} characters", output.chars().count());
    client.delete("/api/threads/tr-long?force=true").await.expect(204);
}

#[tokio::test]
async fn every_thread_event_has_its_thread_as_it_is_now_and_times_that_are_times() {
    let (client, mut bus) = control_plane().await;
    client.ask("POST", "/api/threads", input("tr-times", "ex-times")).await.expect(201);
    bus.until(|e| is(e, "tr-times", "thread_ready")).await;
    client.ask("POST", "/api/threads/tr-times/send", json!({ "message": "true" })).await.expect(200);
    client.until("/api/threads/tr-times", |thread| thread["completion"].is_object()).await;
    client.delete("/api/threads/tr-times?force=true").await.expect(204);
    let time = |value: &Value| value.as_str().is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok());
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "thread_stopped") {
        let envelope = bus.until(|e| e["data"]["event"]["threadId"] == "tr-times").await;
        let (thread, event) = (&envelope["data"]["thread"], &envelope["data"]["event"]);
        assert_eq!(
            (thread["id"].as_str(), event["executionId"].as_str()),
            (Some("tr-times"), Some("ex-times"))
        );
        let times = [&thread["createdAt"], &thread["updatedAt"], &event["timestamp"], &envelope["timestamp"]];
        assert!(times.into_iter().all(time), "{envelope}");
        kinds.push(event["type"].as_str().expect("a type").to_owned());
    }
    assert!(kinds.contains(&"thread_turn_complete".to_owned()), "{kinds:?}");
}

#[tokio::test]
async fn an_answer_with_content_is_json_and_204_is_empty() {
    let (client, _) = control_plane().await;
    for path in ["/", "/api/health", "/api/agents", "/api/threads"] {
        let answer = client.get(path).await.expect(200);
        assert!(answer.json().is_object(), "{path}");
        assert_eq!(answer.headers["content-type"], "application/json", "{path}");
    }
    let empty = client.delete("/api/executions/nothing/resources").await.expect(204);
    assert!(empty.body.is_empty());
}
