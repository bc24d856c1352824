//! Stand-ins for the vendors' hosts: nothing here reaches the real ones.

pub mod auth;
