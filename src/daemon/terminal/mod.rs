//! One agent's terminal, as the daemon sees it: a log to read from any offset, a screen, viewers, and a way in.
//!
//! ```text
//!  shim ── Output{end} ─▶ Terminal ── wakes ─▶ Reader (one per viewer, reads the log's files at its own pace)
//!                            │     └──────────▶ Screen (one, a terminal emulator; answers queries while nobody is attached)
//!  viewers ── typed bytes ───┴─────▶ shim
//! ```

mod feed;
mod history;
mod lines;
pub(crate) mod log;
mod modes;
mod reader;
mod recording;
mod replies;
mod scan;
mod screen;
mod text;
#[cfg(test)]
mod text_tests;
mod viewers;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::agents::kind::Turn;
use crate::api::agent::Size;
use feed::Feed;
use log::{Log, Position};
pub use reader::Reader;
pub use recording::Recording;
pub(crate) use text::{Spoken, newest};
pub(crate) use viewers::Shape;
use viewers::Viewers;
pub use viewers::{Changes, Viewer};

/// How many writes may wait for an agent that takes none.
const WAITING_WRITES: usize = 16;

/// How many logs are decoded at once, on the whole node.
const DECODED: usize = 4;

/// A handle; cheap to clone. It outlives the agent: what was put out can still be read.
#[derive(Clone)]
pub struct Terminal {
    log: Log,
    extent: Arc<watch::Sender<Extent>>,
    viewers: Arc<Viewers>,
    feed: Arc<Feed>,
    typed: mpsc::Sender<Typed>,
}

/// How far the log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    /// The offset of the next byte.
    pub(crate) end: u64,
    /// No more will come.
    pub(crate) ended: bool,
}

/// Bytes for the agent's terminal, and whom to tell once they are there.
pub(crate) struct Typed {
    pub(crate) bytes: Bytes,
    pub(crate) done: oneshot::Sender<io::Result<()>>,
}

/// The agent's side of a terminal: what is to be carried to its shim.
pub(crate) struct Wishes {
    /// Typed bytes.
    pub(crate) typed: mpsc::Receiver<Typed>,
    /// The size that it shall have.
    pub(crate) shape: watch::Receiver<Shape>,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Output from the reader's offset on.
    Bytes(Bytes),
    /// What was at the reader's offset is no longer kept; it goes on at `to`.
    Gap {
        /// The first lost byte.
        from: u64,
        /// The first that is still there.
        to: u64,
    },
    /// The agent has ended, and this was all.
    End,
}

/// A screen, drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drawing {
    /// The output offset that it shows the state of.
    pub offset: u64,
    /// Bytes that bring a fresh terminal into this state: modes, alternate screen, mouse, paste, title, cursor.
    pub bytes: Bytes,
    /// Its lines as plain text.
    pub lines: Vec<String>,
    /// Column and row, from 0.
    pub cursor: (u16, u16),
    /// The title that was set.
    pub title: String,
    /// Whether the alternate screen is on.
    pub alternate: bool,
    /// Its size.
    pub size: Size,
}

impl Terminal {
    /// Of the agent with this directory, as far as its log reaches; `settled`: the file that says up to where its
    /// queries are settled.
    pub(crate) fn start(agent: &Path, size: Size, extent: Extent, settled: PathBuf) -> (Self, Wishes) {
        let log = Log::of(agent);
        let (typed, receiver) = mpsc::channel(WAITING_WRITES);
        let viewers = Arc::new(Viewers::new(size));
        let wishes = Wishes { typed: receiver, shape: viewers.changes() };
        let extent = Arc::new(watch::Sender::new(extent));
        let (feed, mut answers) = Feed::new(log.clone(), extent.subscribe(), viewers.clone(), settled);
        tokio::spawn(feed.clone().run());
        // It ends with the feed, which ends with the last handle of this terminal.
        let answering = typed.downgrade();
        tokio::spawn(async move {
            while let (Some(answer), Some(typed)) = (answers.recv().await, answering.upgrade()) {
                // An agent that has ended needs no answer.
                let _ = type_in(&typed, answer.into()).await;
            }
        });
        (Self { log, extent, viewers, feed, typed }, wishes)
    }

    /// The log reaches this far now.
    pub(crate) fn extend(&self, extent: Extent) {
        self.extent.send_if_modified(|old| std::mem::replace(old, extent) != extent);
    }

