//! Who is at the other end of a connection, as the verifier saw it.

use std::net::SocketAddr;
use std::time::SystemTime;

/// The verified certificate of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// URI SAN, else DNS SAN.
    pub identity: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// After this its connections are closed.
    pub not_after: SystemTime,
    /// Where it connects from.
    pub address: SocketAddr,
}
