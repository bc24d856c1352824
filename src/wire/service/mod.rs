//! Messages between the daemon and the two privileged processes: the launcher, and one shim per agent.
//!
//! ```text
//!  daemon                                   launcher (root)                     shim (one per agent)
//!   │ ── Hello{versions} ──────────────────▶ │
//!   │ ◀─ Welcome{version, boot} ──────────── │
//!   │ ── Launch{id} + order + socket ──────▶ │ checks it against root's policy
//!   │ ◀─ Launched{pid} / Refused{why} ────── │ ── exec: sealed order, socket, claim ─▶ │
//!   │ ◀──────────────────────────────────────── Welcome, Running / Failed, Output … Ended ─ │
//!   │ ── Hello, Input, Resize, Stop … ────────────────────────────────────────────────────▶ │
//! ```
//! Each is one SOCK_SEQPACKET frame: a tag byte, then JSON (`J`) or bytes as they were typed (`I`). JSON, because what
//! an older peer does not know it leaves out of account, and because the messages of every released version are kept as
//! files (`golden/`) that must be understood for ever. A version is negotiated before anything else; a peer without a
//! common one is told so and left alone: a shim goes on without a daemon.

pub mod claim;
#[cfg(test)]
mod golden;
pub mod launcher;
pub mod log;
pub mod order;
pub mod places;
pub mod shim;
pub mod usage;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use launcher::{FromLauncher, Refusal, ToLauncher};
pub use order::Order;
pub use places::Places;
pub use shim::{Ended, FromShim, ToShim};

/// The oldest version that this program speaks.
pub const OLDEST: u16 = 1;
/// The newest. 2: `ToShim::Dial`, `Reason::Busy`. 3: `FromShim::Verdict`.
pub const NEWEST: u16 = 3;
/// The version that a shim must speak to be asked for a connection.
pub const DIALS: u16 = 2;
/// The version that a daemon must speak to be told of decisions as they are made.
pub const HEARS_VERDICTS: u16 = 3;

/// Longest frame. Far below what a unix socket takes at once (net.core.wmem_default, 212992).
pub const LONGEST_FRAME: usize = 64 * 1024;

/// The most typed bytes in one frame.
pub const LONGEST_INPUT: usize = 32 * 1024;

/// The most typed bytes that may be on their way to a shim: more than these, and it closes the connection.
pub const INPUT_WINDOW: u64 = 64 * 1024;

const JSON: u8 = b'J';
const INPUT: u8 = b'I';

/// The versions that a peer speaks, oldest and newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

impl Versions {
    /// This program's.
    pub const OWN: Self = Self { oldest: OLDEST, newest: NEWEST };

    /// The newest that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// What one frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<M> {
    /// A message.
    Message(M),
    /// Bytes for the agent's terminal.
    Input(Vec<u8>),
}

/// Puts a message into a frame.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut frame = vec![JSON];
    serde_json::to_writer(&mut frame, message).expect("a message of ours is always JSON");
    frame
}

/// Puts typed bytes into a frame; at most [`LONGEST_INPUT`].
pub fn encode_input(bytes: &[u8]) -> Vec<u8> {
    [&[INPUT], bytes].concat()
}

/// Reads one frame.
///
/// # Errors
/// When it is none, or holds no message of this kind.
pub fn decode<M: DeserializeOwned>(frame: &[u8]) -> io::Result<Frame<M>> {
    match frame.split_first() {
        Some((&JSON, text)) => Ok(Frame::Message(serde_json::from_slice(text)?)),
        Some((&INPUT, bytes)) if bytes.len() <= LONGEST_INPUT => Ok(Frame::Input(bytes.to_vec())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame of ours")),
    }
}

/// Sends a message, with the descriptors that belong to it.
///
/// # Errors
/// As sendmsg(2).
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    super::send(socket, &encode(message), fds)
}

/// Waits for a frame and at most `most` descriptors; `None` once the peer is gone.
///
/// # Errors
/// As recvmsg(2), and when it is no frame of this kind.
pub fn receive<M: DeserializeOwned>(
    socket: impl AsFd,
    most: usize,
) -> io::Result<Option<(Frame<M>, Vec<OwnedFd>)>> {
    let Some((bytes, fds)) = super::receive_up_to(socket, LONGEST_FRAME, most)? else { return Ok(None) };
    Ok(Some((decode(&bytes)?, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_meet_on_the_newest_version_that_both_speak() {
        let of = |oldest, newest| Versions { oldest, newest };
        assert_eq!(of(1, 3).common(of(2, 5)), Some(3));
        assert_eq!(of(2, 5).common(of(1, 3)), Some(3));
        assert_eq!(of(1, 1).common(of(2, 3)), None);
        assert_eq!(Versions::OWN.common(Versions::OWN), Some(NEWEST));
    }
}
