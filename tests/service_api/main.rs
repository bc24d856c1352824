//! The native and the minimal face, over mTLS, as `docs/api.md` describes them.

mod events;
mod lifecycle;
mod minimal;
mod refusals;
mod terminal;
mod text;
mod usage;
#[path = "../service_parallax/world.rs"]
mod world;

use serde_json::{Value, json};

use world::{Client, Service};

/// Somebody who may start agents.
fn operator() -> Client {
    Service::shared().client("operator")
}

/// A shell of this id, once it waits for a command.
async fn shell(client: &Client, id: &str) -> Value {
    client.ask("POST", "/v1/agents", json!({ "id": id, "type": "shell" })).await.expect(201);
    client.until(&format!("/v1/agents/{id}"), |agent| agent["state"] == "ready").await
}

/// Ends it and removes it.
async fn gone(client: &Client, id: &str) {
    client.delete(&format!("/v1/agents/{id}?force=true")).await.expect(204);
}
