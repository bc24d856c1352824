//! Stand-ins for the vendors' hosts.

pub mod model;
pub mod model_answers;
