//! What happens, as server-sent events.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::{gone, operator, shell};
use crate::world::{Client, PATIENCE};

/// A feed that is read event by event.
struct Feed {
    body: Incoming,
    text: String,
}

impl Feed {
    async fn open(client: &Client, path: &str, last: Option<u64>) -> Self {
        let mut request = http::Request::get(path).header("host", "localhost");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = client.open(request.body(Default::default()).expect("a request")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event's cursor and data; none: the feed has ended.
    async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let Some(data) = field("data: ") {
                    let data: Value = serde_json::from_str(&data).expect("JSON");
                    let cursor = field("id: ").and_then(|id| id.parse().ok()).expect("a cursor");
                    assert_eq!(field("event: ").as_deref(), data["type"].as_str());
                    return Some((cursor, data));
                }
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("in time")?;
            let bytes = frame.expect("a frame").into_data().expect("data");
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> (u64, Value) {
        loop {
            let event = self.next().await.expect("the feed goes on");
            if wanted(&event.1) {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn an_agent_s_life_is_told_in_order_and_goes_on_after_the_last_cursor_that_was_seen() {
    let client = operator();
    let mut feed = Feed::open(&client, "/v1/events", None).await;
    shell(&client, "told").await;
    let (created, _) = feed.until(|e| e["type"] == "agentCreated" && e["agent"] == "told").await;
    let ready =
        |e: &Value| e["type"] == "agentState" && e["agent"] == "told" && e["data"]["state"] == "ready";
    let (cursor, _) = feed.until(ready).await;
    assert!(cursor > created);
    drop(feed);
    gone(&client, "told").await;

    let mut feed = Feed::open(&client, "/v1/events?agent=told", Some(created)).await;
    let mut kinds = Vec::new();
    loop {
        let (cursor, event) = feed.next().await.expect("the feed goes on");
        assert!(cursor > created && event["agent"] == "told", "{event}");
        let kind = event["type"].as_str().expect("a type").to_owned();
        kinds.push(match event["data"]["state"].as_str() {
            Some(state) => format!("{kind} {state}"),
            None => kind.clone(),
        });
        if kind == "agentRemoved" {
            break;
        }
    }
    assert!(kinds.contains(&"agentState ready".to_owned()), "{kinds:?}");
    let ended = kinds.iter().any(|kind| kind == "agentState exited" || kind == "agentState failed");
    assert!(ended, "{kinds:?}");
}

#[tokio::test]
async fn a_feed_that_does_not_follow_ends_with_what_has_happened() {
    let client = operator();
    shell(&client, "past").await;
    let mut feed = Feed::open(&client, "/v1/events?follow=false&agent=past", None).await;
    let mut count = 0;
    while feed.next().await.is_some() {
        count += 1;
    }
    assert!(count >= 2, "{count} events");
    gone(&client, "past").await;
}
