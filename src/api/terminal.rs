//! The terminal's WebSocket, `GET /v1/agents/{id}/terminal?since=OFFSET&mode=view|type&takeover=true&cols=&rows=`.
//!
//! ```text
//!  server ── text {"type":"attached", …} ─────────▶ client    who owns the size, from which offset bytes follow
//!         ── text {"type":"screen", …}, binary ───▶           full state as bytes; then output goes on at `offset`
//!         ── binary ──────────────────────────────▶           output, exactly as the terminal put it out
//!         ── text {"type":"gap", …} ──────────────▶           bytes from..to are lost; a screen follows
//!         ◀─ binary ──────────────────────────────            typed bytes
//!         ◀─ text {"type":"resize" | "takeover"} ──────
//! ```
//! With `since` within what is kept, output goes on from exactly that byte, without a screen. Without it a screen comes
//! first. Binary frames hold nothing but terminal bytes: the client counts them to know its offset.

use serde::{Deserialize, Serialize};

use super::agent::{Size, State};

/// Text frames from the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum FromServer {
    /// The first.
    #[serde(rename_all = "camelCase")]
    Attached {
        /// The agent.
        id: String,
        /// The offset of the first byte that will follow.
        offset: u64,
        /// Whether what is typed here reaches the agent.
        may_type: bool,
        /// Whether this viewer's size is the terminal's.
        owns_size: bool,
        /// The terminal's size.
        size: Size,
    },
    /// The next binary frames, `bytes` long in all, draw the screen as it was at `offset`; they do not count as output.
    Screen {
        /// Output goes on from here.
        offset: u64,
        /// So many bytes of drawing.
        bytes: u64,
    },
    /// These bytes of output are lost for this viewer; a screen follows.
    Gap {
        /// The first lost one.
        from: u64,
        /// The first that is there again.
        to: u64,
    },
    /// Somebody resized the terminal, or the size has another owner.
    #[serde(rename_all = "camelCase")]
    Size {
        /// The size now.
        size: Size,
        /// Whether it is this viewer's.
        owns_size: bool,
    },
    /// The agent's state.
    State {
        /// What it is doing.
        state: State,
    },
    /// The agent has ended; the socket is closed after this.
    #[serde(rename_all = "camelCase")]
    Ended {
        /// As a shell gives it.
        exit_code: Option<u8>,
    },
    /// The socket is closed after this, and why: `certificate-expired`, `revoked`, `draining`.
    Closing {
        /// Why.
        reason: String,
    },
    /// What this version does not know.
    #[serde(other)]
    Other,
}

/// Text frames from a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum FromClient {
    /// This viewer's size; it becomes the terminal's if this viewer owns that.
    Resize(Size),
    /// From now on this viewer owns the size.
    Takeover,
}
