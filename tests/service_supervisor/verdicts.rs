//! What walls decide is on record while the agent runs, and stays there whoever is killed.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};
use stockade::api::agent::Spawn;
use stockade::daemon::supervisor::Config;

use crate::common::node::Node;
use crate::world::{daemon, shell, soon};

/// The verdicts in the audit log, without their places in it.
fn verdicts(node: &std::path::Path) -> Vec<Value> {
    let files = fs::read_dir(node).expect("a log").map(|entry| entry.expect("listed").path());
    let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let text: String = segments.map(|path| fs::read_to_string(path).expect("read")).collect();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let records = whole.map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    records.map(|mut record| record["event"].take()).filter(|event| event["type"] == "verdict").collect()
}

#[test]
fn the_first_decision_of_each_kind_is_on_record_while_the_agent_runs_and_after_its_shim_was_killed() {
    let mut node = Node::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("known").port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let policy = format!(
        "extends = 'offline'\n[network]\nallow = ['host.test:{port}', '127.0.0.1/32:{port}']\n\
         [network.resolve]\n'host.test' = ['127.0.0.1']\n"
    );
    let policies = node.places().config().join("policies");
    fs::create_dir(&policies).expect("made");
    fs::write(policies.join("guest.toml"), policy).expect("written");
    let script = format!(
        "for n in 1 2; do getent hosts planted.example.org; done; exec 3<>/dev/tcp/host.test/{port}; exec 3>&-
         unshare -U true; read x"
    );
    let guest = Spawn {
        policy: Some("guest".into()),
        kind: "custom".into(),
        command: Some(["bash", "-c", &script].map(str::to_owned).into()),
        ..shell("a", "")
    };
    let log = node.places().audit();
    let expected = |found: &[Value]| {
        let has = |wall: &str, what: &str, verdict: &str| {
            let is = |e: &&Value| e["wall"] == wall && e["what"] == what && e["verdict"] == verdict;
            found.iter().filter(is).count()
        };
        [
            has("egress", "planted.example.org", "refused"),
            has("egress", "host.test", "allowed"),
            has("seccomp", "unshare", "refused"),
        ]
    };
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(guest).await;
        let told = async || Some(verdicts(&log)).filter(|found| expected(found) == [1, 1, 1]);
        let found = soon("they are told while it runs", told).await;
        let refused = found.iter().find(|e| e["what"] == "planted.example.org").expect("there");
        assert_eq!((&refused["agent"], &refused["rule"]), (&json!("a"), &json!("name")), "{refused}");
        let allowed = found.iter().find(|e| e["what"] == "host.test").expect("there");
        assert_eq!((&allowed["port"], &allowed["rule"]), (&json!(port), &json!(format!("host.test:{port}"))));
        world.kill_shim("a");
        world.ended("a").await;
    });
    assert_eq!(expected(&verdicts(&log)), [1, 1, 1], "each once");
}
