//! Answers with the lines of a log that grows: what there is, and then what comes.

use std::io;

use bytes::Bytes;
use tokio::sync::watch;

use super::stream::Source;

/// One piece, about.
const PIECE: usize = 64 * 1024;

/// A log that is read while others write it.
pub(crate) trait Lines: Send + 'static {
    /// Whole lines up to record `synced`, and about `most` bytes of them; nothing: that was all.
    fn lines(&mut self, synced: u64, most: usize) -> io::Result<Vec<u8>>;
}

/// The lines of a log that are wanted.
pub(crate) struct Tail<L, W> {
    log: Option<L>,
    synced: watch::Receiver<u64>,
    /// The last record; none: whatever comes.
    until: Option<u64>,
    wanted: W,
}

impl<L: Lines, W: Fn(Vec<u8>) -> Vec<u8> + Send + 'static> Tail<L, W> {
    /// Of what is there for good, which `synced` says; `wanted` takes out what the caller does not see.
    pub(crate) fn new(log: L, synced: watch::Receiver<u64>, until: Option<u64>, wanted: W) -> Self {
        Self { log: Some(log), synced, until, wanted }
    }
}

impl<L: Lines, W: Fn(Vec<u8>) -> Vec<u8> + Send + 'static> Source for Tail<L, W> {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let synced = *self.synced.borrow_and_update();
            let synced = self.until.map_or(synced, |until| until.min(synced));
            let Some(mut log) = self.log.take() else { return Ok(None) };
            let read = tokio::task::spawn_blocking(move || {
                let lines = log.lines(synced, PIECE);
                (log, lines)
            });
            let (log, lines) = read.await.map_err(io::Error::other)?;
            self.log = Some(log);
            let lines = lines?;
            let was_all = lines.is_empty();
            let wanted = (self.wanted)(lines);
            if !wanted.is_empty() {
                return Ok(Some(wanted.into()));
            }
            // Once the log is closed, nothing more comes.
            if was_all && (self.until.is_some() || self.synced.changed().await.is_err()) {
                return Ok(None);
            }
        }
    }
}
