//! Writes: many in one request, each only if its key is as it was seen.

use std::collections::BTreeMap;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use super::{Result, Session};
use crate::daemon::registry::seen::Write;
use crate::registry::Entry;
use crate::registry::entry::agent_key;

/// Writes in one transaction: etcd takes 128 operations, and a megabyte and a half.
const TOGETHER: usize = 50;

/// What follows when a key is not as it was seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// No more is written.
    Ends,
    /// Everything else is.
    IsPassed,
}

impl Session<'_> {
    /// Makes this node's keys what they should be; false: something was in the way, and has been looked at anew.
    pub(super) async fn converge(&mut self) -> Result<bool> {
        let running = self.of.wires.running.borrow_and_update().clone().unwrap_or_default();
        let wanted = self.of.wanted.update(&running);
        let mut smooth = self.write(&wanted, Obstacle::Ends).await?;
        if !smooth {
            // Often everything is different at once, as when a lease has ended meanwhile: one look at all costs a request
            // for five hundred keys, one at each three for each.
            self.list().await?;
            smooth = self.write(&wanted, Obstacle::IsPassed).await?;
        }
        let mut conflicts = self.picture.conflicts(&wanted);
        let told = self.of.told.borrow().conflicts.clone();
        for conflict in conflicts.iter().filter(|conflict| !told.contains(conflict)) {
            tracing::warn!(conflict, "an agent cannot be registered");
        }
        // These have been logged where it happened.
        conflicts.extend_from_slice(self.of.wanted.doorless());
        let registered = self.picture.ours().count();
        self.of.told.send_modify(|status| status.settled(wanted.len(), registered, conflicts));
        Ok(smooth)
    }

    /// Whatever differs; false: not all of it applied.
    async fn write(&mut self, wanted: &BTreeMap<String, Entry>, obstacle: Obstacle) -> Result<bool> {
        // Deletions apart from the rest: an etcd that is full takes these still.
        let (deletions, puts): (Vec<_>, Vec<_>) = self
            .picture
            .differences(wanted)
            .into_iter()
            .partition(|write| matches!(write, Write::Delete { .. }));
        let mut smooth = true;
        for writes in deletions.chunks(TOGETHER).chain(puts.chunks(TOGETHER)) {
            if self.apply(writes).await? {
                continue;
            }
            smooth = false;
            if obstacle == Obstacle::Ends {
                break;
            }
            // One of them does not apply, again: find out which, and why, so that it does not hold up the others.
            for write in writes {
                if !self.apply(std::slice::from_ref(write)).await? {
                    self.look(write.id()).await?;
                }
            }
        }
        Ok(smooth)
    }

    /// All of these, or none.
    async fn apply(&mut self, writes: &[Write]) -> Result<bool> {
        let mut conditions = vec![self.holds()];
        let mut operations = Vec::new();
        for write in writes {
            let key = agent_key(write.id());
            let (Write::Put { revision, .. } | Write::Delete { revision, .. }) = write;
            conditions.push(Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision));
            operations.push(match write {
                Write::Put { entry, .. } => {
                    TxnOp::put(key, entry.value(), Some(PutOptions::new().with_lease(self.lease)))
                }
                Write::Delete { .. } => TxnOp::delete(key, None),
            });
        }
        let mut client = self.client.clone();
        let answer = self.ask(client.txn(Txn::new().when(conditions).and_then(operations))).await?;
        if !answer.succeeded() {
            return Ok(false);
        }
        let revision = answer.header().map_or(0, |header| header.revision());
        for write in writes {
            self.picture.applied(write, revision);
        }
        let puts = writes.iter().filter(|write| matches!(write, Write::Put { .. })).count() as u64;
        self.of.told.send_modify(|status| {
            status.counts.puts += puts;
            status.counts.deletes += writes.len() as u64 - puts;
        });
        Ok(true)
    }

    /// A write did not apply: because this daemon was replaced, or because the key is not what it was.
    async fn look(&mut self, id: &str) -> Result<()> {
        let mut client = self.client.clone();
        let held = self.ask(client.txn(Txn::new().when([self.holds()]))).await?;
        if !held.succeeded() {
            return Err(self.dispossessed());
        }
        let found = self.ask(client.get(agent_key(id), None)).await?;
        let own = self.of.wanted.mark().clone();
        self.picture.keys.remove(id);
        if let Some(kv) = found.kvs().first() {
            self.picture.found(id, kv.value(), kv.mod_revision(), kv.lease() == self.lease, &own);
        }
        Ok(())
    }
}
