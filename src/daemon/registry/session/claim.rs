//! The node's name: whoever has its key under its own lease writes this node's entries, and nobody else.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use super::{Result, Session, Trouble};
use crate::registry::entry::{self, Mark, node_key};

impl Session<'_> {
    /// Takes the node's name, from nobody, from itself, or from the daemon before.
    pub(super) async fn claim(&mut self) -> Result<()> {
        let key = node_key(&self.of.settings.node);
        let mut client = self.client.clone();
        let found = self.ask(client.get(key.as_str(), None)).await?;
        let held = found.kvs().first();
        let mark = held.map(|kv| entry::mark_of(&self.of.settings.node, kv.value()));
        let generation = match mark {
            None => self.next(0),
            Some(Some(mark)) if mark.node_id == self.of.settings.node_id => self.after(&mark)?,
            Some(other) => return Err(self.taken(other)),
        };
        self.of.wanted.becomes(generation);
        let is_held =
            held.is_some_and(|kv| kv.lease() == self.lease) && self.of.generation == Some(generation);
        if is_held {
            // By a session before this one. An etcd that is full takes no writes, but what is there need not go for that.
            return Ok(());
        }
        let revision = held.map_or(0, etcd_client::KeyValue::mod_revision);
        let value = self.of.wanted.node(self.of.wires.node.borrow().clone()).value();
        let txn = Txn::new()
            .when([Compare::mod_revision(key.as_str(), CompareOp::Equal, revision)])
            .and_then([TxnOp::put(key.as_str(), value, Some(PutOptions::new().with_lease(self.lease)))]);
        if !self.ask(client.txn(txn)).await?.succeeded() {
            return Err(Trouble::Fault(format!("{}: {key} was taken at this moment", self.endpoint)));
        }
        self.of.generation = Some(generation);
        self.of.told.send_modify(|status| status.counts.puts += 1);
        Ok(())
    }

    /// This daemon's generation: a time, so that it grows even if nothing of the last daemon is left; but never the same.
    fn next(&self, last: u64) -> u64 {
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        self.of.generation.unwrap_or_else(|| now.max(last + 1))
    }

    /// The name is this node's. A daemon that had it, and finds a later one, has been replaced.
    fn after(&self, mark: &Mark) -> Result<u64> {
        match self.of.generation {
            Some(own) if mark.generation > own => Err(Trouble::Superseded(format!(
                "another daemon of node {} was started later and registers its agents now: if that is on a copy of this \
                 node, remove var/lib/stockade/daemon/node-id there and give it a name of its own",
                mark.node
            ))),
            _ => Ok(self.next(mark.generation)),
        }
    }

    fn taken(&self, mark: Option<Mark>) -> Trouble {
        let name = &self.of.settings.node;
        let by =
            mark.map_or("something that is no node's entry".into(), |mark| format!("node {}", mark.node_id));
        Trouble::Fault(format!(
            "the name {name} is taken by {by} (this is {}): give this node another one, `name` in [node] of stockaded.toml",
            self.of.settings.node_id
        ))
    }

    /// Writes the node's own entry anew.
    pub(super) async fn write_node(&mut self) -> Result<()> {
        let key = node_key(&self.of.settings.node);
        let value = self.of.wanted.node(self.of.wires.node.borrow_and_update().clone()).value();
        let put = TxnOp::put(key.as_str(), value, Some(PutOptions::new().with_lease(self.lease)));
        let mut client = self.client.clone();
        if !self.ask(client.txn(Txn::new().when([self.holds()]).and_then([put]))).await?.succeeded() {
            return Err(self.dispossessed());
        }
        self.of.told.send_modify(|status| status.counts.puts += 1);
        Ok(())
    }

    /// The condition of every write: the node's name is still held under this daemon's lease. A daemon that was replaced
    /// while it was stopped, or waited for etcd, fails here.
    pub(super) fn holds(&self) -> Compare {
        Compare::lease(node_key(&self.of.settings.node), CompareOp::Equal, self.lease)
    }

    pub(super) fn dispossessed(&self) -> Trouble {
        Trouble::Fault(format!(
            "{}: this daemon no longer holds the name {}",
            self.endpoint, self.of.settings.node
        ))
    }
}
