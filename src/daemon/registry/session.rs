//! One session with etcd: lease, claim, list, watch, and then whatever differs.

mod claim;
mod lease;
mod writes;

use std::time::Duration;

use etcd_client::{Client, EventType, GetOptions, WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, sleep_until};

use self::lease::Keeper;
use super::etcd::{Etcd, jittered};
use super::seen::{Picture, Seen};
use super::settings::OnDelete;
use crate::registry::access::{AccessError, within};
use crate::registry::entry::{AGENTS, SERVICES, node_key};

/// A session that has lasted so long is begun anew: certificates may have been rotated, and a listing finds what a watch
/// may have missed.
const OLD: Duration = Duration::from_secs(600);
/// Keys of one page of a listing: about half a megabyte, far below what a message may have.
const PAGE: i64 = 500;
/// What somebody else has done to our keys is put right after this, so that two who disagree do not keep etcd busy.
const MEDDLED: Duration = Duration::from_millis(200);
/// Agents often come and go together.
const TOGETHER: Duration = Duration::from_millis(10);
/// The node's own entry is written at most so often.
const NODE: Duration = Duration::from_secs(5);

/// Why a session has ended.
#[derive(Debug)]
pub enum Trouble {
    /// The daemon ends.
    Ended,
    /// It has lasted long enough.
    Aged,
    /// A later daemon has this node's name: this one must not write any more.
    Superseded(String),
    /// Anything else: another session may do better.
    Fault(String),
}

impl From<AccessError> for Trouble {
    fn from(error: AccessError) -> Self {
        Self::Fault(match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    }
}

type Result<T> = std::result::Result<T, Trouble>;

/// One connection, and what is known through it.
struct Session<'a> {
    of: &'a mut Etcd,
    client: Client,
    endpoint: String,
    lease: i64,
    picture: Picture,
}

/// From the connection to whatever ends it.
pub async fn session(of: &mut Etcd, turn: usize) -> Trouble {
    match begin(of, turn).await {
        Ok(never) => match never {},
        Err(trouble) => trouble,
    }
}

async fn begin(of: &mut Etcd, turn: usize) -> Result<std::convert::Infallible> {
    let patience = of.etcd.patience();
    let client = of.etcd.access.connect(turn, patience).await?;
    let endpoint = of.etcd.access.endpoints[turn % of.etcd.access.endpoints.len()].clone();
    let mut session = Session { of, client, endpoint, lease: 0, picture: Picture::default() };
    let keeper = session.living_lease().await?;
    session.claim().await?;
    let revision = session.list().await?;
    session.of.wanted.inherits(session.picture.ours());
    let mut watch = session.watch(revision + 1).await?;
    session.of.told.send_modify(|status| status.counts.sessions += 1);
    let smooth = session.converge().await?;
    tracing::info!(endpoint = %session.endpoint, "agents are registered in etcd");
    session.follow(&mut watch, keeper, smooth).await
}

