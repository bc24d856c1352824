//! `stockade attach`: an agent's terminal, here.
//!
//! ```text
//!             opened                    ended, left, signal
//!  Opening ───────────▶ Conversing ─────────────────────────▶ (terminal given back, told why)
//!     ▲                     │ lost
//!     └── Waiting ◀─────────┘        goes on at the offset of the next byte that was not seen
//! ```
//! Output is written before more of it is read, so that nothing piles up here; what is typed waits in a bounded queue.

mod keys;
mod link;
mod place;
mod progress;

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use self::keys::{Keys, Leaving};
use self::link::{Received, Receiver, Sender, Wanted};
use self::place::{Place, Window};
use self::progress::Progress;
use super::error::{ClientError, code};
use super::http::Client;
use super::output::Output;
use crate::api::terminal::{FromClient, FromServer};
use crate::cli::service::terminal as words;

/// How long a terminal in the background waits before it is looked at again.
const RECHECK: Duration = Duration::from_millis(200);
/// A connection that carries nothing is asked for a sign of life: only what is sent can show that the network is gone.
const PING: Duration = Duration::from_secs(10);
/// For what was typed last, and for a terminal that takes nothing any more.
const GRACE: Duration = Duration::from_secs(1);
/// What is shorter nobody needs to know.
const NOTICEABLE: Duration = Duration::from_secs(2);
/// Between attempts to connect again.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// A service that was just started may not have found its agents again.
const FINDING: Duration = Duration::from_secs(10);

/// Why it is over.
#[derive(Debug)]
enum End {
    /// The agent has ended.
    Ended(Option<u8>),
    /// The user has left.
    Left(Leaving),
    /// This process was told to end.
    Signal(u8),
}

/// What becomes of one connection.
enum Next {
    Over(End),
    /// It was lost.
    Lost(ClientError),
    /// The screen is to be drawn anew.
    Redraw,
}

struct Session<'a> {
    client: &'a Client,
    output: Output,
    wanted: Wanted,
    window: Option<Window>,
    keys: Keys,
    signals: Signals,
    progress: Progress,
    /// Why the service said it would close the connection.
    closing: Option<String>,
    /// Others' words and ours have spoilt the screen.
    spoilt: bool,
}

/// Attaches.
pub async fn attach(client: &Client, output: Output, words: words::Attach) -> Result<u8, ClientError> {
    let failed = |source| ClientError::Stream { what: "cannot use this terminal", source };
    let mut place = Place::find().map_err(failed)?;
    let window = place.window();
    let wanted = Wanted {
        id: words.id,
        since: words.since,
        may_type: !words.read_only,
        takeover: words.takeover,
        size: None,
    };
    let mut session = Session {
        client,
        output,
        wanted,
        window,
        keys: place.keys(words.read_only).map_err(failed)?,
        signals: Signals::listen().map_err(failed)?,
        progress: Progress::from(words.since),
        closing: None,
        spoilt: false,
    };
    let end = session.run(&mut place).await;
    // A terminal that takes nothing any more must not keep us.
    let _ = timeout(GRACE, place.leave()).await;
    drop(place);
    session.tell(end?)
}

