//! The clients that Parallax has of etcd, gRPC, HTTP and WebSockets, called as it calls them, against a whole service.
//!
//! They come from npm, so `cargo test` does not start this suite of its own accord: `make test-parallax` installs them and
//! names the installation in STOCKADE_PARALLAX.

#[path = "registry/certificates.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod certificates;
#[path = "parallax/clients.rs"]
mod clients;
#[path = "common/dev.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod dev;
#[path = "registry/etcd.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod etcd;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use clients::Clients;
use dev::Dev;
use etcd::Etcd;

const DOMAIN: &str = "agents.test";
const AGENTS: &str = "/parallax/services/agent/";
const WORKS: &str = "while read line; do echo \"you said $line\"; echo CONFIDENCE: 0.6; done";

/// A service whose server certificate is for its agents' names, too.
fn service(registry: &str) -> Dev {
    let mut dev = Dev::start();
    dev.end();
    let pki = dev.dir().join("pki");
    for file in ["server.crt", "server.key"] {
        std::fs::remove_file(pki.join(file)).expect("removed");
    }
    let names = ["127.0.0.1", "::1", "localhost", "*.agents.test"];
    let mut words = vec!["pki", "issue-server", "--dir", pki.to_str().expect("text")];
    words.extend(names.iter().flat_map(|name| ["--host", name]));
    dev.ok(&words);
    let directory = dev.dir().join("etc/stockade/stockaded.d");
    std::fs::create_dir_all(&directory).expect("made");
    std::fs::write(directory.join("registry.toml"), registry).expect("written");
    dev.start_again();
    dev
}

fn address(dev: &Dev) -> String {
    let settings = std::fs::read_to_string(dev.dir().join("client.toml")).expect("client.toml");
    let rest = settings.split("https://").nth(1).expect("a server");
    rest.split(['"', '/']).next().expect("an address").to_owned()
}

