//! The gateway as a process of its own, between two networks that each test makes for itself.

mod carrying;
mod clients;
mod echoing;
mod injecting;
mod inside;
mod netlink;
mod refusing;
mod room;
mod streaming;
mod surviving;
mod tls;
mod world;
