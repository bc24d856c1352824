//! Who looks at a terminal, and whose window gives it its size: exactly one viewer's, or nobody's.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Size, Terminal};
use crate::daemon::terminal::replies::{Kind, Replies};

/// The size, and which viewer it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) size: Size,
    pub(crate) owner: Option<u64>,
}

/// All viewers of one terminal, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Viewers {
    table: Mutex<Table>,
    shape: watch::Sender<Shape>,
    /// Queries that the owner's terminal has seen and not answered yet.
    owed: Mutex<Vec<Kind>>,
}

/// So many queries without an answer are remembered.
const MOST_OWED: usize = 64;

#[derive(Debug, Default)]
struct Table {
    last: u64,
    attached: Vec<Attached>,
}

#[derive(Debug)]
struct Attached {
    number: u64,
    may_type: bool,
    size: Option<Size>,
}

impl Viewers {
    pub(crate) fn new(size: Size) -> Self {
        let shape = watch::Sender::new(Shape { size, owner: None });
        Self { table: Mutex::default(), shape, owed: Mutex::default() }
    }

    pub(crate) fn shape(&self) -> Shape {
        *self.shape.borrow()
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<Shape> {
        self.shape.subscribe()
    }

    /// Whether anybody looks.
    pub(crate) fn any(&self) -> bool {
        !self.table().attached.is_empty()
    }

    /// Sets the size where no viewer owns it.
    pub(crate) fn resize_unowned(&self, size: Size) {
        let _table = self.table();
        self.shape.send_if_modified(|shape| {
            let changed = shape.owner.is_none() && shape.size != size;
            if changed {
                shape.size = size;
            }
            changed
        });
    }

    /// Whether the owner's terminal answers a query, to which this would be the answer; it owes that from now on.
    pub(super) fn owes(&self, answer: &[u8]) -> bool {
        let owned = self.shape().owner.is_some();
        if let (true, Some(kind)) = (owned, Kind::of(answer)) {
            let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
            if owed.len() == MOST_OWED {
                owed.remove(0);
            }
            owed.push(kind);
        }
        owned
    }

    /// The owner's terminal answers: whether it owed that.
    pub(super) fn pays(&self, kind: Kind) -> bool {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let found = owed.iter().position(|owed| *owed == kind);
        found.map(|at| owed.remove(at)).is_some()
    }

    fn attach(&self, may_type: bool, size: Option<Size>, take_over: bool) -> u64 {
        let mut table = self.table();
        table.last += 1;
        let number = table.last;
        table.attached.push(Attached { number, may_type, size });
        if may_type && size.is_some() && (take_over || self.shape().owner.is_none()) {
            self.own(&table, Some(number));
        }
        number
    }

    fn resize(&self, number: u64, size: Size) {
        let mut table = self.table();
        if let Some(viewer) = table.attached.iter_mut().find(|viewer| viewer.number == number) {
            viewer.size = Some(size);
            let may_type = viewer.may_type;
            let owner = self.shape().owner;
            if owner == Some(number) || (owner.is_none() && may_type) {
                self.own(&table, Some(number));
            }
        }
    }

    fn take_over(&self, number: u64) -> io::Result<()> {
        let table = self.table();
        let may = table.attached.iter().any(|viewer| viewer.number == number && viewer.may_type);
        if !may {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "who may only look cannot own the terminal's size: attach with mode=type",
            ));
        }
        self.own(&table, Some(number));
        Ok(())
    }

    /// The next one who may type and has a window inherits.
    fn detach(&self, number: u64) {
        let mut table = self.table();
        table.attached.retain(|viewer| viewer.number != number);
        if self.shape().owner == Some(number) {
            let heir = table.attached.iter().find(|viewer| viewer.may_type && viewer.size.is_some());
            let heir = heir.map(|viewer| viewer.number);
            self.own(&table, heir);
        }
    }

    fn own(&self, table: &Table, owner: Option<u64>) {
        let of = |number| table.attached.iter().find(|viewer| Some(viewer.number) == number);
        if self.shape().owner != owner {
            // Another terminal has not seen these queries.
            self.owed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        self.shape.send_if_modified(|shape| {
            let size = of(owner).and_then(|viewer| viewer.size).unwrap_or(shape.size);
            let new = Shape { size, owner };
            std::mem::replace(shape, new) != new
        });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table whole: every change of it is one assignment.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attached viewer. Dropped: it is gone, and so is its claim to the size.
pub struct Viewer {
    viewers: Arc<Viewers>,
    terminal: Terminal,
    number: u64,
    changes: watch::Receiver<Shape>,
    replies: tokio::sync::Mutex<Replies>,
}

impl Viewer {
    pub(super) fn attach(terminal: &Terminal, may_type: bool, size: Option<Size>, take_over: bool) -> Self {
        let viewers = Arc::clone(terminal.viewers());
        let number = viewers.attach(may_type, size, take_over);
        let mut changes = viewers.changes();
        changes.mark_unchanged();
        Self { viewers, terminal: terminal.clone(), number, changes, replies: Default::default() }
    }

    /// Whether its size is the terminal's.
    pub fn owns_size(&self) -> bool {
        self.viewers.shape().owner == Some(self.number)
    }

    /// The terminal's size.
    pub fn size(&self) -> Size {
        self.viewers.shape().size
    }

    /// Its window has this size now; the terminal's follows if it owns that.
    pub async fn resize(&self, size: Size) -> io::Result<()> {
        self.viewers.resize(self.number, size);
        Ok(())
    }

    /// From now on it owns the size.
    pub async fn take_over(&self) -> io::Result<()> {
        self.viewers.take_over(self.number)
    }

    /// Tells when the size or its owner changes, from the attachment on.
    pub fn changes(&self) -> Changes {
        Changes { changes: self.changes.clone(), _viewers: self.viewers.clone() }
    }

    /// Types what came from this viewer's window. What its terminal emulator says by itself, as an answer to a query of
    /// the agent's, goes on only if it is the size's owner's, and only once for each query: see [`Replies`].
    pub async fn input(&self, bytes: Bytes) -> io::Result<()> {
        let mut replies = self.replies.lock().await;
        let typed = replies.pass(&self.terminal, bytes, || self.owns_size()).await;
        if typed.is_empty() { Ok(()) } else { self.terminal.input(typed).await }
    }
}

/// Changes of a terminal's size, and of who owns it.
pub struct Changes {
    changes: watch::Receiver<Shape>,
    /// Holds the sender.
    _viewers: Arc<Viewers>,
}

impl Changes {
    /// Resolves at the next one; the size that it is then. Nothing is lost when it is dropped while it waits.
    pub async fn next(&mut self) -> Size {
        self.changes.changed().await.expect("the table of viewers is there");
        self.changes.borrow_and_update().size
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.viewers.detach(self.number);
    }
}
