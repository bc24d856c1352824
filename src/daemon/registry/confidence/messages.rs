//! The messages of `confidence.proto`, as they are on the wire.

use std::collections::HashMap;

use prost_types::{Struct, Timestamp};

/// How an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    /// Nobody knows.
    Unknown = 0,
    /// The only one that counts as good.
    Healthy = 1,
    /// Can not be given work.
    Unhealthy = 2,
    /// Somebody has to do something first.
    Degraded = 3,
}

/// What an agent has found, and how sure it is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfidenceResult {
    /// JSON.
    #[prost(string, tag = "1")]
    pub value_json: String,
    /// 0 to 1.
    #[prost(double, tag = "2")]
    pub confidence: f64,
    /// Whose.
    #[prost(string, tag = "3")]
    pub agent_id: String,
    /// When.
    #[prost(message, optional, tag = "4")]
    pub timestamp: Option<Timestamp>,
    /// What it doubts.
    #[prost(string, repeated, tag = "5")]
    pub uncertainties: Vec<String>,
    /// Why.
    #[prost(string, tag = "6")]
    pub reasoning: String,
    /// More.
    #[prost(map = "string, string", tag = "7")]
    pub metadata: HashMap<String, String>,
}

/// What an agent says it can do.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Capabilities {
    /// Its id.
    #[prost(string, tag = "1")]
    pub agent_id: String,
    /// For people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// By name.
    #[prost(string, repeated, tag = "3")]
    pub capabilities: Vec<String>,
    /// 0 to 1.
    #[prost(double, tag = "4")]
    pub expertise_level: f64,
    /// By capability.
    #[prost(map = "string, double", tag = "5")]
    pub capability_scores: HashMap<String, f64>,
}

/// How an agent is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Health {
    /// In one word.
    #[prost(enumeration = "Status", tag = "1")]
    pub status: i32,
    /// In more.
    #[prost(string, tag = "2")]
    pub message: String,
    /// When that was found.
    #[prost(message, optional, tag = "3")]
    pub last_check: Option<Timestamp>,
    /// More.
    #[prost(map = "string, string", tag = "4")]
    pub details: HashMap<String, String>,
}

/// A task for an agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AgentRequest {
    /// May be empty.
    #[prost(string, tag = "1")]
    pub task_id: String,
    /// What to do.
    #[prost(string, tag = "2")]
    pub task_description: String,
    /// What with.
    #[prost(message, optional, tag = "3")]
    pub data: Option<Struct>,
    /// What around.
    #[prost(map = "string, string", tag = "4")]
    pub context: HashMap<String, String>,
    /// 0: whatever is usual.
    #[prost(int32, tag = "5")]
    pub timeout_ms: i32,
    /// For which pattern.
    #[prost(string, tag = "6")]
    pub pattern_name: String,
}
