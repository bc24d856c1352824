//! Follows what one agent's terminal shows by the rules of its kind: a reader of its log like any viewer, at its own pace.
//! It types nothing but what goes on after a login, by the rules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::inquiry::Inquiry;
use super::login::{Acknowledger, Desk};
use crate::agents::callback::Callback;
use crate::agents::{Kind, Look, Observation, Watcher};
use crate::api::Login;
use crate::api::agent::Size;
use crate::daemon::supervisor::times::{iso, now};
use crate::daemon::terminal::{Piece, Reader, Terminal};

/// Most bytes that are looked at in one go.
const PIECE: usize = 64 * 1024;

/// How much of what was put out before is looked at: a screen is drawn anew in far less.
const HISTORY: u64 = 1024 * 1024;

/// What rules look at and a program may have set up long ago: the alternate screen, framed pastes.
const SET_UP: [u16; 2] = [1049, 2004];

/// How many may ask for a look at once.
const ASKS: usize = 16;

/// Further behind than this, what lies between is left out.
const LAG: u64 = 8 * HISTORY;

/// What is known of a screen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// By the rules.
    pub(crate) observation: Observation,
    /// The login that it waits for.
    pub(crate) login: Option<Login>,
}

/// A look at a screen for whoever types: never at one that is older than the question.
#[derive(Debug, Clone)]
pub(crate) struct Eye {
    /// The kind's rules.
    pub(crate) kind: Arc<Kind>,
    asks: mpsc::Sender<oneshot::Sender<Sight>>,
}

/// What was seen.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    /// By the rules.
    pub(crate) look: Look,
    /// How long the published state has lasted.
    pub(crate) lasted: Duration,
}

impl Eye {
    /// What the screen shows once all output that there is now is on it; none: nobody follows it any more.
    pub(crate) async fn look(&self) -> Option<Sight> {
        let (ask, told) = oneshot::channel();
        self.asks.send(ask).await.ok()?;
        told.await.ok()
    }
}

/// What is seen, for whoever says what the agent is doing, and for whoever answers its questions.
pub(crate) type Views = (watch::Receiver<Option<Seen>>, watch::Receiver<Option<Seen>>);

/// Starts to follow it; ends when the first of its views is dropped, or the agent has ended: whoever answers questions would
/// else go on with the terminal's next life, beside whoever does so there.
pub(crate) fn follow(
    kind: Kind,
    terminal: &Terminal,
    desk: Arc<Desk>,
    hands: Arc<Mutex<()>>,
    inquiry: Option<Inquiry>,
    fresh: bool,
) -> (Views, Eye) {
    let (oldest, end) = terminal.range();
    let from = if fresh { end } else { oldest.max(end.saturating_sub(HISTORY)) };
    let (told, seen) = watch::channel(None);
    let (passed_on, for_answers) = watch::channel(None);
    let (asks, asked) = mpsc::channel(ASKS);
    let eye = Eye { kind: Arc::new(kind.clone()), asks };
    let follower = Follower {
        watcher: Watcher::new(kind.clone(), terminal.size()),
        acknowledger: Acknowledger::new(terminal.clone(), hands),
        desk,
        inquiry,
        kind,
        reader: terminal.reader(from),
        terminal: terminal.clone(),
        shape: terminal.viewers().changes(),
        ends: terminal.ends(),
        began: Instant::now(),
        told,
        passed_on,
        asked,
        waiting: Vec::new(),
    };
    tokio::spawn(follower.run(from > 0 && !fresh));
    ((seen, for_answers), eye)
}

struct Follower {
    kind: Kind,
    acknowledger: Acknowledger,
    desk: Arc<Desk>,
    /// Of a kind that writes down what it is doing.
    inquiry: Option<Inquiry>,
    watcher: Watcher,
    terminal: Terminal,
    reader: Reader,
    shape: watch::Receiver<crate::daemon::terminal::Shape>,
    ends: watch::Receiver<crate::daemon::terminal::Extent>,
    began: Instant,
    told: watch::Sender<Option<Seen>>,
    passed_on: watch::Sender<Option<Seen>>,
    asked: mpsc::Receiver<oneshot::Sender<Sight>>,
    /// Who waits for a look, and how far the output must be on the screen for that.
    waiting: Vec<(u64, oneshot::Sender<Sight>)>,
}

