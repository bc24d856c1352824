//! A login is seen wherever one looks, and by whoever comes later.

use serde_json::json;

use super::{complete, gone, login, operator, start};
use crate::world::Service;

#[tokio::test]
async fn a_login_is_in_the_lists_in_the_events_and_in_parallaxs_words() {
    let client = operator();
    let mut bus = client.socket("/ws").await.expect("the bus");
    start(&client, "shown", "claude", "claude").await;
    let shown = login(&client, "shown", |login| login["callback"].is_string()).await;
    for name in ["provider", "method", "url", "urlSource", "browserUrl", "callback", "since"] {
        assert!(shown[name].is_string(), "{name}: {shown}");
    }
    let listed = client.get("/v1/agents?status=login-required").await.expect(200).json();
    let of = listed["agents"].as_array().expect("a list").iter().find(|agent| agent["id"] == "shown");
    assert_eq!(of.map(|agent| &agent["login"]["url"]), Some(&shown["url"]), "{listed}");
    let told = bus.until(|e| e["event"] == "login_required" && e["data"]["url"] == shown["url"]).await;
    assert_eq!(told["data"]["agent"]["status"], "authenticating", "{told}");
    let parallax = client.get("/api/agents/shown").await.expect(200).json();
    assert_eq!(parallax["status"], "authenticating", "{parallax}");
    assert_eq!(parallax["login"]["url"], shown["url"], "{parallax}");

    // Whoever was told of it is not told again because somebody tried.
    let refused = complete(&client, "shown", json!({ "code": "wrong#s-1" })).await.expect(200).json();
    assert_eq!(refused["outcome"], "refused", "{refused}");
    gone(&client, "shown").await;
}

#[tokio::test]
async fn a_login_outlives_the_daemon_that_saw_it_begin() {
    let service = std::sync::Arc::new(Service::start());
    let client = service.client("operator");
    start(&client, "stays", "claude", "claude").await;
    let before = login(&client, "stays", |login| login["browserUrl"].is_string()).await;
    let killed = service.daemon();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).expect("it is ours");
    service.daemon_after(killed).await;
    let after = login(&client, "stays", |login| login["browserUrl"].is_string()).await;
    assert_eq!((&after["url"], &after["browserUrl"]), (&before["url"], &before["browserUrl"]));
    let accepted = complete(&client, "stays", json!({ "code": "good-code#s-1" })).await.expect(200).json();
    assert_eq!(accepted["outcome"], "accepted", "{accepted}");
    client.until("/v1/agents/stays", |agent| agent["state"] == "ready").await;
    gone(&client, "stays").await;
}
