//! What lies between a node and etcd: a line that is slow, or cut.

use std::time::Duration;

use etcd_client::{CompactionOptions, EventType, WatchOptions};
use stockade::registry::entry::{AGENTS, node_key};

use crate::etcd::{Etcd, PATIENCE, becomes, everything, ids};
use crate::node::{Node, TTL, settings};
use crate::relay::{Network, Relay};

const AFTER: Duration = Duration::from_secs(TTL.as_secs() + 2);

#[tokio::test(flavor = "multi_thread")]
async fn on_a_slow_line_every_agent_is_registered_and_none_is_lost() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let relay = Relay::to(etcd.access()).await;
    relay.becomes(Network::Slow(Duration::from_millis(80)));
    let node = Node::start("n", relay.access());
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    let mut watch = client.watch(AGENTS, Some(WatchOptions::new().with_prefix())).await.expect("a watch");
    // Longer than the lease lasts.
    tokio::time::sleep(AFTER).await;
    node.runs(&["a", "b", "c"]);
    becomes(&mut client, &["a", "b", "c"], PATIENCE).await;
    assert!(node.status().connected, "{:?}", node.status());
    while let Ok(Ok(Some(told))) = tokio::time::timeout(Duration::from_millis(200), watch.message()).await {
        let puts = told.events().iter().filter(|event| event.event_type() == EventType::Put).count();
        assert_eq!(puts, told.events().len(), "an agent was gone for a while");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_too_slow_to_be_used_is_named_as_such_and_used_again_when_it_is_not() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let relay = Relay::to(etcd.access()).await;
    let node = Node::start("n", relay.access());
    node.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    relay.becomes(Network::Slow(Duration::from_secs(2)));
    node.runs(&["a", "b"]);
    let why = node.says(|status| status.trouble.is_some()).await.trouble.expect("waited for it");
    assert!(why.contains("127.0.0.1:") && (why.contains("within") || why.contains("timed out")), "{why}");
    relay.becomes(Network::Carries);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    node.says(|status| status.connected && status.trouble.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_leaves_no_ghost_and_what_it_sent_before_brings_none_back() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let relay = Relay::to(etcd.access()).await;
    let node = Node::start("n", relay.access());
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    relay.becomes(Network::Cut);
    // On its way when the line was cut, and only then.
    node.runs(&["a", "b", "late"]);
    node.says(|status| !status.connected).await;
    node.runs(&["b", "c"]);
    becomes(&mut client, &[], PATIENCE).await;
    let mut watch = client.watch(AGENTS, Some(WatchOptions::new().with_prefix())).await.expect("a watch");
    let revision = client.get("any", None).await.expect("answered").header().expect("one").revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await.expect("compacted");
    relay.becomes(Network::Carries);
    becomes(&mut client, &["b", "c"], PATIENCE).await;
    while let Ok(Ok(Some(told))) = tokio::time::timeout(Duration::from_secs(1), watch.message()).await {
        for event in told.events() {
            let key = event.kv().expect("a key").key_str().expect("text");
            assert!(!key.ends_with("/late") && !key.ends_with("/a"), "{key} came back");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_daemons_of_one_node_the_one_that_was_cut_off_stays_out_when_its_line_is_back() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let relay = Relay::to(etcd.access()).await;
    let old = Node::start("n", relay.access());
    old.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    relay.becomes(Network::Cut);
    old.runs(&["a", "old"]);
    old.says(|status| !status.connected).await;
    let new = Node::start("n", etcd.access());
    new.runs(&["new"]);
    becomes(&mut client, &["new"], PATIENCE).await;
    relay.becomes(Network::Carries);
    old.says(|status| status.trouble.as_ref().is_some_and(|why| why.contains("started later"))).await;
    assert_eq!(ids(&mut client).await.into_iter().collect::<Vec<_>>(), ["new"]);
    tokio::time::sleep(AFTER).await;
    assert_eq!(everything(&mut client).await.len(), 2, "the node and its one agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_end_while_a_new_daemon_takes_them_over_are_put_back_with_few_requests() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let all: Vec<String> = (0..300).map(|at| format!("agent-{at}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let old = Node::start("n", etcd.access());
    old.runs(&all);
    old.says(|status| status.registered == all.len()).await;
    let held = client.get(node_key("n"), None).await.expect("answered");
    let lease = held.kvs().first().expect("the node").lease();
    old.crash();
    // So slow that between its listing and its first write there is time.
    let relay = Relay::to(etcd.access()).await;
    let mut watch = client.watch(node_key("n"), None).await.expect("a watch");
    relay.becomes(Network::Slow(Duration::from_millis(100)));
    let new = Node::unknowing(&mut settings("n", "n", relay.access()));
    new.runs(&all);
    // Claimed: its listing arrives 200 ms from now, its watch 400, its first write 600.
    watch.message().await.expect("a watch").expect("news");
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.lease_revoke(lease).await.expect("revoked");
    let status = new.says(|status| status.registered == all.len()).await;
    assert!(status.counts.requests < 40, "{status:?}");
    becomes(&mut client, &all, PATIENCE).await;
}