impl Follower {
    async fn run(mut self, in_the_middle: bool) {
        if in_the_middle {
            self.catch_up().await;
        }
        loop {
            let seen = self.watcher.deadline().map(|at| self.began + at);
            let asks = self.inquiry.as_mut().and_then(|inquiry| inquiry.due(&self.watcher, self.began));
            let due = [seen, self.acknowledger.due(), asks].into_iter().flatten().min();
            let clock = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.told.closed() => return,
                Ok(()) = self.shape.changed() => {
                    let size = self.shape.borrow_and_update().size;
                    self.watcher.resize(self.began.elapsed(), size);
                }
                piece = self.reader.next(PIECE) => match piece {
                    Ok(Piece::Bytes(bytes)) => {
                        self.watcher.feed(self.began.elapsed(), &bytes);
                        self.keep_up().await;
                    }
                    Ok(Piece::Gap { .. }) => self.begin_anew().await,
                    // What an agent is that has ended, others know.
                    Ok(Piece::End) | Err(_) => return,
                },
                () = self.desk.again.notified() => self.try_again(),
                Some(ask) = self.asked.recv() => self.waiting.push((self.ends.borrow().end, ask)),
                status = answer(self.inquiry.as_mut()) => {
                    self.watcher.told(self.began.elapsed(), status);
                }
                () = clock => {
                    self.watcher.tick(self.began.elapsed());
                }
            }
            if let Some(inquiry) = &mut self.inquiry {
                inquiry.ask(&self.watcher, self.began);
            }
            self.tell();
            self.acknowledge();
            self.answer();
        }
    }

    /// Goes on where a login worked, if what says so is still there at this moment.
    fn acknowledge(&mut self) {
        let after = screen(&self.kind, &self.watcher).is_some_and(|screen| screen.after_login);
        let there = after && self.is_there();
        self.acknowledger.look(screen(&self.kind, &self.watcher), there, Instant::now());
    }

    /// Whether the screen that was believed last is still there, with all output on it that there is now.
    fn is_there(&mut self) -> bool {
        self.reader.offset() >= self.ends.borrow().end && self.watcher.still_holds()
    }

    /// Lets those look whose output is on the screen.
    fn answer(&mut self) {
        let offset = self.reader.offset();
        let (due, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(at, _)| *at <= offset);
        self.waiting = waiting;
        for (_, ask) in due {
            let look = self.watcher.look();
            let lasted = self.began.elapsed().saturating_sub(look.published.since);
            // Whoever asked may be gone.
            let _ = ask.send(Sight { look, lasted });
        }
    }

    /// An attempt to log in was refused: the keys of its page begin the next one.
    fn try_again(&mut self) {
        if !self.watcher.still_holds() {
            return;
        }
        let screen = screen(&self.kind, &self.watcher);
        let keys = screen.and_then(|screen| screen.login.as_ref()).map(|login| login.retry.as_slice());
        self.acknowledger.press(keys.unwrap_or_default());
    }

    /// Whoever puts out more than can be looked at is looked at now and then.
    async fn keep_up(&mut self) {
        let end = self.ends.borrow().end;
        if end.saturating_sub(self.reader.offset()) > LAG {
            self.reader.seek(end - HISTORY);
            self.begin_anew().await;
        }
    }

    async fn begin_anew(&mut self) {
        let size: Size = self.shape.borrow().size;
        self.watcher = Watcher::new(self.kind.clone(), size);
        self.began = Instant::now();
        self.catch_up().await;
    }

    /// A program sets its terminal up once, and that may lie before what is read here: what is on now was on all the time,
    /// or is switched on in what follows.
    async fn catch_up(&mut self) {
        for mode in SET_UP {
            if self.terminal.is_on(mode).await {
                self.watcher.feed(self.began.elapsed(), format!("\x1b[?{mode}h").as_bytes());
            }
        }
    }

    fn tell(&self) {
        let observation = self.watcher.observation();
        let known = self.told.borrow().as_ref().is_some_and(|seen| seen.observation == *observation);
        if !known {
            let login = observation.login.as_ref().map(|login| self.shown(login));
            let seen = Seen { observation: observation.clone(), login };
            self.told.send_replace(Some(seen.clone()));
            self.passed_on.send_replace(Some(seen));
        }
    }

    /// As the API shows it: its times are the clock's, not the output's.
    fn shown(&self, login: &crate::agents::Login) -> Login {
        let expires = login.expires.map(|at| {
            let from_now = at.saturating_sub(self.began.elapsed());
            iso(now().saturating_add(millis(from_now)))
        });
        let callback = [&login.browser_url, &login.url].into_iter().flatten();
        Login {
            provider: login.provider.clone(),
            method: login.method.as_str().into(),
            url: login.url.clone(),
            url_source: login.source.map(|source| source.as_str().into()),
            browser_url: login.browser_url.clone(),
            callback: callback
                .filter_map(|url| Callback::announced(url))
                .next()
                .map(|callback| callback.to_string()),
            user_code: login.user_code.clone(),
            expires_at: expires,
            refused: login.refused.clone(),
            // These are the agent's, and filled in there.
            ..Login::default()
        }
    }
}

