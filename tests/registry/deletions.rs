//! Keys that somebody else deletes, changes or has.

use etcd_client::DeleteOptions;
use stockade::daemon::registry::{Kind, OnDelete};
use stockade::registry::entry::{AGENTS, agent_key};

use crate::etcd::{Etcd, PATIENCE, becomes, everything};
use crate::node::{Node, settings};

fn stopping(etcd: &Etcd) -> Node {
    let mut settings = settings("n", "n", etcd.access());
    if let Kind::Etcd(etcd) = &mut settings.kind {
        etcd.on_delete = OnDelete::Stop;
    }
    Node::with(settings)
}

#[tokio::test]
async fn a_key_that_somebody_deletes_is_put_back() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let mut node = Node::start("n", etcd.access());
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    client.delete(agent_key("a"), None).await.expect("deleted");
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    assert!(node.wishes.try_recv().is_err(), "nobody wished for anything");
}

#[tokio::test]
async fn where_that_is_agreed_a_deleted_key_is_a_wish_to_stop_its_agent_and_stays_away() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let mut node = stopping(&etcd);
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    client.delete(agent_key("a"), None).await.expect("deleted");
    let wish = tokio::time::timeout(PATIENCE, node.wishes.recv()).await.expect("in time");
    assert_eq!(wish.as_deref(), Some("a"));
    node.runs(&["a", "b", "c"]);
    becomes(&mut client, &["b", "c"], PATIENCE).await;
    // It has ended, and another of its name is started: that one nobody has deleted.
    node.runs(&["b"]);
    becomes(&mut client, &["b"], PATIENCE).await;
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
}

#[tokio::test]
async fn neither_a_lost_lease_nor_a_sweep_over_all_keys_is_a_wish_to_stop() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let mut node = stopping(&etcd);
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    client.delete(AGENTS, Some(DeleteOptions::new().with_prefix())).await.expect("deleted");
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    let lease = client.get(agent_key("a"), None).await.expect("etcd answers").kvs()[0].lease();
    client.lease_revoke(lease).await.expect("revoked");
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    assert!(node.wishes.try_recv().is_err(), "nobody wished for anything");
}

#[tokio::test]
async fn a_key_that_somebody_writes_over_is_theirs_from_then_on_and_ours_again_when_it_is_free() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    client.put(agent_key("a"), "mine", None).await.expect("put");
    let status = node.says(|status| !status.conflicts.is_empty()).await;
    assert!(status.conflicts[0].starts_with("a: ") && status.registered == 1, "{status:?}");
    node.runs(&["b"]);
    node.says(|status| status.conflicts.is_empty()).await;
    assert_eq!(everything(&mut client).await[&agent_key("a")].0, b"mine");
    node.runs(&["a", "b"]);
    node.says(|status| !status.conflicts.is_empty()).await;
    client.delete(agent_key("a"), None).await.expect("deleted");
    node.says(|status| status.conflicts.is_empty() && status.registered == 2).await;
}

#[tokio::test]
async fn a_copy_of_an_entry_under_another_key_belongs_to_whoever_made_it() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    let (value, _) = everything(&mut client).await[&agent_key("a")].clone();
    client.put(agent_key("copy"), value, None).await.expect("put");
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b", "copy"], PATIENCE).await;
    node.runs(&["a", "copy"]);
    let status = node.says(|status| !status.conflicts.is_empty()).await;
    assert!(status.conflicts[0].starts_with("copy: "), "{status:?}");
    becomes(&mut client, &["a", "copy"], PATIENCE).await;
}

#[tokio::test]
async fn a_value_of_ours_that_is_written_again_without_our_lease_is_put_under_it_again() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    let (value, _) = everything(&mut client).await[&agent_key("a")].clone();
    let puts = node.says(|status| status.registered == 1).await.counts.puts;
    client.put(agent_key("a"), value, None).await.expect("put");
    node.says(|status| status.counts.meddled == 1 && status.counts.puts > puts).await;
    node.crash();
    becomes(&mut client, &[], PATIENCE).await;
}

#[tokio::test]
async fn keys_that_this_node_did_not_write_are_as_they_were_whatever_happens() {
    let mut etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let foreign = [
        ("/parallax/services/agent/theirs", "{\"id\":\"theirs\"}"),
        ("/parallax/services/agent/broken", "{"),
        ("/parallax/services/agent/a/b", "deeper"),
        ("/parallax/services/agenta", "beside"),
        ("/parallax/services/pattern/p", "{}"),
        ("/parallax/services/monitor/other", "{}"),
        ("/else", "where"),
    ];
    for (key, value) in foreign {
        client.put(key, value, None).await.expect("put");
    }
    let before = everything(&mut client).await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a", "theirs", "broken"]);
    node.says(|status| status.registered == 1 && status.conflicts.len() == 2).await;
    etcd.kill(0);
    node.says(|status| !status.connected).await;
    etcd.run(0);
    node.says(|status| status.connected).await;
    node.runs(&[]);
    node.says(|status| status.registered == 0).await;
    node.end().await;
    let mut client = etcd.client().await;
    assert_eq!(everything(&mut client).await, before, "bytes and revisions");
}
