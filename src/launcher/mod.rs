//! The launcher: root, single-threaded, no network. It starts a shim for an order that root's own policies allow.
//!
//! It believes nothing that the daemon says: an order holds names, and what they stand for is decided here.