impl Session<'_> {
    async fn run(&mut self, place: &mut Place) -> Result<End, ClientError> {
        // The terminal is the shell's until there is something to show.
        let mut link = match self.open(place.is_screen()).await? {
            Ok(link) => link,
            Err(end) => return Ok(end),
        };
        place.enter().map_err(broken)?;
        loop {
            let lost = match self.converse(place, link).await? {
                Next::Over(end) => return Ok(end),
                Next::Lost(error) => Some(error),
                Next::Redraw => {
                    self.spoilt = true;
                    None
                }
            };
            link = match self.open_again(place, lost).await? {
                Ok(link) => link,
                Err(end) => return Ok(end),
            };
        }
    }

    /// One attempt, unless the user leaves meanwhile.
    async fn open(&mut self, is_screen: bool) -> Result<Result<(Sender, Receiver), End>, ClientError> {
        self.wanted.since = if self.spoilt { None } else { self.progress.since(is_screen) };
        self.wanted.size = self.window.as_ref().and_then(Window::size).filter(|_| self.wanted.may_type);
        tokio::select! {
            link = link::open(self.client, &self.wanted) => link.map(Ok),
            end = gone(&mut self.keys, &mut self.signals) => Ok(Err(end)),
        }
    }

    /// Until it goes well, or cannot.
    async fn open_again(
        &mut self,
        place: &mut Place,
        lost: Option<ClientError>,
    ) -> Result<Result<(Sender, Receiver), End>, ClientError> {
        let begun = Instant::now();
        let mut notice = Some(begun + NOTICEABLE);
        let mut pause = SHORTEST;
        let why = lost.map(|error| error.line()).unwrap_or_default();
        let why = self.closing.take().unwrap_or(why);
        loop {
            let attempted = {
                let attempt = self.open(place.is_screen());
                tokio::pin!(attempt);
                loop {
                    tokio::select! {
                        attempted = &mut attempt => break attempted,
                        () = sleep_until(notice.unwrap_or(begun)), if notice.is_some() => {
                            notice = None;
                            let text = format!("stockade: {why}; connecting again, Ctrl-] leaves");
                            place.remark(&text).await.map_err(broken)?;
                        }
                    }
                }
            };
            let is_spoilt = notice.is_none() && place.is_alternate();
            match attempted {
                // The remark was made during this very attempt: the screen is asked for once more.
                Ok(Ok(_)) if is_spoilt && !self.spoilt => {}
                Ok(Ok(link)) => {
                    if notice.is_none() && !is_spoilt {
                        place.remark("stockade: connected again").await.map_err(broken)?;
                    }
                    self.spoilt = false;
                    return Ok(Ok(link));
                }
                Ok(Err(end)) => return Ok(Err(end)),
                Err(error) if error.is_passing() => {}
                Err(error) if error.exit_code() == code::NOT_FOUND && begun.elapsed() < FINDING => {}
                Err(error) => return Err(error),
            }
            self.spoilt |= is_spoilt;
            tokio::select! {
                () = sleep(pause) => {}
                end = gone(&mut self.keys, &mut self.signals) => return Ok(Err(end)),
            }
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// One connection, to its end.
    async fn converse(
        &mut self,
        place: &mut Place,
        (mut sender, mut receiver): (Sender, Receiver),
    ) -> Result<Next, ClientError> {
        let Self { keys, signals, window, progress, closing, output, wanted, .. } = self;
        let Signals { interrupt, terminate, hangup, resized, resumed } = signals;
        let mut leaving = keys.leaving.clone();
        let mut incoming =
            Incoming { receiver: &mut receiver, progress, closing, since: wanted.since, output: *output };
        tokio::select! {
            next = incoming.show(place, resumed) => next,
            leaving = transmit(&mut sender, keys, window.as_ref(), resized) => Ok(Next::Over(End::Left(leaving))),
            leaving = too_long_gone(&mut leaving) => Ok(Next::Over(End::Left(leaving))),
            signal = told_to_end(interrupt, terminate, hangup) => Ok(Next::Over(End::Signal(signal))),
        }
    }

    fn tell(&self, end: End) -> Result<u8, ClientError> {
        let id = &self.wanted.id;
        if self.progress.missed > 0 {
            self.output
                .remark(&format!("{} bytes of output were not kept, and were missed", self.progress.missed));
        }
        match end {
            End::Ended(Some(code)) => self.output.remark(&format!("{id} has ended: exit code {code}")),
            End::Ended(None) => self.output.remark(&format!("{id} has ended")),
            End::Left(Leaving::Wish) => {
                self.output.remark(&format!("left {id}; it goes on: stockade attach {id}"));
            }
            End::Left(Leaving::HungUp) => return Ok(129),
            End::Signal(number) => return Ok(128 + number),
        }
        Ok(code::OK)
    }
}

fn broken(source: io::Error) -> ClientError {
    ClientError::Stream { what: "cannot write the output", source }
}

/// What comes from the service.
struct Incoming<'a> {
    receiver: &'a mut Receiver,
    progress: &'a mut Progress,
    closing: &'a mut Option<String>,
    since: Option<u64>,
    output: Output,
}

impl Incoming<'_> {
    /// Shows it as it comes.
    async fn show(&mut self, place: &mut Place, resumed: &mut Signal) -> Result<Next, ClientError> {
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
            FromServer::Attached { offset, .. } => self.progress.attached(self.since, offset),
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

/// Sends what is typed, and the window's size. Returns once the user has left. A connection that is lost is noticed where
/// output comes from.
async fn transmit(
    sender: &mut Sender,
    keys: &mut Keys,
    window: Option<&Window>,
    resized: &mut Signal,
) -> Leaving {
    let mut ping = interval(PING);
    let mut typing = true;
    loop {
        let sent = tokio::select! {
            biased;
            typed = keys.typed.recv(), if typing => match typed {
                Some(bytes) => sender.typed(bytes).await,
                None => {
                    typing = false;
                    Ok(())
                }
            },
            leaving = left(&mut keys.leaving) => {
                sender.close().await;
                return leaving;
            }
            _ = resized.recv() => match window.and_then(Window::size) {
                Some(size) => sender.word(&FromClient::Resize(size)).await,
                None => Ok(()),
            },
            _ = ping.tick() => sender.ping().await,
        };
        if sent.is_err() {
            return left(&mut keys.leaving).await;
        }
    }
}

async fn left(leaving: &mut tokio::sync::watch::Receiver<Option<Leaving>>) -> Leaving {
    match leaving.wait_for(Option::is_some).await {
        Ok(why) => why.expect("it was waited for"),
        // Whoever reads keys says so before it ends; a stream's reader never does.
        Err(_) => std::future::pending().await,
    }
}

/// What was typed last has had its time.
async fn too_long_gone(leaving: &mut tokio::sync::watch::Receiver<Option<Leaving>>) -> Leaving {
    let why = left(leaving).await;
    sleep(GRACE).await;
    why
}

async fn gone(keys: &mut Keys, signals: &mut Signals) -> End {
    let Signals { interrupt, terminate, hangup, .. } = signals;
    tokio::select! {
        leaving = left(&mut keys.leaving) => End::Left(leaving),
        signal = told_to_end(interrupt, terminate, hangup) => End::Signal(signal),
    }
}

/// The number of the signal.
async fn told_to_end(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Signal) -> u8 {
    tokio::select! {
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
        _ = hangup.recv() => 1,
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    resized: Signal,
    resumed: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            resized: signal(SignalKind::window_change())?,
            resumed: signal(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }
}
