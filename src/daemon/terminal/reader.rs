//! Reads the log from one offset on, at its own pace: whoever is slow slows nobody.

use std::io;

use bytes::Bytes;
use tokio::sync::watch;

use super::log::{Found, Position};
use super::{Extent, Piece};

/// Reads the log from one offset on, at its own pace.
pub struct Reader {
    position: Position,
    extent: watch::Receiver<Extent>,
}

impl Reader {
    pub(super) fn new(position: Position, extent: watch::Receiver<Extent>) -> Self {
        Self { position, extent }
    }

    /// The offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.position.offset
    }

    /// The next piece, at most `most` bytes; waits for output. Nothing is lost when it is dropped while it waits.
    pub async fn next(&mut self, most: usize) -> io::Result<Piece> {
        loop {
            let extent = *self.extent.borrow_and_update();
            if let Some(piece) = self.there(extent, most)? {
                return Ok(piece);
            }
            // The terminal itself keeps the sender; without it there is nobody to tell of more.
            if self.extent.changed().await.is_err() {
                return Ok(Piece::End);
            }
        }
    }

    /// What lies there already.
    fn there(&mut self, extent: Extent, most: usize) -> io::Result<Option<Piece>> {
        let left = extent.end.saturating_sub(self.position.offset);
        if left > 0 {
            let most = usize::try_from(left).map_or(most, |left| left.min(most));
            match self.position.read(most)? {
                Found::Bytes(bytes) => return Ok(Some(Piece::Bytes(Bytes::from(bytes)))),
                Found::Gap(to) => {
                    let from = self.position.offset;
                    self.position.seek(to);
                    return Ok(Some(Piece::Gap { from, to }));
                }
                Found::Nothing => {}
            }
        }
        Ok(extent.ended.then_some(Piece::End))
    }

    /// Jumps, e.g. to the offset of a fresh screen.
    pub fn seek(&mut self, offset: u64) {
        self.position.seek(offset);
    }
}
