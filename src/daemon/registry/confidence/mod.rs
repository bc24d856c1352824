//! `parallax.confidence.ConfidenceAgent`: a registered agent answers there, by gRPC. An entry is a promise of that.
//!
//! No request says which agent it is meant for, so each has a door of its own: a socket that only some may open, or a port
//! of the loopback, where nothing is encrypted and nobody is asked who they are; or a name on the service's own port.

mod agent;
mod doors;
mod messages;
mod named;
mod service;

use std::pin::Pin;
use std::time::Duration;

pub use doors::Doors;
pub use messages::{AgentRequest, Capabilities, ConfidenceResult, Health, Status};
pub use named::{Named, routes};

/// Who carries a message to an agent, and its answer back.
pub trait Turns: Send + Sync + 'static {
    /// One turn of an agent in this tenant: types `text`, waits for the answer at most so long. Dropping it gives up waiting.
    fn turn(&self, tenant: &str, agent: &str, text: String, patience: Duration) -> Answer;
}

/// What came of a turn.
pub type Answer = Pin<Box<dyn Future<Output = Result<String, TurnError>> + Send>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// It works on something else, or waits for somebody.
    #[error("{0}")]
    NotNow(String),
    /// No answer in time.
    #[error("the agent has not answered within {0:?}")]
    Late(Duration),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}
