//! The terminal's WebSocket: what `crate::api::terminal` describes.
//!
//! ```text
//!  Reader ─▶ Writer ─▶ client        one frame at a time: who is slow reads the log later, and nobody waits for it
//!  client ─▶ Typist ─▶ Viewer        waits while the agent takes nothing
//!  Pulse, ConnectionWatch            end both
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::Error;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::broadcast;
use tokio::time::{Interval, MissedTickBehavior};

use super::body::Id;
use super::check;
use super::pulse::Pulse;
use super::query::Query;
use crate::api::agent::{Size, State as AgentState};
use crate::api::events::{Event, Happened};
use crate::api::terminal::{FromClient, FromServer};
use crate::daemon::Daemon;
use crate::daemon::authz::{Action, Caller};
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;
use crate::daemon::supervisor::Supervisor;
use crate::daemon::terminal::{Changes, Piece, Reader, Terminal, Viewer};

/// One frame of output, at most.
const FRAME: usize = 64 * 1024;
/// What a client may send at once, in one frame or in several.
const LONGEST_MESSAGE: usize = 1024 * 1024;
/// What may wait for a client that does not read; more than any frame of ours has.
const MOST_UNREAD: usize = 4 * 1024 * 1024;
/// A viewer that says nothing gets a ping this often.
pub const PING: Duration = Duration::from_secs(20);

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    since: Option<u64>,
    may_type: bool,
    take_over: bool,
    size: Option<Size>,
}

