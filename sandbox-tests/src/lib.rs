//! Tries to get out of a sandbox, from inside.
//!
//! ```text
//!  cargo test ──▶ runner::belt      throw-away namespaces and root; nothing an attempt does reaches the machine
//!                    │ decoys       what an attempt would find outside: listeners, secrets, processes, queues
//!                    ▼
//!                 runner::start     bare │ bubblewrap │ stockade run
//!                    ▼
//!                 probe run ID      one attempt, one process, one verdict
//! ```
//!
//! | module | noun | runs |
//! |---|---|---|
//! | [`attempt`] | one way out, and how to tell whether it was open | both |
//! | [`attempts`] | all of them, one file per class | inside |
//! | [`prober`] | the `probe` command | inside |
//! | [`decoys`] | what the runner plants, by name | both |
//! | [`kernel`] | raw system calls, and what their errors say | inside |
//! | [`runner`] | belt, starters, leak check, summary | outside |
//! | [`hide`] | the `hide` command | outside |
#![allow(unsafe_code)]

pub mod attempt;
pub mod attempts;
pub mod decoys;
pub mod hide;
pub mod kernel;
pub mod prober;
pub mod runner;
