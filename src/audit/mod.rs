//! The audit: what was done here, by whom, on whose word; for judges, not for operators.
//!
//! ```text
//!  record(event) ─▶ queue ─▶ one thread: a batch ▸ chain ▸ append ▸ fdatasync ▸ head     ─▶ tickets: synced
//!
//!  0000000000000001.jsonl   {"seq":1,"prev":0…,…,"hash":A}          each line holds the hash of the one before it,
//!                           {"seq":2,"prev":A,…,"hash":B}           and the hash of its own bytes
//!                           {"seq":3,"prev":B,"event":checkpoint…}  now and then one is signed: Ed25519 over seq 2, B
//!  0000000000000004.jsonl   …                                       the chain goes on from one segment to the next
//!  head                     how far the log reaches, signed, after every batch: what is cut off at the end shows
//! ```
//! Nothing here knows of the daemon: the same code writes, reads and verifies. No type of an event can hold what must not be
//! in a log ([`text`]): a secret, a key press, a byte of a terminal, the value of a variable.

mod chain;
pub mod digest;
pub mod event;
pub mod head;
pub mod key;
pub mod parts;
pub mod reader;
pub mod record;
pub mod seal;
pub mod segment;
pub mod text;
pub mod ticket;
pub mod verify;
pub mod writer;

pub use digest::Digest;
pub use event::Event;
pub use key::{Key, PublicKey};
pub use reader::Reader;
pub use record::Record;
pub use seal::Seal;
pub use ticket::{Ticket, Unavailable};
pub use verify::{Report, verify};
pub use writer::{Log, Options};

/// The version of what a line means. Fields and types of events are added without a new one; nothing changes its meaning.
pub const SCHEMA: u32 = 1;
