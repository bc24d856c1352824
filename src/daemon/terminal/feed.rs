//! Feeds the screen from the log, at its own pace, and answers what the agent asks while no window does.
//!
//! The screen follows the log; where an agent is faster than the emulator, it goes over what it cannot keep up with
//! (`Screen::skip`: no mode and no query is lost by that), so that it never costs the agent anything. A query is *settled*
//! once it is known who answers it, and how far that goes is written down before anything is answered: a daemon that comes
//! later answers none of them again.
//!
//! Who answers: while a viewer owns the size, its terminal does, once for each query that it owes an answer to; what
//! other viewers' terminals say by themselves is dropped, and so are answers to what a viewer was only shown again
//! (`Replies`). While nobody owns the size, the screen answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, watch};
use tracing::warn;

use super::log::{Found, Log, Position};
use super::screen::{Query, Screen};
use super::viewers::Viewers;
use super::{Drawing, Extent};

/// So far behind, and the emulator goes over the rest.
const FAR: u64 = 512 * 1024;
/// So much of the newest output is shown after that.
const NEAR: u64 = 64 * 1024;
/// Output is fed in pieces of so many bytes; between them others have their turn.
const PIECE: u64 = 16 * 1024;
/// A screen that nobody has asked for and nothing was put out on for so long needs no emulator.
const DROWSY: Duration = Duration::from_secs(2);
/// So many answers wait for an agent that does not read them.
pub(super) const ANSWERS: usize = 256;
/// How much of the log is looked through at most when a daemon comes anew.
const HISTORY: u64 = 8 * 1024 * 1024;

/// The screen of one terminal, and what it is fed from.
pub(crate) struct Feed {
    extent: watch::Receiver<Extent>,
    viewers: Arc<Viewers>,
    state: Mutex<Fed>,
    /// Somebody needs the screen.
    wanted: Notify,
    settled: PathBuf,
    /// Answers that are to be typed.
    answers: mpsc::Sender<Vec<u8>>,
}

struct Fed {
    screen: Screen,
    position: Position,
    /// Up to here it is known who answers.
    settled: u64,
    /// The agent is faster than the emulator.
    skipping: bool,
}

impl Feed {
    /// Of a terminal whose queries are settled as far as this file says.
    pub(crate) fn new(
        log: Log,
        extent: watch::Receiver<Extent>,
        viewers: Arc<Viewers>,
        settled: PathBuf,
    ) -> (Arc<Self>, mpsc::Receiver<Vec<u8>>) {
        let until =
            std::fs::read_to_string(&settled).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let (oldest, end) = log.extent().unwrap_or_default();
        let from = oldest.max(end.saturating_sub(HISTORY));
        let screen = Screen::new(viewers.shape().size, from);
        let position = Position::new(log, from);
        let state = Mutex::new(Fed { screen, position, settled: until, skipping: false });
        let (answers, answered) = mpsc::channel(ANSWERS);
        (Arc::new(Self { extent, viewers, state, wanted: Notify::new(), settled, answers }), answered)
    }

    /// Follows the log until the terminal is gone.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut extent = self.extent.clone();
        let mut awake = false;
        loop {
            tokio::select! {
                changed = extent.changed() => if changed.is_err() { return },
                () = self.wanted.notified() => {}
                () = tokio::time::sleep(DROWSY), if awake && !self.viewers.any() => {
                    self.state.lock().await.screen.sleep();
                    awake = false;
                    continue;
                }
            }
            awake = true;
            // An agent that has ended asks nothing any more; whoever looks at it feeds what is left.
            if !extent.borrow_and_update().ended {
                self.catch_up().await;
            }
        }
    }

    /// The agent runs: what it has asked meanwhile is waited for.
    pub(crate) fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Feeds all that there is now.
    async fn catch_up(&self) {
        let end = self.extent.borrow().end;
        loop {
            let mut fed = self.state.lock().await;
            if fed.screen.offset() >= end || !self.piece(&mut fed, end) {
                return;
            }
            drop(fed);
            tokio::task::yield_now().await;
        }
    }

    /// Feeds one piece; whether there was one.
    fn piece(&self, fed: &mut Fed, end: u64) -> bool {
        fed.screen.resize(self.viewers.shape().size);
        let behind = end - fed.screen.offset();
        fed.skipping = behind > if fed.skipping { NEAR } else { FAR };
        // What is gone over leaves enough to be shown; and nothing is read that readers may not have yet.
        let most = if fed.skipping { (behind - NEAR).min(16 * PIECE) } else { behind.min(PIECE) };
        match fed.position.read(usize::try_from(most).expect("a few pieces")) {
            Ok(Found::Bytes(bytes)) => {
                let queries = if fed.skipping { fed.screen.skip(&bytes) } else { fed.screen.feed(&bytes) };
                self.settle(fed, queries);
                true
            }
            Ok(Found::Gap(to)) => {
                fed.position.seek(to);
                fed.screen.jump(to);
                true
            }
            Ok(Found::Nothing) => false,
            Err(error) => {
                warn!(%error, "the terminal's log cannot be read");
                false
            }
        }
    }

    fn settle(&self, fed: &mut Fed, queries: Vec<Query>) {
        let settled = fed.settled;
        let new: Vec<Query> = queries.into_iter().filter(|query| query.offset > settled).collect();
        let Some(last) = new.last() else { return };
        fed.settled = last.offset;
        // Once for a piece, however many are in it. At most once: before a terminal says something twice, it says nothing.
        // No fsync: what a power cut takes away it takes from the agent, too.
        if let Err(error) = std::fs::write(&self.settled, last.offset.to_string()) {
            warn!(%error, path = %self.settled.display(), "cannot write down which queries are settled");
        }
        for query in new {
            if !self.viewers.owes(&query.answer) {
                // An agent that asks and reads no answer gets no more of them; and whoever types is gone with the agent.
                let _ = self.answers.try_send(query.answer);
            }
        }
    }

    /// Waits until everything that was put out before is on the screen.
    pub(crate) async fn caught_up(&self) {
        self.catch_up().await;
    }

    /// The screen now.
    pub(crate) async fn draw(&self) -> Drawing {
        self.catch_up().await;
        let mut fed = self.state.lock().await;
        fed.screen.resize(self.viewers.shape().size);
        let drawing = fed.screen.draw();
        self.wake();
        drawing
    }

    /// Whether a private mode is on.
    pub(crate) async fn is_on(&self, mode: u16) -> bool {
        self.catch_up().await;
        self.state.lock().await.screen.is_on(mode)
    }

    /// From here on there is a fresh terminal.
    pub(crate) async fn renew(&self) {
        self.catch_up().await;
        let mut fed = self.state.lock().await;
        fed.screen = Screen::new(self.viewers.shape().size, fed.screen.offset());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Size;
    use super::super::history::tests::written;
    use super::*;

    #[tokio::test]
    async fn an_agent_that_asks_without_end_and_reads_nothing_has_few_answers_waiting() {
        let questions = "\x1b[6n".repeat(10_000);
        let end = questions.len() as u64;
        let (agent, log) = written(&[(0, &questions)], &[(0, 10, None)]);
        let extent = watch::Sender::new(Extent { end, ended: false });
        let viewers = Arc::new(Viewers::new(Size { cols: 80, rows: 24 }));
        let settled = agent.path().join("settled");
        let (feed, answers) = Feed::new(log, extent.subscribe(), viewers, settled.clone());
        feed.caught_up().await;
        assert_eq!(answers.len(), ANSWERS);
        assert_eq!(std::fs::read_to_string(settled).expect("written"), end.to_string());
    }
}
