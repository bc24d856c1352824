//! What a node costs etcd.

use std::time::{Duration, Instant};

use crate::etcd::{Etcd, PATIENCE};
use crate::node::Node;

#[tokio::test]
async fn a_thousand_agents_at_rest_cost_etcd_less_than_ten_requests_per_second() {
    let etcd = Etcd::one().await;
    let node = Node::start("n", etcd.access());
    let ids: Vec<String> = (0..1000).map(|at| format!("agent-{at:04}")).collect();
    let began = Instant::now();
    node.runs(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    node.says(|status| status.registered == 1000).await;
    println!("1000 agents registered within {:?}", began.elapsed());
    let (before, began) = (messages(&etcd), Instant::now());
    let counted = node.status().counts.requests;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let rate = (messages(&etcd) - before) / began.elapsed().as_secs_f64();
    let ours = node.status().counts.requests - counted;
    println!(
        "at rest etcd gets {rate:.2} messages per second at a time to live of 3 s; the node counts {ours} in all"
    );
    assert!(rate < 10.0, "{rate} per second");
    assert!(ours > 0, "the lease is renewed");

    let began = Instant::now();
    node.runs(&[]);
    tokio::time::timeout(PATIENCE, node.says(|status| status.registered == 0)).await.expect("in time");
    println!("1000 agents withdrawn within {:?}", began.elapsed());
}

/// What etcd says that it has got, of every call and every stream.
fn messages(etcd: &Etcd) -> f64 {
    let output = std::process::Command::new("curl")
        .args(["--silent", "--fail", "--noproxy", "*", &format!("{}/metrics", etcd.endpoint(0))])
        .output()
        .expect("curl");
    let text = String::from_utf8(output.stdout).expect("text");
    let counts = text.lines().filter(|line| line.starts_with("grpc_server_msg_received_total{"));
    let sum = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!(sum > 0.0, "no such metric:\n{text}");
    sum
}
