//! The node: what it is, and taking it out of service.

use super::error::{ClientError, code};
use super::http::{Client, PATIENCE};
use super::output::{Output, plain};
use crate::api::node::Node;
use crate::cli::service::site as words;

/// Shows it, or drains it.
pub async fn node(client: &Client, output: Output, words: words::Node) -> Result<u8, ClientError> {
    if let Some(words::NodeCommand::Drain { stop }) = words.command {
        drain(client, stop).await?;
    }
    let node: Node = client.get("/v1/node").await?;
    output.result(&node, || {
        let draining = if node.draining { "\ndraining: it takes no new agents" } else { "" };
        let launcher = if node.launcher { "answers" } else { "does not answer" };
        format!(
            "{} stockaded {}, Linux {}, since {}\nagents: {}, of which {} active; the launcher {launcher}{draining}\n",
            plain(&node.name),
            plain(&node.version),
            plain(&node.kernel),
            plain(&node.since),
            node.agents,
            node.active,
        )
    })?;
    Ok(code::OK)
}

/// From now on no new agents; with `stop`, those that run are stopped.
pub async fn drain(client: &Client, stop: bool) -> Result<(), ClientError> {
    let body = serde_json::json!({ "stop": stop });
    client.send(http::Method::POST, "/v1/node/drain", &body, 4 * PATIENCE).await.map(drop)
}
