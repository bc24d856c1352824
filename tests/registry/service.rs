//! A whole service and its registry: what it shows to whom, and that its restart is not seen.

use std::time::Duration;

use etcd_client::{EventType, WatchOptions};
use stockade::registry::entry::AGENTS;

use crate::dev::Dev;
use crate::etcd::{Etcd, PATIENCE, becomes, entry, everything};

const WORKS: &str = "while read line; do echo \"you said $line\"; done";

/// A service with this `[registry]`, and a second tenant, `other`, with an operator of the same name.
fn service(registry: &str) -> Dev {
    let mut dev = Dev::start();
    dev.end();
    let pki = dev.dir().join("pki");
    let pki = pki.to_str().expect("text");
    dev.ok(&["pki", "issue", "--dir", pki, "--name", "other", "--uri", "spiffe://stockade.dev/other"]);
    let directory = dev.dir().join("etc/stockade/stockaded.d");
    std::fs::create_dir_all(&directory).expect("made");
    let grant =
        "[[grant]]\nidentity = \"spiffe://stockade.dev/other\"\nrole = \"operator\"\ntenant = \"other\"\n";
    std::fs::write(directory.join("test.toml"), format!("{grant}{registry}")).expect("written");
    dev.start_again();
    dev
}

/// `stockade WORDS` as this client.
fn as_client(dev: &Dev, who: &str, words: &[&str]) -> std::process::Output {
    let file = |end: &str| dev.dir().join(format!("pki/{who}.{end}")).display().to_string();
    let mut all = vec!["--cert".to_owned(), file("crt"), "--key".to_owned(), file("key")];
    all.extend(words.iter().map(|word| (*word).to_owned()));
    dev.run(&all.iter().map(String::as_str).collect::<Vec<_>>())
}

