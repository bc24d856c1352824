//! What is known about each agent CLI: how it is started, what its screen says, where it logs in, how a message is typed.
//!
//! ```text
//!  policies/agents/*.toml ─▶ Library ─▶ Kind ──────────┐
//!                                                       ▼
//!  bytes ─▶ strings (titles, reports, links) ─▶ emulator ─▶ view ─▶ rules ─▶ Watcher ─▶ Observation
//! ```
//! Kinds are data. Nothing here reads a clock, a file of the agent's or a socket: the daemon feeds live output, a replay
//! feeds a recording, and both get the same answers at the same times.

pub mod callback;
pub mod cast;
pub mod emulator;
pub mod error;
pub mod kind;
pub mod library;
pub mod login;
pub mod marker;
pub mod replay;
pub mod strings;
pub mod turn;
pub mod turn_log;
pub mod typing;
pub mod url;
pub mod view;
pub mod watcher;

pub use error::KindError;
pub use kind::{Answered, Kind, Launch, Screen};
pub use library::Library;
pub use login::Login;
pub use watcher::{Doubt, Look, Observation, Watcher};