fn ids(entries: &Value) -> Vec<&str> {
    let mut ids: Vec<_> =
        entries.as_array().expect("a list").iter().filter_map(|e| e["id"].as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn etcd3_lists_gets_and_watches_every_entry_while_agents_come_and_go() {
    let etcd = Etcd::one().await;
    let host = etcd.endpoint(0);
    let dev = service(&format!("[registry]\nkind = \"etcd\"\nendpoints = [\"{host}\"]\n"));
    let mut node = Clients::start(&[]);
    node.ask(json!(["watch", host, AGENTS]));
    let names = ["plain", "\"}],{", "\u{2028}\u{202e}\u{1F980}", "__proto__", "${7*7}%s"];
    for (at, name) in names.into_iter().enumerate() {
        let id = format!("a{at}");
        dev.ok(&["spawn", "--type", "shell", "--id", &id, "--name", name, "--", "sh", "-c", WORKS]);
        node.event(|event| event["event"] == "put" && event["id"] == id.as_str());
        assert_eq!(node.ask(json!(["get", host, format!("{AGENTS}{id}")]))["name"], name);
    }
    let all = node.ask(json!(["list", host, "/parallax/services/"]));
    assert_eq!(all.as_array().expect("a list").len(), 6, "five agents and the node");
    for entry in node.ask(json!(["list", host, AGENTS])).as_array().expect("a list") {
        assert!(
            entry["metadata"]["capabilities"].is_array() && entry.get("registeredAt").is_none(),
            "{entry}"
        );
        assert!(entry["endpoint"].as_str().is_some_and(|endpoint| !endpoint.is_empty()), "{entry}");
    }
    dev.ok(&["stop", "a2", "--force"]);
    node.event(|event| event["event"] == "delete" && event["id"] == "a2");
    assert_eq!(node.ask(json!(["get", host, format!("{AGENTS}a2")])), Value::Null);
    // The control plane writes and deletes entries, too.
    let key = format!("{AGENTS}a3");
    node.ask(json!(["rewrite", host, key, 60]));
    node.until(json!(["get", host, key]), |entry| entry["health"]["status"] == "healthy");
    node.ask(json!(["delete", host, key]));
    node.until(json!(["get", host, key]), |entry| entry["id"] == "a3");
    for at in 0..6 {
        dev.shell(&format!("c{at}"), WORKS);
        if at % 2 == 1 {
            dev.ok(&["stop", &format!("c{}", at - 1), "--force"]);
        }
        node.ask(json!(["list", host, AGENTS]));
    }
    node.until(json!(["list", host, format!("{AGENTS}c")]), |all| ids(all) == ["c1", "c3", "c5"]);
}

#[tokio::test]
async fn grpc_js_calls_an_agent_at_its_endpoint_on_this_host_and_by_name_over_mtls() {
    let etcd = Etcd::one().await;
    let host = etcd.endpoint(0);
    for doors in ["unix", "127.0.0.1:47410-47499", "by name"] {
        let mut dev = service("");
        let by_name = doors == "by name";
        let doors = if by_name {
            format!("*.{DOMAIN}:{}", address(&dev).split(':').nth(1).expect("a port"))
        } else {
            doors.into()
        };
        dev.end();
        let registry =
            format!("[registry]\nkind = \"etcd\"\nendpoints = [\"{host}\"]\ndoors = \"{doors}\"\n");
        std::fs::write(dev.dir().join("etc/stockade/stockaded.d/registry.toml"), registry).expect("written");
        dev.start_again();
        dev.shell("a", WORKS);
        let mut node = Clients::start(&[]);
        let entry = node.until(json!(["get", host, format!("{AGENTS}a")]), |entry| entry.is_object());
        let mut endpoint = entry["endpoint"].as_str().expect("text").to_owned();
        if by_name {
            // The service was started on another port: what is called is the name.
            assert!(endpoint.starts_with("a.agents.test:"), "{endpoint}");
            endpoint = format!("a.{DOMAIN}:{}", address(&dev).split(':').nth(1).expect("a port"));
        }
        let pki = if by_name { json!(dev.dir().join("pki")) } else { Value::Null };
        assert_eq!(
            node.ask(json!(["call", endpoint, pki, "healthCheck", {}]))["status"],
            "HEALTHY",
            "{endpoint}"
        );
        assert_eq!(node.ask(json!(["call", endpoint, pki, "getCapabilities", {}]))["agent_id"], "a");
        // As the data plane sends it: `data` is no Struct, and arrives empty.
        for task in [
            json!({ "task_id": "t", "task_description": "hello", "data": { "fields": {} }, "context": { "k": "v" }, "timeout_ms": 30000 }),
            json!({ "task_description": "hello", "data": { "a": 1 }, "timeout_ms": 30000 }),
        ] {
            let result = node.ask(json!(["call", endpoint, pki, "analyze", task]));
            let value: Value =
                serde_json::from_str(result["value_json"].as_str().expect("text")).expect("JSON");
            assert!(value.as_str().is_some_and(|text| text.contains("you said hello")), "{result}");
            assert_eq!((&result["agent_id"], &result["confidence"]), (&"a".into(), &0.6.into()));
        }
        let results =
            node.ask(json!(["stream", endpoint, pki, { "task_description": "once", "timeout_ms": 30000 }]));
        assert!(
            results[0]["value_json"].as_str().is_some_and(|text| text.contains("you said once")),
            "{results}"
        );
        if by_name {
            let refused = node.refused(json!(["call", endpoint.replace("a.", "b."), pki, "healthCheck", {}]));
            assert!(refused.starts_with("5 "), "NOT_FOUND: {refused}");
        }
        dev.ok(&["stop", "a", "--force"]);
        node.refused(
            json!(["call", endpoint, pki, "analyze", { "task_description": "x", "timeout_ms": 1000 }]),
        );
    }
}

/// The file that docs/parallax.md shows, with this service's address and certificates.
fn preload(dev: &Dev) -> std::path::PathBuf {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/parallax.md"))
        .expect("read");
    let shown = page.split("```js").nth(1).and_then(|rest| rest.split("```").next()).expect("a file");
    let port = address(dev).split(':').nth(1).expect("a port").to_owned();
    let pki = dev.dir().join("pki").display().to_string();
    let text =
        shown.replace("'node1'", "'127.0.0.1'").replace("7443", &port).replace("/etc/parallax/pki", &pki);
    let path = dev.dir().join("preload.cjs");
    std::fs::write(&path, text).expect("written");
    path
}

#[tokio::test]
async fn fetch_and_ws_drive_a_thread_through_the_proxy_and_with_a_preloaded_certificate() {
    let dev = service("");
    let port = etcd::ports(1)[0];
    let pki = dev.dir().join("pki");
    let file = |name: &str| pki.join(name).display().to_string();
    let (cert, key, listen) = (file("parallax.crt"), file("parallax.key"), format!("127.0.0.1:{port}"));
    let mut proxy: Command = dev.command(&["--cert", &cert, "--key", &key, "proxy", "--listen", &listen]);
    let mut proxy = proxy.spawn().expect("started");
    let loaded = preload(&dev);
    let loaded = loaded.to_str().expect("text");
    for (way, base, options) in [
        ("proxy", format!("http://{listen}"), vec![]),
        ("preload", format!("https://{}", address(&dev)), vec!["--require", loaded]),
    ] {
        let mut node = Clients::start(&options);
        let health = node.until(json!(["http", "GET", format!("{base}/api/health"), null]), |answer| {
            answer["status"] == 200
        });
        assert_eq!(health["body"]["healthy"], true, "{way}");
        let socket = base.replace("http", "ws");
        node.ask(json!(["open", "bus", format!("{socket}/ws")]));
        let thread = format!("{way}-thread-0");
        let input = json!({ "id": thread, "executionId": way, "name": "lead", "agentType": "custom", "objective": "x",
            "preparation": { "contextFiles": [{ "path": "memory.md", "content": "remember the beans" }] } });
        let spawned = node.ask(json!(["http", "POST", format!("{base}/api/threads"), input]));
        assert_eq!((&spawned["status"], &spawned["body"]["id"]), (&201.into(), &thread.as_str().into()));
        node.thread_event(&thread, "thread_ready");
        let send = json!({ "message": "cat $PARALLAX_THREAD_MEMORY_FILE; echo; echo CONFIDENCE: 0.85" });
        assert_eq!(
            node.ask(json!(["http", "POST", format!("{base}/api/threads/{thread}/send"), send]))["status"],
            200
        );
        let turn = node.thread_event(&thread, "thread_turn_complete");
        assert!(turn["output"].as_str().is_some_and(|text| text.contains("remember the beans")), "{turn}");
        assert_eq!(turn["confidence"], 0.85);
        let agent = json!({ "message": "echo $((6 * 7))", "expectResponse": true, "timeout": 20000 });
        let sent = node.ask(json!(["http", "POST", format!("{base}/api/agents/{thread}/send"), agent]));
        assert_eq!(
            (&sent["body"]["sent"], &sent["body"]["response"]["content"]),
            (&true.into(), &"42".into())
        );
        let metrics = node.ask(json!(["http", "GET", format!("{base}/api/agents/{thread}/metrics"), null]));
        assert!(metrics["body"]["memory"].as_u64().is_some_and(|bytes| bytes > 0), "{metrics}");
        node.ask(json!(["open", "terminal", format!("{socket}/ws/agents/{thread}/terminal")]));
        node.event(|event| {
            event["name"] == "terminal"
                && event["text"].as_str().is_some_and(|text| text.contains("\"connected\""))
        });
        node.ask(json!(["send", "terminal", "{\"type\":\"resize\",\"cols\":101,\"rows\":31}"]));
        node.ask(json!(["send", "terminal", "stty size\r"]));
        let shown = node.event(|event| {
            event["name"] == "terminal" && event["text"].as_str().is_some_and(|text| text.contains("31 101"))
        });
        assert_eq!(shown["binary"], false);
        let gone =
            node.ask(json!(["http", "DELETE", format!("{base}/api/threads/{thread}?force=true"), null]));
        assert_eq!(gone["status"], 204);
        node.thread_event(&thread, "thread_stopped");
        assert_eq!(
            node.event(|event| event["event"] == "close" && event["name"] == "terminal")["code"],
            1000
        );
        let cleaned =
            node.ask(json!(["http", "DELETE", format!("{base}/api/executions/{way}/resources"), null]));
        assert_eq!(cleaned["status"], 204);
    }
    proxy.kill().expect("ours");
    proxy.wait().expect("ended");
}