impl Session<'_> {
    /// One request, counted, for so long.
    async fn ask<T>(
        &self,
        request: impl Future<Output = std::result::Result<T, etcd_client::Error>>,
    ) -> Result<T> {
        self.of.told.send_if_modified(|status| {
            status.counts.requests += 1;
            false
        });
        Ok(within(&self.endpoint, self.of.etcd.patience(), request).await?)
    }

    /// Everything under agents' keys, at one revision; returns that.
    async fn list(&mut self) -> Result<i64> {
        let (mut from, mut revision) = (AGENTS.as_bytes().to_vec(), 0);
        self.picture.begin_anew();
        let end = after_prefix(AGENTS);
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
            let mut client = self.client.clone();
            let page = self.ask(client.get(from.clone(), Some(options))).await?;
            if revision == 0 {
                revision = page.header().map_or(0, |header| header.revision());
            }
            let own = self.of.wanted.mark().clone();
            for kv in page.kvs() {
                if let Some(id) = agent_of(kv.key()) {
                    self.picture.found(id, kv.value(), kv.mod_revision(), kv.lease() == self.lease, &own);
                }
            }
            match page.kvs().last() {
                // The next possible key after the last one.
                Some(last) if page.more() => from = [last.key(), b"\0"].concat(),
                _ => break,
            }
        }
        self.picture.listed(revision);
        Ok(revision)
    }

    async fn watch(&mut self, from: i64) -> Result<WatchStream> {
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let mut client = self.client.clone();
        self.ask(client.watch(SERVICES, Some(options))).await
    }

    /// Keeps etcd as it should be, until something ends the session. `smooth`: it is by now.
    async fn follow(
        &mut self,
        watch: &mut WatchStream,
        mut keeper: Keeper,
        smooth: bool,
    ) -> Result<std::convert::Infallible> {
        let old = Instant::now() + jittered(OLD);
        let mut due: Option<Instant> = (!smooth).then(|| Instant::now() + MEDDLED);
        let mut node_due: Option<Instant> = None;
        let mut node_written = Instant::now();
        let later = Duration::from_secs(3600);
        loop {
            let wake = [due, node_due].into_iter().flatten().min().unwrap_or_else(|| Instant::now() + later);
            tokio::select! {
                lost = &mut keeper => return Err(lost),
                response = watch.message() => {
                    if self.heard(response.map_err(|error| self.broken(&error))?).await? {
                        due.get_or_insert(Instant::now() + MEDDLED);
                    }
                }
                changed = self.of.wires.running.changed() => match changed {
                    Ok(()) => {
                        let soon = Instant::now() + TOGETHER;
                        due = Some(due.map_or(soon, |at| at.min(soon)));
                    }
                    Err(_) => return Err(self.leave().await),
                },
                changed = self.of.wires.node.changed() => {
                    // Its sender is gone only when the daemon ends, which `running` tells.
                    changed.map_err(|_| Trouble::Ended)?;
                    node_due.get_or_insert(node_written + NODE);
                }
                () = sleep_until(wake) => {}
                () = sleep_until(old) => return Err(Trouble::Aged),
            }
            let now = Instant::now();
            if node_due.is_some_and(|at| at <= now) {
                self.write_node().await?;
                (node_due, node_written) = (None, now);
            }
            if due.is_some_and(|at| at <= now) {
                due = None;
                if !self.converge().await? {
                    due = Some(now + MEDDLED);
                }
            }
        }
    }

    fn broken(&self, error: &etcd_client::Error) -> Trouble {
        Trouble::Fault(format!("{}: {}", self.endpoint, crate::registry::access::detail(error)))
    }

    /// What a watch says; true: something of ours is not as it should be.
    async fn heard(&mut self, response: Option<WatchResponse>) -> Result<bool> {
        let Some(response) = response else {
            return Err(Trouble::Fault(format!("{} has ended the watch", self.endpoint)));
        };
        if response.canceled() {
            // Compacted away, no leader, no permission: whatever it is, a listing begins anew.
            let why = response.cancel_reason();
            let why = if why.is_empty() { "what was to be watched is compacted" } else { why };
            return Err(Trouble::Fault(format!("{} cancels the watch: {why}", self.endpoint)));
        }
        let deletions =
            response.events().iter().filter(|event| event.event_type() == EventType::Delete).count();
        let node = node_key(&self.of.settings.node);
        let mut meddled = false;
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            if kv.key() == node.as_bytes() {
                if event.event_type() == EventType::Delete || kv.lease() != self.lease {
                    // By hand, with the lease, or by a later daemon: the next claim finds out.
                    return Err(Trouble::Fault(format!("{}: somebody has taken {node}", self.endpoint)));
                }
                continue;
            }
            let Some(id) = agent_of(kv.key()) else { continue };
            if !self.picture.is_news(id, kv.mod_revision()) {
                continue;
            }
            let was_ours = matches!(self.picture.keys.get(id), Some(Seen::Ours { .. }));
            match event.event_type() {
                EventType::Delete => {
                    self.picture.keys.remove(id);
                    if was_ours && deletions == 1 {
                        self.deleted(id).await;
                    }
                }
                // Not written by this session: whatever it says, it is not known to be under our lease.
                EventType::Put => {
                    let own = self.of.wanted.mark().clone();
                    self.picture.found(id, kv.value(), kv.mod_revision(), false, &own);
                }
            }
            self.of.told.send_modify(|status| status.counts.meddled += u64::from(was_ours));
            meddled = true;
        }
        if let Some(header) = response.header() {
            self.picture.told(header.revision());
        }
        Ok(meddled)
    }

    /// Somebody has deleted this one key of ours, and nothing else with it.
    async fn deleted(&mut self, id: &str) {
        match self.of.etcd.on_delete {
            OnDelete::Restore => tracing::warn!(agent = id, "somebody has deleted its key; it is put back"),
            OnDelete::Stop => {
                tracing::warn!(agent = id, "somebody has deleted its key, which means that it is to stop");
                self.of.wanted.let_go(id);
                // A full channel means that wishes are not heard at this moment: the key stays away, and the agent listed.
                let _ = self.of.wires.wishes.try_send(id.to_owned());
            }
        }
    }
}

fn agent_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()?.strip_prefix(AGENTS)
}

/// The first key after all that begin like this.
fn after_prefix(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    end
}
