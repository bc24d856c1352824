//! From a TCP connection to a handler.
//!
//! ```text
//!  accept ─▶ handshake (few per address, not for long) ─▶ open (counted, watched) ─▶ request ─▶ router
//!                                                          │   ▲
//!                                       ConnectionWatch ◀──┘   └── another material, an expiry, the end
//! ```
//! A connection costs a task and a few buffers of bounded size, however slow its client is: what is not read is not
//! produced, what is not sent in time ends the connection.

pub mod accept;
pub mod body;
pub mod connection;
pub mod health;
pub mod listener;
pub mod open;
pub mod peer;
mod quiet;
pub mod rate;
pub mod request;
pub mod tied;
pub mod watch;

pub use accept::Server;
pub use peer::Peer;
pub use request::RequestId;
pub use watch::{Closing, ConnectionWatch};
