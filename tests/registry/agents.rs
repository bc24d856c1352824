//! What is registered, and when.

use std::time::Duration;

use stockade::api::State;
use stockade::daemon::registry::Running;
use stockade::registry::check;
use stockade::registry::entry::{HealthStatus, node_key};

use crate::etcd::{Etcd, PATIENCE, becomes, entry, everything};
use crate::node::{Node, agent};

#[tokio::test]
async fn an_agent_is_found_once_it_is_usable_and_no_longer_than_it_runs() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.shows(&[("a", State::Starting), ("b", State::LoginRequired), ("c", State::Ready)]);
    becomes(&mut client, &["c"], PATIENCE).await;

    node.shows(&[("a", State::Ready), ("b", State::LoginRequired), ("c", State::Blocked)]);
    becomes(&mut client, &["a", "c"], PATIENCE).await;
    while entry(&mut client, "c").await.expect("there").health.status != HealthStatus::Degraded {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    node.shows(&[("a", State::Stopping), ("b", State::LoginRequired), ("c", State::Exited)]);
    becomes(&mut client, &[], PATIENCE).await;
}

#[tokio::test]
async fn an_entry_is_what_parallax_takes_and_holds_nothing_that_a_tenant_should_not_read() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    let all = everything(&mut client).await;
    let text = String::from_utf8(all["/parallax/services/agent/a"].0.clone()).expect("text");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&value["id"], &value["type"]), (&"a".into(), &"agent".into()));
    assert_eq!(value["metadata"]["capabilities"], serde_json::json!(["code"]));
    assert_eq!(value["metadata"]["labels"], serde_json::json!({"team": "a"}));
    assert_eq!(value["metadata"]["stockade"]["node"], "n");
    assert_eq!(value["metadata"]["agent"], serde_json::json!({"type": "claude", "runtime": "local"}));
    assert_eq!(value["health"]["status"], "healthy");
    assert!(value["endpoint"].as_str().is_some_and(|endpoint| endpoint.starts_with("unix:/")), "{text}");
    assert!(
        value.get("registeredAt").is_none() && !text.contains("research") && !text.contains("secret"),
        "{text}"
    );
}

#[tokio::test]
async fn no_name_makes_a_value_that_parallax_chokes_on() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    let names =
        ["\"}],", "\0\u{7}\u{1b}[2J", "\u{2028}\u{202e}\u{1F980}", "__proto__", "%s${7*7}", "", "a\nb"];
    let mut running = Running::default();
    for (at, name) in names.iter().enumerate() {
        let mut hostile = agent(name, State::Ready);
        hostile.capabilities = vec![(*name).to_owned(), "x".repeat(100_000)];
        hostile.labels = [("team".to_owned(), (*name).to_owned())].into();
        hostile.kind = (*name).to_owned();
        running.agents.insert(format!("h{at}"), hostile);
    }
    let ids: Vec<String> = running.agents.keys().cloned().collect();
    node.tells(running);
    becomes(&mut client, &ids.iter().map(String::as_str).collect::<Vec<_>>(), PATIENCE).await;
    for (key, (value, _)) in everything(&mut client).await {
        assert_eq!(check::faults(&key, &value), [], "{key}");
        assert!(value.len() < 100_000, "{key} has {} bytes", value.len());
    }
}

#[tokio::test]
async fn the_node_is_found_beside_its_agents_under_a_type_that_is_never_selected() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.says(|status| status.connected).await;
    node.facts.send_modify(|facts| facts.draining = true);
    loop {
        let all = everything(&mut client).await;
        let value: serde_json::Value = serde_json::from_slice(&all[&node_key("n")].0).expect("JSON");
        assert_eq!((&value["type"], &value["endpoint"]), (&"monitor".into(), &"https://node:7443".into()));
        assert_eq!(value["metadata"]["node"]["kernel"], "6.1");
        if value["metadata"]["node"]["draining"] == true {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_turn_costs_etcd_nothing() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    let before = node.says(|status| status.registered == 1).await.counts;
    for _ in 0..10 {
        node.shows(&[("a", State::Busy)]);
        node.says(|status| status.registered == 1).await;
        node.shows(&[("a", State::Ready)]);
    }
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    let after = node.says(|status| status.registered == 2).await.counts;
    assert_eq!(after.puts - before.puts, 1);
}

#[tokio::test]
async fn a_node_that_ends_with_nothing_running_leaves_nothing_and_one_with_agents_leaves_them_for_its_successor()
 {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    node.end().await;
    assert_eq!(everything(&mut client).await.len(), 2, "the agent and the node");
    becomes(&mut client, &[], PATIENCE).await;

    let node = Node::start("m", etcd.access());
    node.says(|status| status.connected).await;
    node.end().await;
    assert_eq!(everything(&mut client).await.keys().filter(|key| key.ends_with("/m")).count(), 0);
}
