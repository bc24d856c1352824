//! One agent's terminal, as the daemon sees it: a log to read from any offset, a screen, viewers, and a way in.
//!
//! ```text
//!  shim ── Output{end} ─▶ Terminal ── wakes ─▶ Reader (one per viewer, reads the log's files at its own pace)
//!                            │     └──────────▶ Screen (one, a terminal emulator; answers queries while nobody is attached)
//!  viewers ── typed bytes ───┴─────▶ shim
//! ```

use std::io;

use bytes::Bytes;

use crate::api::agent::Size;

/// A handle; cheap to clone. It outlives the agent: what was put out can still be read.
#[derive(Clone)]
pub struct Terminal {}

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

/// Reads the log from one offset on, at its own pace.
pub struct Reader {}

impl Reader {
    /// The offset of the next byte.
    pub fn offset(&self) -> u64 {
        todo!()
    }

    /// The next piece, at most `most` bytes; waits for output.
    pub async fn next(&mut self, _most: usize) -> io::Result<Piece> {
        todo!()
    }

    /// Jumps, e.g. to the offset of a fresh screen.
    pub fn seek(&mut self, _offset: u64) {
        todo!()
    }
}

/// A screen, drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// One attached viewer. Dropped: it is gone, and so is its claim to the size.
pub struct Viewer {}

impl Viewer {
    /// Whether its size is the terminal's.
    pub fn owns_size(&self) -> bool {
        todo!()
    }

    /// Its window has this size now; the terminal's follows if it owns that.
    pub async fn resize(&self, _size: Size) -> io::Result<()> {
        todo!()
    }

    /// From now on it owns the size.
    pub async fn take_over(&self) -> io::Result<()> {
        todo!()
    }

    /// Tells when the size or its owner changes, from now on.
    pub fn changes(&self) -> Changes {
        todo!()
    }

    /// Types what came from this viewer's window.
    pub async fn input(&self, _bytes: Bytes) -> io::Result<()> {
        todo!()
    }
}

/// Changes of a terminal's size, and of who owns it.
pub struct Changes {}

impl Changes {
    /// The next one; the size that it is then.
    pub async fn next(&mut self) -> Size {
        todo!()
    }
}

impl Terminal {
    /// The oldest offset that is kept, and the offset of the next byte.
    pub fn range(&self) -> (u64, u64) {
        todo!()
    }

    /// Reads from `offset` on.
    pub fn reader(&self, _offset: u64) -> Reader {
        todo!()
    }

    /// The screen now.
    pub async fn screen(&self) -> io::Result<Drawing> {
        todo!()
    }

    /// Attaches a viewer. One that may type and has a size owns the size if nobody does, or if it says `take_over`.
    pub fn attach(&self, _may_type: bool, _size: Option<Size>, _take_over: bool) -> Viewer {
        todo!()
    }

    /// Types. Resolves when the bytes are with the agent's terminal; waits while it takes none.
    pub async fn input(&self, _bytes: Bytes) -> io::Result<()> {
        todo!()
    }

    /// The last `tail` lines (all: none) as text without escape codes; each with the time its line was begun, in
    /// microseconds since 1970. `since`: only lines begun at that time or later.
    pub async fn lines(&self, _tail: Option<usize>, _since: Option<u64>) -> io::Result<Vec<(u64, String)>> {
        todo!()
    }

    /// Everything that is kept as asciicast v2, line by line.
    pub async fn recording(&self) -> io::Result<Vec<u8>> {
        todo!()
    }
}
