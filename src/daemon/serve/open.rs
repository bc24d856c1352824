//! The open connections: counted, and asked once more whether they may stay.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use super::{Closing, ConnectionWatch, Peer};
use crate::daemon::authz::{Authz, Role};
use crate::daemon::tls::{Identity, Material};
use crate::id::Tenant;

/// All of them.
#[derive(Default)]
pub struct Open {
    state: Mutex<State>,
    ended: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    connections: HashMap<u64, Weak<Connection>>,
    by_identity: HashMap<String, usize>,
    draining: bool,
}

/// One, for as long as its socket is open: a WebSocket keeps it beyond HTTP.
pub struct Connection {
    number: u64,
    /// Who it is.
    pub peer: Arc<Peer>,
    chain: Vec<CertificateDer<'static>>,
    grant: Option<(Role, Tenant)>,
    told: watch::Sender<Option<Closing>>,
    open: Arc<Open>,
    /// Requests that are being answered.
    active: AtomicUsize,
    /// Bytes of a request have come that is not complete.
    partial: AtomicBool,
    since: Mutex<Instant>,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are too many in all.
    Connections,
    /// This identity has too many.
    Identity,
    /// The daemon ends.
    Draining,
}

impl Open {
    /// Takes a connection in.
    ///
    /// # Errors
    /// When there are too many.
    pub fn enter(
        self: &Arc<Self>,
        (peer, chain): (Peer, Vec<CertificateDer<'static>>),
        authz: &Authz,
        (most, most_per_identity): (usize, usize),
    ) -> Result<Arc<Connection>, Full> {
        let grant = granted(authz, &peer);
        let mut state = self.state();
        if state.draining {
            return Err(Full::Draining);
        }
        if state.connections.len() >= most {
            return Err(Full::Connections);
        }
        let own = state.by_identity.entry(peer.identity.clone()).or_default();
        if *own >= most_per_identity {
            return Err(Full::Identity);
        }
        *own += 1;
        let number = state.next;
        state.next += 1;
        let connection = Arc::new(Connection {
            number,
            peer: Arc::new(peer),
            chain,
            grant,
            told: watch::Sender::new(None),
            open: Arc::clone(self),
            active: AtomicUsize::new(0),
            partial: AtomicBool::new(false),
            since: Mutex::new(Instant::now()),
        });
        state.connections.insert(number, Arc::downgrade(&connection));
        Ok(connection)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.state().connections.len()
    }

    /// Closes every connection whose certificate or grant is no longer what it was let in by.
    pub fn recheck(&self, material: &Material, authz: &Authz) {
        for connection in self.all() {
            connection.recheck(material, authz);
        }
    }

    /// Takes no more, and tells everybody that it is over.
    pub fn drain(&self) {
        self.state().draining = true;
        for connection in self.all() {
            connection.close(Closing::Draining);
        }
    }

    /// Waits until all are closed.
    pub async fn emptied(&self) {
        loop {
            let ended = self.ended.notified();
            if self.count() == 0 {
                return;
            }
            ended.await;
        }
    }

    fn all(&self) -> Vec<Arc<Connection>> {
        // Collected first: the last reference to one may be dropped here, and that takes the lock.
        self.state().connections.values().filter_map(Weak::upgrade).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// For whoever streams over it.
    pub fn watch(&self) -> ConnectionWatch {
        ConnectionWatch::new(self.told.subscribe(), Some(self.peer.not_after))
    }

    /// Tells it to end; the first reason counts.
    pub fn close(&self, why: Closing) {
        self.told.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(why);
            first
        });
    }

    /// Closes it unless its certificate and its grant are what it was let in by.
    pub fn recheck(&self, material: &Material, authz: &Authz) {
        let now = SystemTime::now();
        if self.peer.not_after <= now {
            self.close(Closing::CertificateExpired);
        } else if material.accepts(&self.chain, now).is_err() {
            self.close(Closing::Revoked);
        } else if granted(authz, &self.peer) != self.grant {
            // Also one that it has got since: the next change would be compared with what it had at first.
            self.close(Closing::GrantRemoved);
        }
    }

    /// A request is being answered until this is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.partial.store(false, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Bytes have come in.
    pub fn heard(&self) {
        if self.active.load(Ordering::Relaxed) == 0 && !self.partial.swap(true, Ordering::Relaxed) {
            self.touch();
        }
    }

    /// For how long nothing has been asked: since the last answer, or since the first byte of a question that is not
    /// complete (the second is then true).
    pub fn quiet(&self) -> Option<(Duration, bool)> {
        if self.active.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        Some((since.elapsed(), self.partial.load(Ordering::Relaxed)))
    }

    fn touch(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.open.state();
        state.connections.remove(&self.number);
        if let Some(own) = state.by_identity.get_mut(&self.peer.identity) {
            *own -= 1;
            if *own == 0 {
                state.by_identity.remove(&self.peer.identity);
            }
        }
        drop(state);
        self.open.ended.notify_waiters();
    }
}

/// A request that is being answered.
pub struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who is at the other end, by a certificate that the verifier accepted.
pub fn peer(identity: Identity, address: std::net::SocketAddr) -> Peer {
    let Identity { name, serial, not_after } = identity;
    Peer { identity: name, serial, not_after, address }
}

fn granted(authz: &Authz, peer: &Peer) -> Option<(Role, Tenant)> {
    authz.caller(peer).map(|caller| (caller.role, caller.tenant))
}
