//! `/ws/agents/{id}/terminal`: a terminal in text frames, for xterm.js.

use std::time::Duration;

use axum::Error;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};

use super::handle;
use super::text::Characters;
use crate::api::agent::Size;
use crate::daemon::Daemon;
use crate::daemon::api::pulse::Pulse;
use crate::daemon::api::terminal::{PING, bounded, upgrade};
use crate::daemon::authz::{Action, Caller};
use crate::daemon::problem::Fault;
use crate::daemon::serve::ConnectionWatch;
use crate::daemon::terminal::{Piece, Reader, Terminal, Viewer};

const FRAME: usize = 64 * 1024;
/// As Parallax's local runtime closes for an agent that nobody knows.
const NOT_FOUND: u16 = 4404;

/// An agent's terminal in text frames. One that nobody knows is closed with 4404.
#[utoipa::path(
    get, path = "/ws/agents/{id}/terminal", tag = "parallax",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 101, description = "A WebSocket"), (status = 426, description = "No WebSocket was asked for", body = crate::api::Problem))
)]
pub async fn attach(
    State(daemon): State<Daemon>,
    caller: Caller,
    watch: ConnectionWatch,
    axum::extract::Path(id): axum::extract::Path<String>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Fault> {
    let terminal = daemon.supervisor.terminal(&caller, &id).ok();
    let may_type = caller.may(Action::Operate);
    let attached = terminal.as_ref().and_then(|_| daemon.supervisor.audit().attached(&caller, &id, may_type));
    let run = move |socket| async move {
        // Until the socket is closed; also where it was never opened.
        let _attached = attached;
        match terminal {
            Some(terminal) => run(socket, terminal, id, may_type, watch).await,
            None => refuse(socket).await,
        }
    };
    Ok(bounded(upgrade(socket)?).on_upgrade(run))
}

async fn refuse(mut socket: WebSocket) {
    let close = CloseFrame { code: NOT_FOUND, reason: "Agent not found".into() };
    if socket.send(Message::Close(Some(close))).await.is_ok() {
        // The other side's own close, so that ours is not lost to a reset.
        let _ = tokio::time::timeout(Duration::from_secs(2), socket.recv()).await;
    }
}

async fn run(socket: WebSocket, terminal: Terminal, id: String, may_type: bool, watch: ConnectionWatch) {
    let viewer = terminal.attach(may_type, None, false);
    let reader = terminal.reader(terminal.range().1);
    let (mut sink, stream) = socket.split();
    let pulse = Pulse::default();
    let farewell = tokio::select! {
        ended = show(&mut sink, &terminal, reader, &id, &pulse) => match ended {
            Ok(()) => Some((close_code::NORMAL, "ended")),
            Err(_) => None,
        },
        () = take(stream, &viewer, may_type, &pulse) => None,
        () = pulse.silence() => None,
        closing = watch.closing() => Some((close_code::AWAY, closing.reason())),
    };
    if let Some((code, reason)) = farewell {
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let _ = tokio::time::timeout(Duration::from_secs(2), sink.send(close)).await;
    }
}

/// Output, until the agent ends.
async fn show(
    sink: &mut SplitSink<WebSocket, Message>,
    terminal: &Terminal,
    mut reader: Reader,
    id: &str,
    pulse: &Pulse,
) -> Result<(), Error> {
    let connected = json!({ "type": "connected", "agentId": id, "timestamp": handle::now() });
    sink.send(Message::Text(connected.to_string().into())).await?;
    redraw(sink, terminal, &mut reader).await?;
    let mut characters = Characters::default();
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
    loop {
        let text = tokio::select! {
            piece = reader.next(FRAME) => match piece {
                Ok(Piece::Bytes(bytes)) => characters.feed(&bytes),
                Ok(Piece::Gap { .. }) => {
                    characters = Characters::default();
                    redraw(sink, terminal, &mut reader).await?;
                    continue;
                }
                Ok(Piece::End) => {
                    send(sink, characters.finish(), pulse).await?;
                    return Ok(());
                }
                Err(error) => return Err(Error::new(error)),
            },
            _ = pings.tick() => {
                sink.send(Message::Ping(Bytes::new())).await?;
                continue;
            }
        };
        send(sink, text, pulse).await?;
    }
}

/// The screen as it is, for somebody who has seen nothing of what came before.
async fn redraw(
    sink: &mut SplitSink<WebSocket, Message>,
    terminal: &Terminal,
    reader: &mut Reader,
) -> Result<(), Error> {
    if let Ok(drawing) = terminal.screen().await {
        reader.seek(drawing.offset);
        if drawing.lines.iter().any(|line| !line.trim().is_empty()) {
            let text = String::from_utf8_lossy(&drawing.bytes);
            let mut rest = &text[..];
            while !rest.is_empty() {
                let end = (0..=rest.len().min(FRAME)).rev().find(|at| rest.is_char_boundary(*at));
                let (frame, later) = rest.split_at(end.unwrap_or(rest.len()));
                sink.send(Message::Text(frame.into())).await?;
                rest = later;
            }
        }
    }
    Ok(())
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, text: String, pulse: &Pulse) -> Result<(), Error> {
    if text.is_empty() {
        return Ok(());
    }
    let sending = pulse.at_work();
    sink.send(Message::Text(text.into())).await?;
    drop(sending);
    Ok(())
}

async fn take(mut stream: SplitStream<WebSocket>, viewer: &Viewer, may_type: bool, pulse: &Pulse) {
    while let Some(Ok(message)) = stream.next().await {
        pulse.heard();
        let said = match &message {
            Message::Text(text) => said(text),
            Message::Binary(bytes) => Said::Typed(bytes.clone()),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => Said::Nothing,
        };
        if !may_type {
            continue;
        }
        let done = match said {
            Said::Typed(bytes) => {
                let typing = pulse.at_work();
                let done = viewer.input(bytes).await;
                drop(typing);
                pulse.heard();
                done
            }
            // The last one who resizes has the size.
            Said::Resized(size) => match viewer.take_over().await {
                Ok(()) => viewer.resize(size).await,
                Err(error) => Err(error),
            },
            Said::Nothing => Ok(()),
        };
        if let Err(error) = done {
            tracing::debug!(%error, "typed bytes went nowhere");
        }
    }
}

/// What a frame means.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Typed(Bytes),
    Resized(Size),
    /// JSON that is no resize.
    Nothing,
}

fn said(text: &str) -> Said {
    let typed = || Said::Typed(Bytes::copy_from_slice(text.as_bytes()));
    if !text.starts_with('{') {
        return typed();
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return typed() };
    let length = |name: &str| {
        value[name].as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| (1..=1000).contains(n))
    };
    match (value["type"].as_str(), length("cols"), length("rows")) {
        (Some("resize"), Some(cols), Some(rows)) => Said::Resized(Size { cols, rows }),
        _ => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_typed_unless_it_is_a_json_object() {
        let typed = |text: &str| Said::Typed(Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!(
            said(r#"{"type":"resize","cols":80,"rows":24}"#),
            Said::Resized(Size { cols: 80, rows: 24 })
        );
        for swallowed in [r#"{"type":"ping"}"#, "{}", r#"{"type":"resize","cols":0,"rows":24}"#] {
            assert_eq!(said(swallowed), Said::Nothing, "{swallowed}");
        }
        for text in ["ls\r", "{ echo hi; }", "{", "[1]", "\"x\"", "\x1b[A", "é"] {
            assert_eq!(said(text), typed(text));
        }
    }
}
