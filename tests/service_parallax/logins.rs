//! A login that is demanded while a workflow still spawns its other roles: told too early, it ends the control plane.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::threads::{control_plane, input, is};
use super::world::Service;

const CLI: &str = include_str!("../service_logins/cli.py");
/// What the contract asks for, with room for the clocks of a busy machine.
const HELD_BACK: Duration = Duration::from_millis(4900);

/// What `codex` is on this node: a script that shows its page to log in.
fn codex_logs_in() {
    let policies = Service::shared().dir().join("etc/stockade/policies");
    std::fs::create_dir_all(&policies).expect("made");
    let text = format!(
        "extends = 'shell'\ndescription = 'a script'\n[terminal]\nreport-urls = true\n\
         [agent]\ncommand = ['python3', '-c', '''{CLI}''', 'codex']\n"
    );
    std::fs::write(policies.join("codex.toml"), text).expect("written");
}

fn logs_in(id: &str, execution: &str) -> Value {
    let mut thread = input(id, execution);
    thread["agentType"] = json!("codex");
    thread
}

#[tokio::test]
async fn a_login_is_told_of_a_thread_only_once_its_execution_spawns_no_more_and_with_all_that_is_needed() {
    codex_logs_in();
    let (client, mut bus) = control_plane().await;
    client.ask("POST", "/api/threads", logs_in("tl-first", "ex-login")).await.expect(201);
    // Whoever looks for it hears of it at once.
    let told = bus.until(|e| e["event"] == "login_required" && e["data"]["agent"]["id"] == "tl-first").await;
    let url = told["data"]["url"].as_str().expect("an address").to_owned();
    assert!(
        url.starts_with("https://auth.openai.com/") && told["data"]["loginUrl"] == url.as_str(),
        "{told}"
    );
    assert_eq!(client.get("/api/agents/tl-first").await.expect(200).json()["status"], "authenticating");
    let spawned = Instant::now();
    client.ask("POST", "/api/threads", input("tl-second", "ex-login")).await.expect(201);
    let asked = bus.until(|e| is(e, "tl-first", "thread_auth_required")).await;
    assert!(spawned.elapsed() >= HELD_BACK, "told {:?} after the last spawn", spawned.elapsed());
    let (thread, data) = (&asked["data"]["thread"], &asked["data"]["event"]["data"]);
    assert_eq!((&thread["status"], &data["url"]), (&"blocked".into(), &url.as_str().into()), "{asked}");
    assert!(data["instructions"].as_str().is_some_and(|text| text.contains("tl-first")), "{data}");
    let rest = bus.rest(Duration::from_secs(1)).await;
    assert!(!rest.iter().any(|e| is(e, "tl-first", "thread_auth_required")), "told twice: {rest:#?}");
    for thread in ["tl-first", "tl-second"] {
        client.delete(&format!("/api/threads/{thread}?force=true")).await.expect(204);
    }
    // Gone before it was due: nobody needs to log in any more.
    client.ask("POST", "/api/threads", logs_in("tl-third", "ex-gone")).await.expect(201);
    bus.until(|e| e["event"] == "login_required" && e["data"]["agent"]["id"] == "tl-third").await;
    client.delete("/api/threads/tl-third?force=true").await.expect(204);
    bus.until(|e| is(e, "tl-third", "thread_stopped")).await;
    let rest = bus.rest(HELD_BACK + Duration::from_secs(1)).await;
    assert!(!rest.iter().any(|e| is(e, "tl-third", "thread_auth_required")), "{rest:#?}");
}
