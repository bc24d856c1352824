//! From a TCP connection to a handler.

pub mod peer;
pub mod watch;

pub use peer::Peer;
pub use watch::{Closing, ConnectionWatch};
