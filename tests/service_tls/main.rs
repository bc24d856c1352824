//! What stands between a TCP connection and a handler, tried from outside: real TLS, on the loopback.

#[path = "../common/ports.rs"]
mod ports;

mod handshake;
mod limits;
mod process;
mod reload;
mod requests;
mod world;