/// An agent's terminal: output as binary frames, typed bytes as binary frames, JSON in text frames.
#[utoipa::path(
    get, path = "/v1/agents/{id}/terminal", tag = "terminal",
    params(
        ("id" = String, Path, description = "The agent"),
        ("since" = Option<u64>, Query, description = "Go on from this byte of output, without a screen first"),
        ("mode" = Option<String>, Query, description = "`view` or `type`; not given: `type` if the caller may"),
        ("takeover" = Option<bool>, Query, description = "This viewer's size becomes the terminal's"),
        ("cols" = Option<u16>, Query, description = "This viewer's size", minimum = 1, maximum = 1000),
        ("rows" = Option<u16>, Query, description = "This viewer's size", minimum = 1, maximum = 1000)
    ),
    responses((status = 101, description = "A WebSocket"), (status = 426, description = "No WebSocket was asked for", body = crate::api::Problem))
)]
pub async fn attach(
    State(daemon): State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    id: Id,
    query: Query,
    socket: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Fault> {
    let wanted = wanted(&caller, &query)?;
    let terminal = daemon.supervisor.terminal(&caller, id.as_str())?;
    let socket = upgrade(socket)?;
    let id = id.as_str().to_owned();
    let session = Session { supervisor: daemon.supervisor.clone(), caller, id, terminal, wanted };
    Ok(bounded(socket).on_upgrade(|socket| session.run(socket, watch)))
}

/// What this side holds for a client: of a message that has not come as a whole, and of answers to pings of one that sends
/// them and reads nothing.
pub fn bounded(socket: WebSocketUpgrade) -> WebSocketUpgrade {
    socket
        .max_message_size(LONGEST_MESSAGE)
        .max_frame_size(LONGEST_MESSAGE)
        .max_write_buffer_size(MOST_UNREAD)
}

/// The upgrade that was asked for.
///
/// # Errors
/// 426 if none was.
pub fn upgrade(
    socket: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, Fault> {
    socket.map_err(|rejection| {
        let detail = format_args!("this is a WebSocket, and the request is none: {rejection}");
        Fault::new(http::StatusCode::UPGRADE_REQUIRED, "upgrade-required", detail)
    })
}

fn wanted(caller: &Caller, query: &Query) -> Result<Wanted, Fault> {
    query.only(&["since", "mode", "takeover", "cols", "rows"])?;
    let operator = caller.may(Action::Operate);
    let may_type = match query.one("mode") {
        None => operator,
        Some("view") => false,
        Some("type") if operator => true,
        Some("type") => {
            let detail = "typing takes the role operator: use mode=view to look on";
            return Err(Fault::forbidden("role", detail));
        }
        Some(other) => {
            return Err(Fault::malformed_field("mode", format_args!("mode={other:?}: use view or type")));
        }
    };
    let size = match (query.number("cols")?, query.number("rows")?) {
        (Some(cols), Some(rows)) => Some(Size { cols, rows }),
        (None, None) => None,
        _ => return Err(Fault::malformed_field("cols", "cols: give both cols and rows, or neither")),
    };
    if let Some(size) = size {
        check::size("cols", size)?;
    }
    Ok(Wanted { since: query.number("since")?, may_type, take_over: query.flag("takeover")?, size })
}

struct Session {
    supervisor: Supervisor,
    caller: Caller,
    id: String,
    terminal: Terminal,
    wanted: Wanted,
}

impl Session {
    async fn run(self, socket: WebSocket, connection: ConnectionWatch) {
        let (sink, stream) = socket.split();
        let pulse = Pulse::default();
        let Wanted { may_type, take_over, size, .. } = self.wanted;
        let viewer = Arc::new(self.terminal.attach(may_type, size, take_over && may_type));
        let _attached = self.supervisor.audit().attached(&self.caller, &self.id, may_type);
        let typist = Typist { viewer: viewer.clone(), may_type };
        let mut writer = self.writer(sink, viewer);
        // What ends first ends all; whatever is under way is dropped with it.
        let farewell = {
            tokio::select! {
                farewell = writer.run(&pulse) => farewell,
                () = typist.run(stream, &pulse) => None,
                () = pulse.silence() => None,
                closing = connection.closing() => Some(Farewell::Closing(closing.reason())),
            }
        };
        if let Some(farewell) = farewell {
            // A client that takes nothing any more is not waited for.
            let _ = tokio::time::timeout(Duration::from_secs(2), writer.leave(farewell)).await;
        }
    }

    fn writer(self, sink: SplitSink<WebSocket, Message>, viewer: Arc<Viewer>) -> Writer {
        let (_, end) = self.terminal.range();
        // An offset that was never reached is nobody's: a fresh screen then.
        let resumed = self.wanted.since.filter(|since| *since <= end);
        let (_, events) = self.supervisor.events().follow(None);
        Writer {
            sink,
            changes: viewer.changes(),
            viewer,
            reader: self.terminal.reader(resumed.unwrap_or(end)),
            resumed: resumed.is_some(),
            events: Some(events),
            shown: None,
            session: self,
        }
    }
}

/// From the client to the agent.
struct Typist {
    viewer: Arc<Viewer>,
    may_type: bool,
}

impl Typist {
    async fn run(self, mut stream: SplitStream<WebSocket>, pulse: &Pulse) {
        while let Some(Ok(message)) = stream.next().await {
            pulse.heard();
            match message {
                Message::Binary(bytes) if self.may_type => {
                    let waiting = pulse.at_work();
                    // An agent that cannot be typed to may still be looked at.
                    let typed = self.viewer.input(bytes).await;
                    drop(waiting);
                    pulse.heard();
                    if let Err(error) = typed {
                        tracing::debug!(%error, "typed bytes went nowhere");
                    }
                }
                Message::Text(text) => self.wish(&text).await,
                Message::Close(_) => return,
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }

    async fn wish(&self, text: &str) {
        let done = match serde_json::from_str(text) {
            Ok(FromClient::Resize(size)) if check::size("size", size).is_ok() => {
                self.viewer.resize(size).await
            }
            Ok(FromClient::Takeover) if self.may_type => self.viewer.take_over().await,
            // What this version does not know, and what makes no sense, it leaves out of account.
            Ok(_) | Err(_) => Ok(()),
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the terminal takes no size");
        }
    }
}

/// How a session ends, as far as the client is told.
enum Farewell {
    Ended,
    Closing(&'static str),
    Failed,
}

/// From the agent to the client.
struct Writer {
    sink: SplitSink<WebSocket, Message>,
    viewer: Arc<Viewer>,
    changes: Changes,
    reader: Reader,
    resumed: bool,
    events: Option<broadcast::Receiver<Arc<Event>>>,
    shown: Option<AgentState>,
    session: Session,
}

/// What there is to do next.
enum Next {
    Piece(std::io::Result<Piece>),
    Size(Size),
    Event(Result<Arc<Event>, broadcast::error::RecvError>),
    Ping,
}

impl Writer {
    /// `None`: the client is gone.
    async fn run(&mut self, pulse: &Pulse) -> Option<Farewell> {
        self.carry(pulse).await.unwrap_or(None)
    }

    async fn carry(&mut self, pulse: &Pulse) -> Result<Option<Farewell>, Error> {
        let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.greet().await?;
        loop {
            match self.next(&mut pings).await {
                Next::Piece(Ok(Piece::Bytes(bytes))) => self.send(Message::Binary(bytes), pulse).await?,
                Next::Piece(Ok(Piece::Gap { from, .. })) => self.screen(Some(from)).await?,
                Next::Piece(Ok(Piece::End)) => return Ok(Some(Farewell::Ended)),
                Next::Piece(Err(error)) => {
                    tracing::warn!(agent = %self.session.id, %error, "terminal log cannot be read");
                    return Ok(Some(Farewell::Failed));
                }
                Next::Size(size) => {
                    let owns_size = self.viewer.owns_size();
                    self.say(&FromServer::Size { size, owns_size }).await?;
                }
                Next::Event(event) => self.state(event).await?,
                Next::Ping => self.send(Message::Ping(Bytes::new()), pulse).await?,
            }
        }
    }

    async fn next(&mut self, pings: &mut Interval) -> Next {
        let Self { events, reader, changes, .. } = self;
        let event = async {
            match events {
                Some(events) => events.recv().await,
                None => std::future::pending().await,
            }
        };
        // By chance among what is ready, so that a flood of output keeps no ping and no size waiting for ever.
        tokio::select! {
            piece = reader.next(FRAME) => Next::Piece(piece),
            size = changes.next() => Next::Size(size),
            event = event => Next::Event(event),
            _ = pings.tick() => Next::Ping,
        }
    }

    async fn greet(&mut self) -> Result<(), Error> {
        let (oldest, end) = self.session.terminal.range();
        let size = match self.session.supervisor.get(&self.session.caller, &self.session.id) {
            Ok(agent) => {
                self.shown = Some(agent.state);
                agent.size
            }
            Err(_) => Size { cols: 120, rows: 40 },
        };
        let attached = FromServer::Attached {
            id: self.session.id.clone(),
            offset: if self.resumed { self.reader.offset().max(oldest) } else { end },
            may_type: self.session.wanted.may_type,
            owns_size: self.viewer.owns_size(),
            size,
        };
        self.say(&attached).await?;
        if let Some(state) = self.shown {
            self.say(&FromServer::State { state }).await?;
        }
        if self.resumed { Ok(()) } else { self.screen(None).await }
    }

    /// A fresh screen; after a gap from `lost` on.
    async fn screen(&mut self, lost: Option<u64>) -> Result<(), Error> {
        let drawing = match self.session.terminal.screen().await {
            Ok(drawing) => drawing,
            Err(error) => {
                tracing::warn!(agent = %self.session.id, %error, "no screen to show");
                return Ok(());
            }
        };
        if let Some(from) = lost {
            self.say(&FromServer::Gap { from, to: drawing.offset }).await?;
        }
        let bytes = drawing.bytes.len() as u64;
        self.say(&FromServer::Screen { offset: drawing.offset, bytes }).await?;
        let mut rest = drawing.bytes;
        while !rest.is_empty() {
            let frame = rest.split_to(rest.len().min(FRAME));
            self.sink.send(Message::Binary(frame)).await?;
        }
        self.reader.seek(drawing.offset);
        Ok(())
    }

    async fn state(&mut self, event: Result<Arc<Event>, broadcast::error::RecvError>) -> Result<(), Error> {
        let state = match event {
            Ok(event) if event.agent.as_deref() == Some(self.session.id.as_str()) => match &event.happened {
                Happened::AgentState(agent) => agent.state,
                _ => return Ok(()),
            },
            Ok(_) => return Ok(()),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                match self.session.supervisor.get(&self.session.caller, &self.session.id) {
                    Ok(agent) => agent.state,
                    Err(_) => return Ok(()),
                }
            }
            Err(broadcast::error::RecvError::Closed) => {
                self.events = None;
                return Ok(());
            }
        };
        if self.shown.replace(state) == Some(state) {
            return Ok(());
        }
        self.say(&FromServer::State { state }).await
    }

    async fn leave(&mut self, farewell: Farewell) -> Result<(), Error> {
        let (frame, code, reason) = match farewell {
            Farewell::Ended => {
                // The log may have ended a moment before the agent is shown as ended.
                let Session { supervisor, caller, id, .. } = &self.session;
                let ended = supervisor.wait(caller, id, Duration::from_secs(1)).await;
                let exit_code = ended.ok().flatten().and_then(|agent| agent.exit_code);
                (Some(FromServer::Ended { exit_code }), close_code::NORMAL, "ended")
            }
            Farewell::Closing(reason) => {
                (Some(FromServer::Closing { reason: reason.into() }), close_code::AWAY, reason)
            }
            Farewell::Failed => (None, close_code::ERROR, "the terminal log cannot be read"),
        };
        if let Some(frame) = frame {
            self.say(&frame).await?;
        }
        self.sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await
    }

    async fn say(&mut self, frame: &FromServer) -> Result<(), Error> {
        let text = serde_json::to_string(frame).expect("a frame is always JSON");
        self.sink.send(Message::Text(text.into())).await
    }

    async fn send(&mut self, message: Message, pulse: &Pulse) -> Result<(), Error> {
        let sending = pulse.at_work();
        let sent = self.sink.send(message).await;
        drop(sending);
        sent
    }
}
