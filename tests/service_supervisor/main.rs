//! The supervisor against the real launcher and real shims.

#[path = "../common/mod.rs"]
mod common;
mod limits;
mod lives;
mod quotas;
mod surviving;
mod talking;
mod usage;
mod verdicts;
mod world;
