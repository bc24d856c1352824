//! Logins over the API: what is shown of them, and how they are completed. The CLI is a script that draws the pages of
//! the real ones; `make test-agents` does the same with those.

#[path = "../service_parallax/world.rs"]
mod world;

mod completing;
mod homes;
mod reporting;
mod showing;

use serde_json::{Value, json};
use world::{Client, Service};

const CLI: &str = include_str!("cli.py");

/// Somebody who may complete logins.
fn operator() -> Client {
    Service::shared().client("operator")
}

/// The script in the place of this kind's CLI, in this mode.
async fn start(client: &Client, id: &str, kind: &str, mode: &str) {
    let request = json!({
        "id": id, "type": kind, "workspaceId": id, "files": [{ "path": "cli.py", "content": CLI }],
        "command": ["python3", "cli.py", mode],
    });
    client.ask("POST", "/v1/agents", request).await.expect(201);
}

/// Its login, once it is as wanted.
async fn login(client: &Client, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let agent = client.until(&format!("/v1/agents/{id}"), |agent| wanted(&agent["login"])).await;
    agent["login"].clone()
}

/// Hands something over; the answer, whatever it is.
async fn complete(client: &Client, id: &str, answer: Value) -> world::Answer {
    client.ask("POST", &format!("/v1/agents/{id}/login"), answer).await
}

/// What the script was told so far.
async fn told(client: &Client, id: &str) -> Vec<String> {
    let request = json!({ "command": ["cat", "told"] });
    let read = client.ask("POST", &format!("/v1/agents/{id}/exec"), request).await.expect(200).json();
    read["stdout"].as_str().expect("text").lines().map(str::to_owned).collect()
}

/// Ends it and removes it.
async fn gone(client: &Client, id: &str) {
    client.delete(&format!("/v1/agents/{id}?force=true")).await.expect(204);
}