/// What an agent that was asked has written down about itself.
async fn answer(inquiry: Option<&mut Inquiry>) -> String {
    match inquiry {
        Some(inquiry) => inquiry.answer().await,
        None => std::future::pending().await,
    }
}

/// The rule that was believed last.
fn screen<'a>(kind: &'a Kind, watcher: &Watcher) -> Option<&'a crate::agents::Screen> {
    let name = watcher.observation().screen.as_ref()?;
    kind.screens.iter().find(|screen| screen.name == *name)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::Library;
    use crate::daemon::terminal::Extent;
    use crate::wire::service::{log, places};

    #[tokio::test]
    async fn nobody_follows_a_terminal_into_its_next_life() {
        let directory = tempfile::tempdir().expect("a directory");
        let (size, extent) = (Size { cols: 80, rows: 24 }, Extent { end: 0, ended: false });
        let settled = directory.path().join("settled");
        let (terminal, _wishes) = Terminal::start(directory.path(), size, extent, settled);
        let kind = Library::of([], 0).load("claude").expect("a kind");
        let ((seen, mut for_answers), eye) =
            follow(kind, &terminal, Arc::default(), Arc::default(), None, false);
        assert!(eye.look().await.is_some(), "it is followed");
        // Its agent has ended, and is started anew before all of its output was looked at.
        drop(seen);
        let over = async { while for_answers.changed().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(60), over).await.expect("whoever answers is told");
        assert!(eye.look().await.is_none(), "nobody follows it any more");
    }

    #[tokio::test]
    async fn what_was_set_up_before_all_that_is_looked_at_is_still_known() {
        let (rule, much) = ("─".repeat(80), "x".repeat(2 * HISTORY as usize));
        let screen =
            format!("\x1b[?2004h\x1b]0;✳ Claude Code\x07{much}\x1b[2J\x1b[H{rule}\r\n❯ \r\n{rule}\r\n");
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().join(places::TERMINAL);
        std::fs::create_dir(&at).expect("made");
        std::fs::write(at.join(log::segment(0)), &screen).expect("written");
        let extent = Extent { end: screen.len() as u64, ended: false };
        let settled = directory.path().join("settled");
        let size = Size { cols: 80, rows: 24 };
        let (terminal, _wishes) = Terminal::start(directory.path(), size, extent, settled);
        let kind = Library::of([], 0).load("claude").expect("a kind");
        let ((mut seen, _), eye) = follow(kind, &terminal, Arc::default(), Arc::default(), None, false);
        let ready = seen.wait_for(|seen| {
            seen.as_ref().is_some_and(|seen| seen.observation.state == crate::api::State::Ready)
        });
        tokio::time::timeout(Duration::from_secs(60), ready).await.expect("in time").expect("it is followed");
        assert!(eye.look().await.expect("it is followed").look.view.paste, "its pastes are framed");
    }
}
