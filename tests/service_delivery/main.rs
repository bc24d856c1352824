//! Messages that surely arrive: against scripts that show the CLIs' own screens.

mod arriving;
mod channels;
#[path = "../common/mod.rs"]
mod common;
mod questions;
mod restarts;
mod scripted;
#[path = "../service_supervisor/world.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod world;
