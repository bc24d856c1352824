//! The node: what it is, and taking it out of service.

use std::time::{Duration, Instant};

use super::agents;
use super::error::{ClientError, code};
use super::http::{Client, PATIENCE, agent_path};
use super::output::{Output, plain};
use crate::api::agent::{Agent, Stop};
use crate::api::node::Node;
use crate::cli::service::agent::Ls;
use crate::cli::service::site as words;

/// The service's own grace period, if none is given.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Shows it, or drains it.
pub async fn node(client: &Client, output: Output, words: words::Node) -> Result<u8, ClientError> {
    match words.command {
        Some(words::NodeCommand::Drain { stop }) => drain(client, stop).await?,
        Some(words::NodeCommand::StopAll { force, grace }) => {
            return stop_all(client, output, force, grace).await;
        }
        Some(words::NodeCommand::Ls(_)) | None => {}
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

/// Tells every agent to end, and waits until each has.
async fn stop_all(
    client: &Client,
    output: Output,
    force: bool,
    grace: Option<Duration>,
) -> Result<u8, ClientError> {
    let running = |agents: Vec<Agent>| agents.into_iter().filter(|agent| !agent.state.is_final()).collect();
    let told: Vec<Agent> = running(agents::all(client, Ls::default()).await?);
    let stop = Stop { force, grace_ms: grace.map(|grace| grace.as_millis() as u64), wait: false };
    for agent in &told {
        let stopped = client.post::<Agent>(&agent_path(&agent.id, "/stop")?, &stop, PATIENCE).await;
        // It may have ended, and been removed, meanwhile.
        stopped
            .map(drop)
            .or_else(|error| if error.exit_code() == code::NOT_FOUND { Ok(()) } else { Err(error) })?;
    }
    let (begun, patience) = (Instant::now(), grace.unwrap_or(GRACE) + PATIENCE);
    loop {
        let left: Vec<Agent> = running(agents::all(client, Ls::default()).await?);
        let left = left.iter().filter(|agent| told.iter().any(|one| one.id == agent.id)).count();
        if left == 0 {
            let ids: Vec<_> = told.iter().map(|agent| &agent.id).collect();
            output.result(&serde_json::json!({ "stopped": ids }), || {
                format!("{} agents ended\n", told.len())
            })?;
            return Ok(code::OK);
        }
        if begun.elapsed() > patience {
            return Err(ClientError::Timeout {
                what: format!("{left} agents have not ended"),
                after: patience,
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// From now on no new agents; with `stop`, those that run are stopped.
pub async fn drain(client: &Client, stop: bool) -> Result<(), ClientError> {
    let body = serde_json::json!({ "stop": stop });
    client.send(http::Method::POST, "/v1/node/drain", &body, 4 * PATIENCE).await.map(drop)
}