    /// How far it reaches.
    pub(crate) fn extent(&self) -> Extent {
        *self.extent.borrow()
    }

    /// How far it reaches, from now on.
    pub(crate) fn ends(&self) -> watch::Receiver<Extent> {
        self.extent.subscribe()
    }

    /// Its size.
    pub fn size(&self) -> Size {
        self.viewers.shape().size
    }

    /// Sets the size where no viewer owns it.
    pub(crate) fn resize(&self, size: Size) {
        self.viewers.resize_unowned(size);
    }

    /// What is kept of it, as its files say.
    pub(crate) fn kept(&self) -> io::Result<(u64, u64)> {
        self.log.extent()
    }

    /// When something was last put out, in milliseconds since 1970.
    pub(crate) fn written(&self) -> Option<u64> {
        self.log.written()
    }

    /// The agent is started anew, and takes its terminal for a fresh one.
    pub(crate) async fn renew(&self) {
        self.feed.renew().await;
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    pub(crate) fn viewers(&self) -> &Arc<Viewers> {
        &self.viewers
    }

    /// The oldest offset that is kept, and the offset of the next byte.
    pub fn range(&self) -> (u64, u64) {
        let end = self.extent().end;
        let oldest = self.log.segments().ok().and_then(|segments| segments.first().copied());
        (oldest.unwrap_or(end).min(end), end)
    }

    /// Reads from `offset` on.
    pub fn reader(&self, offset: u64) -> Reader {
        Reader::new(Position::new(self.log.clone(), offset), self.extent.subscribe())
    }

    /// The screen now.
    pub async fn screen(&self) -> io::Result<Drawing> {
        Ok(self.feed.draw().await)
    }

    /// Whether the agent has set a private mode (DECSET) of its terminal.
    pub async fn is_on(&self, mode: u16) -> bool {
        self.feed.is_on(mode).await
    }

    /// Attaches a viewer. One that may type and has a size owns the size if nobody does, or if it says `take_over`.
    pub fn attach(&self, may_type: bool, size: Option<Size>, take_over: bool) -> Viewer {
        Viewer::attach(self, may_type, size, take_over)
    }

    /// Types. Resolves when the bytes are with the agent's terminal; waits while it takes none. What comes from a
    /// viewer's window goes through [`Viewer::input`].
    pub async fn input(&self, bytes: Bytes) -> io::Result<()> {
        type_in(&self.typed, bytes).await
    }

    /// The last `tail` lines (all: none) as text without escape codes; each with the time its line was begun, in
    /// microseconds since 1970. `since`: only lines begun at that time or later.
    pub async fn lines(&self, tail: Option<usize>, since: Option<u64>) -> io::Result<Vec<(u64, String)>> {
        let (log, end, size) = (self.log.clone(), self.extent().end, self.size());
        decoded(move || text::lines(&log, end, size, tail, since)).await
    }

    /// What was put out after this was said, up to `end`; with rules only what they say is the agent's answer.
    pub(crate) async fn answer(&self, spoken: Spoken, end: u64, rules: Option<Turn>) -> io::Result<String> {
        let log = self.log.clone();
        aside(move || text::answer(&log, &spoken, end, rules.as_ref())).await
    }

    /// Everything that is kept, as asciicast v2.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn recording(&self) -> io::Result<Recording> {
        Recording::new(self.log.clone(), self.extent().end, self.size())
    }
}

impl Recording {
    /// Whole lines; none: that was all.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next(self) -> io::Result<Option<(Vec<u8>, Self)>> {
        let mut recording = self;
        decoded(move || Ok(recording.piece()?.map(|piece| (piece, recording)))).await
    }
}

async fn type_in(typed: &mpsc::Sender<Typed>, bytes: Bytes) -> io::Result<()> {
    let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the agent has ended: nothing can be typed");
    let (done, result) = oneshot::channel();
    typed.send(Typed { bytes, done }).await.map_err(|_| gone())?;
    result.await.unwrap_or_else(|_| Err(gone()))
}

/// A whole log takes seconds and many megabytes to decode: few of them at once, and the others wait.
async fn decoded<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    static TURNS: Semaphore = Semaphore::const_new(DECODED);
    let turn = TURNS.acquire().await.expect("it is never closed");
    aside(move || {
        // Held to the end, also when whoever asked is gone.
        let _turn = turn;
        work()
    })
    .await
}

/// Runs what takes long where it keeps nobody waiting.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
