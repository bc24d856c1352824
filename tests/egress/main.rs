//! The gateway as a process of its own, between two networks that each test makes for itself.

mod carrying;
mod netlink;
mod room;
mod world;
