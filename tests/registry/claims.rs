//! Whose entries are whose: daemons that follow one another, nodes that have one name.

use std::time::Duration;

use etcd_client::{EventType, WatchOptions};
use stockade::api::State;
use stockade::registry::entry::{AGENTS, node_key};

use crate::etcd::{Etcd, PATIENCE, becomes, entry};
use crate::node::{Node, TTL, settings};

#[tokio::test]
async fn a_daemon_that_is_started_again_takes_its_agents_over_and_nobody_ever_misses_one() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a", "b", "c"]);
    becomes(&mut client, &["a", "b", "c"], PATIENCE).await;
    let first = entry(&mut client, "a").await.expect("there").metadata.stockade.generation;
    let mut watch = client.watch(AGENTS, Some(WatchOptions::new().with_prefix())).await.expect("a watch");
    node.crash();

    // What ran before is not known at once: until it is, nothing is withdrawn.
    let node = Node::unknowing(&mut settings("n", "n", etcd.access()));
    // Not for long: what takes its agents over has to be through before the old lease ends.
    tokio::time::sleep(TTL / 10).await;
    // `a` has not shown yet what it does: it was usable, and is withdrawn only when it ends. `c` ended meanwhile.
    node.shows(&[("a", State::Unknown), ("b", State::Ready), ("d", State::Unknown)]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    // Longer than the old lease lasted.
    tokio::time::sleep(TTL + Duration::from_secs(1)).await;
    assert!(entry(&mut client, "a").await.expect("there").metadata.stockade.generation > first);

    let mut deleted = Vec::new();
    while let Ok(Ok(Some(response))) = tokio::time::timeout(Duration::from_millis(200), watch.message()).await
    {
        let gone = response.events().iter().filter(|event| event.event_type() == EventType::Delete);
        deleted.extend(gone.map(|event| event.kv().expect("a key").key_str().expect("text").to_owned()));
    }
    assert_eq!(deleted, ["/parallax/services/agent/c"]);
}

#[tokio::test]
async fn a_second_node_of_the_same_name_is_refused_with_the_way_out_and_waits_its_turn() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let first = Node::with(settings("n", "first", etcd.access()));
    first.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    let second = Node::with(settings("n", "second", etcd.access()));
    second.runs(&["a", "b"]);
    let status = second.says(|status| status.trouble.is_some()).await;
    let why = status.trouble.expect("waited for it");
    assert!(why.contains("the name n is taken by node first") && why.contains("`name` in [node]"), "{why}");
    assert!(!status.connected);
    becomes(&mut client, &["a"], PATIENCE).await;
    first.crash();
    becomes(&mut client, &["a", "b"], PATIENCE).await;
}

#[tokio::test]
async fn two_nodes_share_an_etcd_and_one_agent_s_id_belongs_to_whoever_had_it_first() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let (one, two) = (Node::start("one", etcd.access()), Node::start("two", etcd.access()));
    one.runs(&["a", "same"]);
    becomes(&mut client, &["a", "same"], PATIENCE).await;
    two.runs(&["b", "same"]);
    let status = two.says(|status| !status.conflicts.is_empty()).await;
    assert_eq!(status.conflicts, ["same: its key belongs to node one"]);
    one.runs(&["a"]);
    two.says(|status| status.conflicts.is_empty() && status.registered == 2).await;
    assert_eq!(entry(&mut client, "same").await.expect("there").metadata.stockade.node, "two");
    one.crash();
    becomes(&mut client, &["b", "same"], PATIENCE).await;
}

#[tokio::test]
async fn a_daemon_that_was_replaced_while_it_slept_writes_nothing_any_more() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let old = Node::start("n", etcd.access());
    old.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    let new = Node::start("n", etcd.access());
    new.runs(&["b"]);
    becomes(&mut client, &["b"], PATIENCE).await;
    let status = old.says(|status| status.trouble.as_ref().is_some_and(|why| why.contains("later"))).await;
    assert!(status.trouble.is_some_and(|why| why.contains("node-id")));
    old.runs(&["a", "c"]);
    new.runs(&["b", "d"]);
    becomes(&mut client, &["b", "d"], PATIENCE).await;
    let held = client.get(node_key("n"), None).await.expect("etcd answers");
    assert_eq!(held.kvs().len(), 1);
}
