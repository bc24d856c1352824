//! The log's latest signature, kept where this node's root cannot take it back: in etcd, without a lease, so that it is
//! there when the node is not.

use std::time::Duration;

use super::Audit;
use crate::registry::Access;
use crate::registry::access::{AccessError, within};

/// How often it is kept.
pub const OFTEN: Duration = Duration::from_secs(60);

/// For one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where it lies: one key a node and log.
pub fn key(node: &str, log: &str) -> String {
    format!("/stockade/audit/{node}/{log}")
}

/// Keeps it there for ever. A copy is never replaced by an older one: only one service writes a log.
pub async fn keep(audit: Audit, access: Access, node: String, often: Duration) {
    let (mut kept, mut failures, mut turn) = (0, 0_u64, 0);
    loop {
        match once(&audit, &access, &node, turn, kept).await {
            Ok(seq) => {
                if failures > 0 {
                    tracing::info!("etcd keeps the audit log's signatures again");
                }
                (kept, failures) = (seq, 0);
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "etcd does not keep the audit log's signature; it is tried again");
                }
                failures += 1;
                turn += 1;
            }
        }
        tokio::time::sleep(often).await;
    }
}

async fn once(
    audit: &Audit,
    access: &Access,
    node: &str,
    turn: usize,
    kept: u64,
) -> Result<u64, AccessError> {
    let reader = audit.clone();
    let head = tokio::task::spawn_blocking(move || reader.head()).await.ok().and_then(Result::ok).flatten();
    let Some(seal) = head.filter(|seal| seal.seq > kept) else { return Ok(kept) };
    let value = serde_json::to_vec(&seal).expect("a seal is always JSON");
    let mut client = access.connect(turn, PATIENCE).await?;
    let endpoint = access.endpoints[turn % access.endpoints.len()].clone();
    within(&endpoint, PATIENCE, client.put(key(node, &seal.log), value, None)).await?;
    Ok(seal.seq)
}
