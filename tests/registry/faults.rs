//! Whatever becomes of etcd: afterwards what is registered is what runs.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions, GetOptions};
use stockade::registry::entry::node_key;

use crate::etcd::{Etcd, PATIENCE, becomes, entry, everything};
use crate::node::{Node, TTL};

#[tokio::test]
async fn agents_of_a_daemon_that_was_killed_are_gone_with_its_lease() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    node.crash();
    becomes(&mut client, &[], PATIENCE).await;
    assert_eq!(everything(&mut client).await.len(), 0, "nor is the node there");
}

#[tokio::test]
async fn a_lease_that_was_revoked_by_hand_is_granted_anew_and_everything_put_back() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    for _ in 0..2 {
        let found = client.get(node_key("n"), None).await.expect("etcd answers");
        let lease = found.kvs().first().expect("the node").lease();
        client.lease_revoke(lease).await.expect("revoked");
        becomes(&mut client, &["a", "b"], PATIENCE).await;
    }
    assert_eq!(node.status().counts.leases, 3);
}

#[tokio::test]
async fn an_etcd_that_comes_late_goes_away_and_comes_back_empty_handed_ends_with_what_runs_then() {
    let mut etcd = Etcd::one().await;
    etcd.kill(0);
    let node = Node::start("n", etcd.access());
    node.runs(&["a", "b"]);
    let status = node.says(|status| status.trouble.is_some()).await;
    assert!(!status.connected && status.trouble.is_some_and(|why| why.contains("127.0.0.1")));
    etcd.run(0);
    let mut client = etcd.client().await;
    becomes(&mut client, &["a", "b"], PATIENCE).await;

    etcd.kill(0);
    node.says(|status| !status.connected).await;
    node.runs(&["b", "c"]);
    // Long enough that the lease is over by any clock.
    tokio::time::sleep(TTL + Duration::from_secs(1)).await;
    etcd.run(0);
    let mut client = etcd.client().await;
    becomes(&mut client, &["b", "c"], PATIENCE).await;
    node.says(|status| status.connected && status.registered == 2).await;
}

#[tokio::test]
async fn an_etcd_that_has_lost_everything_is_filled_anew_whatever_revision_it_is_at() {
    let mut etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    for ids in [&["a"][..], &["a", "b"], &["b"], &["b", "c"]] {
        node.runs(ids);
        becomes(&mut client, ids, PATIENCE).await;
    }
    etcd.kill(0);
    node.says(|status| !status.connected).await;
    etcd.wipe(0);
    etcd.run(0);
    let mut client = etcd.client().await;
    becomes(&mut client, &["b", "c"], PATIENCE).await;
    client.delete("/parallax/services/agent/b", None).await.expect("deleted");
    becomes(&mut client, &["b", "c"], PATIENCE).await;
    node.runs(&["c"]);
    becomes(&mut client, &["c"], PATIENCE).await;
    assert!(entry(&mut client, "c").await.is_some_and(|entry| entry.metadata.stockade.node == "n"));
}

#[tokio::test]
async fn an_etcd_that_answers_nobody_holds_nothing_up_and_is_caught_up_with_afterwards() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    etcd.freeze(0);
    // Each of these is told at once, whatever etcd does (`tells` asserts it).
    node.runs(&["a", "b"]);
    node.says(|status| !status.connected).await;
    node.runs(&["c"]);
    etcd.thaw(0);
    let mut client = etcd.client().await;
    becomes(&mut client, &["c"], PATIENCE).await;
}

#[tokio::test]
async fn a_compaction_while_the_node_was_away_is_no_obstacle() {
    let mut etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
    etcd.kill(0);
    node.says(|status| !status.connected).await;
    etcd.run(0);
    let mut client = etcd.client().await;
    let put = client.put("/unrelated", "x", None).await.expect("put");
    let revision = put.header().expect("a header").revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await.expect("compacted");
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    client.delete("/parallax/services/agent/a", None).await.expect("deleted");
    becomes(&mut client, &["a", "b"], PATIENCE).await;
}

#[tokio::test]
async fn three_members_lose_their_leader_and_no_agent() {
    let mut etcd = Etcd::start(3, true).await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    for frozen in [false, true] {
        let leader = etcd.leader().await;
        if frozen {
            etcd.freeze(leader)
        } else {
            etcd.kill(leader)
        }
        let id = if frozen { "d" } else { "c" };
        node.runs(&["a", id]);
        let mut client = survivor(&etcd, leader).await;
        becomes(&mut client, &["a", id], PATIENCE).await;
        if frozen {
            etcd.thaw(leader)
        } else {
            etcd.run(leader)
        }
        etcd.serves().await;
    }
    node.says(|status| status.connected).await;
}

/// A client to a member that is still there.
async fn survivor(etcd: &Etcd, gone: usize) -> etcd_client::Client {
    let access = etcd.access();
    let began = std::time::Instant::now();
    for turn in (0..3).cycle().filter(|at| *at != gone) {
        assert!(began.elapsed() < PATIENCE, "the members that are left do not serve");
        let Ok(mut client) = access.connect(turn, Duration::from_secs(1)).await else { continue };
        let asked =
            tokio::time::timeout(Duration::from_secs(1), client.get("any", Some(GetOptions::new()))).await;
        if matches!(asked, Ok(Ok(_))) {
            return client;
        }
    }
    unreachable!("a cycle has no end")
}

#[tokio::test]
async fn an_etcd_that_is_full_keeps_what_is_there_and_lets_go_of_what_has_ended() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a", "b"]);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    let status = client.status().await.expect("status");
    let member = status.header().expect("a header").member_id();
    let mut alarm = AlarmOptions::new();
    alarm.with_member(member);
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(alarm.clone())).await.expect("on");
    node.runs(&["b", "c"]);
    becomes(&mut client, &["b"], PATIENCE).await;
    node.says(|status| status.trouble.as_ref().is_some_and(|why| why.contains("space"))).await;
    tokio::time::sleep(TTL + Duration::from_secs(1)).await;
    assert!(entry(&mut client, "b").await.is_some(), "its lease was not kept");
    client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(alarm)).await.expect("off");
    becomes(&mut client, &["b", "c"], PATIENCE).await;
}
