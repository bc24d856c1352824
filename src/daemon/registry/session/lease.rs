//! The lease: one for the node, renewed at about a third of its time.

use std::pin::Pin;
use std::task::{Context, Poll};

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::task::JoinHandle;

use super::{Result, Session, Trouble};
use crate::daemon::registry::etcd::jittered;
use crate::registry::access::detail;

/// Renews the lease beside everything else that a session does; ready when that has gone wrong.
pub(super) struct Keeper(JoinHandle<Trouble>);

impl Session<'_> {
    /// The lease of the session before, if it is still alive; else a new one. From here on it is kept.
    pub(super) async fn living_lease(&mut self) -> Result<Keeper> {
        let mut client = self.client.clone();
        if let Some(lease) = self.of.lease {
            match self.ask(async { Ok(client.lease_keep_alive(lease).await) }).await? {
                Ok(streams) => return Ok(self.keep(lease, streams)),
                Err(etcd_client::Error::LeaseKeepAliveError(_)) => self.of.lease = None,
                Err(error) => return Err(self.broken(&error)),
            }
        }
        let ttl = i64::try_from(self.of.etcd.ttl.as_secs()).expect("a time to live is hours at most");
        let lease = self.ask(client.lease_grant(ttl, None)).await?.id();
        self.of.lease = Some(lease);
        self.of.told.send_modify(|status| status.counts.leases += 1);
        let streams = self.ask(client.lease_keep_alive(lease)).await?;
        Ok(self.keep(lease, streams))
    }

    fn keep(&mut self, lease: i64, streams: (LeaseKeeper, LeaseKeepAliveStream)) -> Keeper {
        self.lease = lease;
        let (mut keeper, mut answers) = streams;
        let (endpoint, told) = (self.endpoint.clone(), self.of.told.clone());
        let (ttl, patience) = (self.of.etcd.ttl, self.of.etcd.patience());
        // A task of its own: what the session waits for must not hold it up.
        Keeper(tokio::spawn(async move {
            let fault = |what: String| Trouble::Fault(format!("{endpoint}: {what}"));
            loop {
                tokio::time::sleep(jittered(ttl / 3)).await;
                told.send_if_modified(|status| {
                    status.counts.requests += 1;
                    false
                });
                let renewed = async {
                    keeper.keep_alive().await?;
                    answers.message().await
                };
                match tokio::time::timeout(patience, renewed).await {
                    // An answer with no time left is how etcd says that there is no such lease.
                    Ok(Ok(Some(answer))) if answer.ttl() > 0 => {}
                    Ok(Ok(Some(_))) => return fault("the lease has ended".into()),
                    Ok(Ok(None)) => return fault("no longer renews the lease".into()),
                    Ok(Err(error)) => return fault(detail(&error)),
                    Err(_) => return fault(format!("the lease is not renewed within {patience:?}")),
                }
            }
        }))
    }

    /// The daemon ends. What still runs outlives it and is taken over by the next one, if that comes before the lease
    /// ends; if nothing runs, nothing is left behind.
    pub(super) async fn leave(&mut self) -> Trouble {
        let running = self.of.wires.running.borrow().clone().unwrap_or_default();
        if running.agents.values().all(|agent| agent.state.is_final()) {
            let mut client = self.client.clone();
            if let Err(Trouble::Fault(why)) = self.ask(client.lease_revoke(self.lease)).await {
                tracing::warn!(reason = %why, "this node's entries stay until their lease ends");
            }
        }
        Trouble::Ended
    }
}

impl Future for Keeper {
    type Output = Trouble;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Trouble> {
        let failed = |error| Trouble::Fault(format!("what renews the lease has failed: {error}"));
        Pin::new(&mut self.0).poll(context).map(|ended| ended.unwrap_or_else(failed))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}
