//! The supervisor against the real launcher and real shims.

#[path = "../common/mod.rs"]
mod common;
mod lives;
mod world;