fn says(dev: &Dev, who: &str, words: &[&str]) -> String {
    let output = as_client(dev, who, words);
    assert!(output.status.success(), "{who} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What `registry check` says to this client, once it ends with this code and says that.
fn checked(dev: &Dev, who: &str, code: i32, words: &str) -> String {
    let began = std::time::Instant::now();
    loop {
        let output = as_client(dev, who, &["registry", "check"]);
        let told = String::from_utf8(output.stdout).expect("text");
        if output.status.code() == Some(code) && told.contains(words) {
            return told;
        }
        assert!(began.elapsed() < PATIENCE, "{who} is told {:?} {told}", output.status.code());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The ids that this client is shown, once there are so many.
fn shown(dev: &Dev, who: &str, count: usize) -> Vec<String> {
    let began = std::time::Instant::now();
    loop {
        let rows: serde_json::Value =
            serde_json::from_str(&says(dev, who, &["--json", "registry", "ls"])).expect("JSON");
        let rows = rows.as_array().expect("a list").clone();
        let ids = rows.iter().filter_map(|row| row["key"].as_str()?.strip_prefix(AGENTS).map(str::to_owned));
        let ids: Vec<String> = ids.collect();
        if ids.len() == count {
            assert!(rows.iter().all(|row| row["faults"] == serde_json::json!([])), "{rows:?}");
            return ids;
        }
        assert!(began.elapsed() < PATIENCE, "{who} is shown {ids:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_it_is_kept_the_registry_is_shown_the_same_way_and_to_each_tenant_its_own() {
    let etcd = Etcd::one().await;
    let elsewhere = format!("[registry]\nkind = \"etcd\"\nendpoints = [\"{}\"]\n", etcd.endpoint(0));
    for (kind, registry) in [("embedded", ""), ("etcd", elsewhere.as_str())] {
        let dev = service(registry);
        dev.shell("a", WORKS);
        says(&dev, "other", &["spawn", "--type", "shell", "--id", "b", "--", "sh", "-c", WORKS]);
        assert_eq!(shown(&dev, "admin", 2), ["a", "b"], "{kind}");
        assert_eq!((shown(&dev, "viewer", 1), shown(&dev, "other", 1)), (vec!["a".into()], vec!["b".into()]));
        assert!(says(&dev, "viewer", &["registry", "check"]).starts_with("2 entries, 0 of them with faults"));
        let nodes = says(&dev, "viewer", &["--json", "node", "ls"]);
        let nodes: serde_json::Value = serde_json::from_str(&nodes).expect("JSON");
        let node = &nodes[0]["value"]["metadata"]["node"];
        assert_eq!((&node["used"]["agents"], &node["launcher"]), (&2.into(), &true.into()), "{node}");
        // What two agents of the policy may use, though nobody set a quota.
        assert!(node["used"]["memory"].as_u64().is_some_and(|bytes| bytes > 0), "{node}");
        assert!(node["used"]["cpus"].as_f64().is_some_and(|cpus| cpus > 0.0), "{node}");
        assert_eq!(node["capacity"]["agents"], 0, "nobody set a bound");
        let refused = as_client(&dev, "auditor", &["registry", "ls"]);
        assert_eq!(refused.status.code(), Some(4), "an auditor sees the audit and nothing else");
        let bounds = "[tenant.dev]\nmax-agents = 3\n[tenant.other]\nmax-agents = 2\n";
        std::fs::write(dev.dir().join("etc/stockade/stockaded.d/bounds.toml"), bounds).expect("written");
        dev.ok(&["stop", "a", "--force"]);
        assert_eq!(shown(&dev, "admin", 1), ["b"], "{kind}");
        dev.until(&["--json", "node", "ls"], |nodes| {
            // Looked at when something happens.
            dev.shell("c", WORKS);
            dev.ok(&["stop", "c", "--force"]);
            dev.ok(&["rm", "c"]);
            let nodes: serde_json::Value = serde_json::from_str(nodes).expect("JSON");
            nodes[0]["value"]["metadata"]["node"]["capacity"]["agents"] == 5
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_its_tenant_calls_an_agent_its_entry_is_read_by_everybody_and_holds_none_of_its_secrets() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let dev = service(&format!("[registry]\nkind = \"etcd\"\nendpoints = [\"{}\"]\n", etcd.endpoint(0)));
    let longest = "\u{1F980}".repeat(256);
    let names = ["\"}],{", "\u{2028}\u{202e}", "__proto__", "${7*7}%s", "</script>", "' ; --", &longest];
    for (at, name) in names.into_iter().enumerate() {
        let id = format!("agent-{at}");
        let mut words = vec!["spawn", "--type", "shell", "--id", &id, "--name", name];
        words.extend([
            "--label",
            "customer=s3cret",
            "--env",
            "TOKEN=s3cret",
            "--env",
            "PARALLAX_ETCD_ENDPOINTS=s3cret",
        ]);
        words.extend(["--", "sh", "-c", WORKS]);
        dev.ok(&words);
    }
    let ids: Vec<String> = (0..names.len()).map(|at| format!("agent-{at}")).collect();
    becomes(&mut client, &ids.iter().map(String::as_str).collect::<Vec<_>>(), PATIENCE).await;
    for (key, (value, _)) in everything(&mut client).await {
        let text = String::from_utf8(value).expect("text");
        assert!(!text.contains("s3cret") && !text.contains(WORKS) && text.len() < 4096, "{key}: {text}");
    }
    let told = dev.ok(&["registry", "check", "--etcd", &etcd.endpoint(0)]);
    assert_eq!(told, "8 entries, 0 of them with faults\n");
    for (at, name) in names.into_iter().enumerate() {
        let entry = entry(&mut client, &format!("agent-{at}")).await.expect("there");
        assert_eq!(entry.name, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_another_tenant_has_elsewhere_under_the_same_id_is_named_as_not_registered() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    client.put(format!("{AGENTS}a"), "{}", None).await.expect("put");
    let dev = service(&format!("[registry]\nkind = \"etcd\"\nendpoints = [\"{}\"]\n", etcd.endpoint(0)));
    dev.shell("a", WORKS);
    checked(&dev, "viewer", 1, "a: its key belongs to somebody who does not say who");
    // Another tenant hears nothing of it.
    assert_eq!(says(&dev, "other", &["registry", "check"]), "1 entries, 0 of them with faults\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_etcd_is_away_whoever_looks_is_told_so_and_which_agents_wait() {
    let mut etcd = Etcd::one().await;
    etcd.kill(0);
    let dev = service(&format!("[registry]\nkind = \"etcd\"\nendpoints = [\"{}\"]\n", etcd.endpoint(0)));
    dev.shell("a", WORKS);
    let told = checked(&dev, "viewer", 1, "a: waits to be registered");
    assert!(told.contains(&etcd.endpoint(0)), "{told}");
    etcd.run(0);
    becomes(&mut etcd.client().await, &["a"], PATIENCE).await;
    checked(&dev, "viewer", 0, "2 entries, 0 of them with faults");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_agent_is_missed_while_a_service_that_was_killed_is_started_again() {
    let etcd = Etcd::one().await;
    let mut client = etcd.client().await;
    let mut dev = service(&format!("[registry]\nkind = \"etcd\"\nendpoints = [\"{}\"]\n", etcd.endpoint(0)));
    dev.shell("a", WORKS);
    dev.shell("b", WORKS);
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    let mut watch = client.watch(AGENTS, Some(WatchOptions::new().with_prefix())).await.expect("a watch");
    dev.kill_itself();
    dev.start_again();
    // The new daemon has written both anew.
    let (mut written, mut gone) = (std::collections::BTreeSet::new(), Vec::new());
    while written.len() < 2 {
        let told = tokio::time::timeout(PATIENCE, watch.message()).await.expect("in time");
        for event in told.expect("a watch").expect("more of it").events() {
            let key = event.kv().expect("a key").key_str().expect("text").to_owned();
            match event.event_type() {
                EventType::Put => drop(written.insert(key)),
                EventType::Delete => gone.push(key),
            }
        }
    }
    assert_eq!(gone, Vec::<String>::new());
    becomes(&mut client, &["a", "b"], PATIENCE).await;
    dev.ok(&["stop", "a", "--force"]);
    becomes(&mut client, &["b"], PATIENCE).await;
}
