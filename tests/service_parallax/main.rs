//! The face of Parallax, driven by a client that was written from the contract alone: `docs/parallax.md`.

mod agents;
mod driven;
mod executor;
mod logins;
mod sockets;
mod survival;
mod threads;
mod traps;
mod world;
