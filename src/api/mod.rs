//! What travels between a service and its clients, in both directions: the types of `/v1`.
//!
//! camelCase in JSON, ISO 8601 in UTC for times, bytes as plain numbers. What a client does not know it leaves out of
//! account; what a service does not know in a request it refuses, by name.

pub mod agent;
pub mod delivery;
pub mod events;
pub mod login;
pub mod node;
pub mod problem;
pub mod screen;
pub mod terminal;
pub mod usage;

pub use agent::{Agent, AgentPage, Spawn, State};
pub use delivery::{Delivery, Stage};
pub use login::Login;
pub use problem::Problem;
