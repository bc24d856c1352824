//! What comes from the service, shown as it comes.

use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::link::{Received, Receiver};
use super::place::Place;
use super::progress::Progress;
use super::{Away, End, Next, RECHECK, broken};
use crate::api::terminal::FromServer;
use crate::client::error::ClientError;
use crate::client::output::Output;

/// What comes from the service.
pub struct Incoming<'a> {
    /// Where it comes from.
    pub receiver: &'a mut Receiver,
    /// What has been seen of it.
    pub progress: &'a mut Progress,
    /// Why the service said it would close the connection.
    pub closing: &'a mut Option<String>,
    /// What was asked for.
    pub since: Option<u64>,
    /// For remarks.
    pub output: Output,
    /// The service has said that it attached us.
    pub greeted: &'a Notify,
    /// Since when there was no service.
    pub away: &'a mut Option<Away>,
}

impl Incoming<'_> {
    /// Shows it as it comes.
    pub async fn show(&mut self, place: &mut Place, resumed: &mut Signal) -> Result<Next, ClientError> {
        loop {
            let received = tokio::select! {
                received = self.receiver.next() => received,
                () = sleep(RECHECK), if place.is_waiting() => {
                    place.enter().map_err(broken)?;
                    continue;
                }
                _ = resumed.recv() => {
                    place.enter().map_err(broken)?;
                    if place.is_screen() {
                        return Ok(Next::Redraw);
                    }
                    continue;
                }
            };
            match received {
                Ok(Received::Alive) => {}
                Ok(Received::Bytes(bytes)) => {
                    let pieces = self.progress.take(bytes);
                    if place.is_screen() {
                        place.show(&pieces.drawing).await.map_err(broken)?;
                    }
                    place.show(&pieces.output).await.map_err(broken)?;
                }
                Ok(Received::Word(word)) => {
                    if let Some(end) = self.heed(word, place).await? {
                        return Ok(Next::Over(end));
                    }
                }
                Err(error) if error.is_passing() => return Ok(Next::Lost(error)),
                // The certificate may have been renewed: whether it is really over shows the next attempt.
                Err(error @ ClientError::Refused { .. }) => return Ok(Next::Lost(error)),
                Err(error) => return Err(error),
            }
        }
    }

    async fn heed(&mut self, word: FromServer, place: &mut Place) -> Result<Option<End>, ClientError> {
        match word {
            FromServer::Attached { offset, .. } => {
                self.progress.attached(self.since, offset);
                self.greeted.notify_one();
                if self.away.take().is_some_and(|away| away.told) && !place.is_alternate() {
                    place.remark("stockade: connected again").await.map_err(broken)?;
                }
            }
            FromServer::Screen { offset, bytes } => {
                self.progress.screen(offset, bytes);
                if place.is_screen() {
                    place.clear().await.map_err(broken)?;
                }
            }
            FromServer::Gap { from, to } => {
                self.progress.gap(from, to);
                if !place.is_screen() {
                    self.output.remark(&format!("output from byte {from} to {to} is no longer kept"));
                }
            }
            FromServer::Ended { exit_code } => return Ok(Some(End::Ended(exit_code))),
            FromServer::Closing { reason } => *self.closing = Some(format!("the service says: {reason}")),
            FromServer::Size { .. } | FromServer::State { .. } | FromServer::Other => {}
        }
        Ok(None)
    }
}
