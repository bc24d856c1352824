//! Three nodes, three members with TLS, and everything that can happen to them, in an order that nobody chose.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use etcd_client::{CompactionOptions, DeleteOptions};
use stockade::registry::entry::{AGENTS, agent_key, node_key};

use crate::etcd::{Etcd, PATIENCE, everything, ids};
use crate::node::{Node, TTL};

/// As long as this, in seconds; a soak sets more.
const LASTS: &str = "STOCKADE_CHAOS_SECONDS";
const AGENTS_PER_NODE: u64 = 70;

struct Dice(u64);

impl Dice {
    /// xorshift: the seed is printed, so that a run can be had again.
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Some agents of this node come, others go.
fn shuffle(dice: &mut Dice, node: &Node, at: usize, runs: &mut BTreeMap<usize, BTreeSet<String>>) {
    let set = runs.entry(at).or_default();
    for _ in 0..dice.roll(30) {
        let id = format!("n{at}-{}", dice.roll(AGENTS_PER_NODE));
        if !set.remove(&id) {
            set.insert(id);
        }
    }
    node.runs(&set.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test]
async fn after_every_fault_what_is_registered_is_what_runs_and_nothing_else_has_changed() {
    let seed = std::env::var("STOCKADE_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 + 1);
    let seconds = std::env::var(LASTS).ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(20);
    println!("STOCKADE_CHAOS_SEED={seed}");
    let mut dice = Dice(seed);
    let mut etcd = Etcd::start(3, true).await;
    let mut client = etcd.client().await;
    client.put("/parallax/services/agent/theirs", "{}", None).await.expect("put");
    client.put("/parallax/services/pattern/p", "{}", None).await.expect("put");
    let foreign = everything(&mut client).await;
    let mut nodes: Vec<Node> = (0..3).map(|at| Node::start(&format!("n{at}"), etcd.access())).collect();
    let mut runs = BTreeMap::new();
    let (began, mut worst) = (Instant::now(), Duration::ZERO);
    let mut faults = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        for (at, node) in nodes.iter().enumerate() {
            shuffle(&mut dice, node, at, &mut runs);
        }
        let what = dice.roll(7);
        strike(what, &mut dice, &mut etcd, &mut nodes, &mut runs).await;
        etcd.serves().await;
        let took = settles(&etcd, &runs, &format!("fault {what}")).await;
        worst = worst.max(took);
        faults += 1;
    }
    let mut client = etcd.client().await;
    let now = everything(&mut client).await;
    for (key, value) in &foreign {
        assert_eq!(now.get(key), Some(value), "{key} was touched");
    }
    println!("{faults} faults; everything as it should be within {worst:?}");
}

async fn strike(
    what: u64,
    dice: &mut Dice,
    etcd: &mut Etcd,
    nodes: &mut Vec<Node>,
    runs: &mut BTreeMap<usize, BTreeSet<String>>,
) {
    let at = usize::try_from(dice.roll(3)).expect("small");
    match what {
        0 => {
            let leader = etcd.leader().await;
            etcd.kill(leader);
            shuffle(dice, &nodes[at], at, runs);
            tokio::time::sleep(Duration::from_millis(dice.roll(1500))).await;
            etcd.run(leader);
        }
        1 => {
            let leader = etcd.leader().await;
            etcd.freeze(leader);
            tokio::time::sleep(Duration::from_millis(dice.roll(4000))).await;
            etcd.thaw(leader);
        }
        2 => {
            (0..3).for_each(|at| etcd.kill(at));
            tokio::time::sleep(Duration::from_millis(dice.roll(4000))).await;
            (0..3).for_each(|at| etcd.run(at));
        }
        3 => {
            nodes.remove(at).crash();
            tokio::time::sleep(Duration::from_millis(dice.roll(5000))).await;
            nodes.insert(at, Node::start(&format!("n{at}"), etcd.access()));
            shuffle(dice, &nodes[at], at, runs);
        }
        4 => {
            let mut client = etcd.client().await;
            let found = client.get(node_key(&format!("n{at}")), None).await.expect("etcd answers");
            if let Some(kv) = found.kvs().first() {
                client.lease_revoke(kv.lease()).await.expect("revoked");
            }
        }
        5 => {
            let mut client = etcd.client().await;
            let key = agent_key(&format!("n{at}-"));
            client.delete(key, Some(DeleteOptions::new().with_prefix())).await.expect("deleted");
        }
        _ => {
            let mut client = etcd.client().await;
            let revision =
                client.get("any", None).await.expect("etcd answers").header().expect("one").revision();
            client.compact(revision, Some(CompactionOptions::new())).await.expect("compacted");
        }
    }
}

/// From when etcd serves again to when it is as it should be.
async fn settles(etcd: &Etcd, runs: &BTreeMap<usize, BTreeSet<String>>, after: &str) -> Duration {
    let mut expected: BTreeSet<String> = runs.values().flatten().cloned().collect();
    expected.insert("theirs".into());
    let within = TTL + Duration::from_secs(2);
    let began = Instant::now();
    loop {
        let mut client = etcd.client().await;
        let found = tokio::time::timeout(PATIENCE, ids(&mut client)).await.expect("etcd answers");
        if found == expected {
            return began.elapsed();
        }
        let (ghosts, missing): (Vec<_>, Vec<_>) =
            (found.difference(&expected).collect(), expected.difference(&found).collect());
        assert!(
            began.elapsed() < within,
            "{within:?} after {after}: ghosts {ghosts:?}, missing {missing:?} below {AGENTS}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
