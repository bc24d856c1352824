//! What stands between a TCP connection and a handler, tried from outside: real TLS, on the loopback.

mod handshake;
mod limits;
mod process;
mod reload;
mod requests;
mod world;
