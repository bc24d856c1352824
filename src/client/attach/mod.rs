//! `stockade attach`: an agent's terminal, here.
//!
//! ```text
//!             opened                    ended, left, signal
//!  Opening ───────────▶ Conversing ─────────────────────────▶ (terminal given back, told why)
//!     ▲                     │ lost
//!     └── Waiting ◀─────────┘        goes on at the offset of the next byte that was not seen
//! ```
//! Output is written before more of it is read, so that nothing piles up here; what is typed waits in a bounded queue.

mod incoming;
mod keys;
mod link;
mod place;
mod progress;

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use self::incoming::Incoming;
use self::keys::{Keys, Leaving};
use self::link::{Receiver, Sender, Wanted};
use self::place::{Place, Window};
use self::progress::Progress;
use super::error::{ClientError, code};
use super::http::Client;
use super::output::Output;
use crate::api::terminal::FromClient;
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
    /// Before the next connection; none after one that was of use.
    pause: Duration,
    /// Since when there is no service.
    away: Option<Away>,
}

/// There is no service.
struct Away {
    since: Instant,
    /// The user knows.
    told: bool,
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
        pause: Duration::ZERO,
        away: None,
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
            let before = self.progress.since(false);
            let next = self.converse(place, link).await?;
            // A service that takes connections only to drop them is not asked without end.
            let was_of_use = self.progress.since(false) != before;
            self.pause = if was_of_use { Duration::ZERO } else { longer(self.pause) };
            let lost = match next {
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
        let why = lost.map(|error| error.line()).unwrap_or_default();
        let why = self.closing.take().unwrap_or(why);
        let Away { since, mut told } =
            self.away.take().unwrap_or(Away { since: Instant::now(), told: false });
        loop {
            let attempted = {
                let attempt = self.attempt(place.is_screen());
                tokio::pin!(attempt);
                loop {
                    tokio::select! {
                        attempted = &mut attempt => break attempted,
                        () = sleep_until(since + NOTICEABLE), if !told => {
                            told = true;
                            let text = format!("stockade: {why}; connecting again, Ctrl-] leaves");
                            place.remark(&text).await.map_err(broken)?;
                        }
                    }
                }
            };
            self.away = Some(Away { since, told });
            let is_spoilt = told && place.is_alternate();
            match attempted {
                // The remark was made during this very attempt: the screen is asked for once more.
                Ok(Ok(_)) if is_spoilt && !self.spoilt => {}
                Ok(Ok(link)) => {
                    self.spoilt = false;
                    return Ok(Ok(link));
                }
                Ok(Err(end)) => return Ok(Err(end)),
                Err(error) if error.is_passing() => {}
                Err(error) if error.exit_code() == code::NOT_FOUND && since.elapsed() < FINDING => {}
                Err(error) => return Err(error),
            }
            self.spoilt |= is_spoilt;
            self.pause = longer(self.pause);
        }
    }

    /// One attempt, after a pause.
    async fn attempt(&mut self, is_screen: bool) -> Result<Result<(Sender, Receiver), End>, ClientError> {
        tokio::select! {
            () = sleep(self.pause) => {}
            end = gone(&mut self.keys, &mut self.signals) => return Ok(Err(end)),
        }
        self.open(is_screen).await
    }

    /// One connection, to its end.
    async fn converse(
        &mut self,
        place: &mut Place,
        (mut sender, mut receiver): (Sender, Receiver),
    ) -> Result<Next, ClientError> {
        let Self { keys, signals, window, progress, closing, output, wanted, away, .. } = self;
        let Signals { interrupt, terminate, hangup, resized, resumed } = signals;
        let mut leaving = keys.leaving.clone();
        let greeted = Notify::new();
        let mut incoming = Incoming {
            receiver: &mut receiver,
            progress,
            closing,
            since: wanted.since,
            output: *output,
            greeted: &greeted,
            away,
        };
        tokio::select! {
            next = incoming.show(place, resumed) => next,
            leaving = transmit(&mut sender, keys, window.as_ref(), resized, &greeted) => Ok(Next::Over(End::Left(leaving))),
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

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(SHORTEST, LONGEST)
}

fn broken(source: io::Error) -> ClientError {
    ClientError::Stream { what: "cannot write the output", source }
}

/// Sends what is typed, and the window's size. Returns once the user has left. A connection that is lost is noticed where
/// output comes from.
async fn transmit(
    sender: &mut Sender,
    keys: &mut Keys,
    window: Option<&Window>,
    resized: &mut Signal,
    greeted: &Notify,
) -> Leaving {
    let mut ping = interval(PING);
    // Before the greeting it would go nowhere.
    let (mut is_greeted, mut typing) = (false, true);
    loop {
        let sent = tokio::select! {
            biased;
            () = greeted.notified(), if !is_greeted => {
                is_greeted = true;
                Ok(())
            }
            _ = resized.recv() => match window.and_then(Window::size) {
                Some(size) => sender.word(&FromClient::Resize(size)).await,
                None => Ok(()),
            },
            typed = keys.typed.recv(), if typing && is_greeted => match typed {
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
