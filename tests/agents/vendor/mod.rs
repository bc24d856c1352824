//! Stand-ins for the vendors' hosts: nothing here reaches the real ones.

pub mod auth;
pub mod model;
pub mod model_answers;
