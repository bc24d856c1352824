//! What an agent has used, as its shim measures it: `usage.json` in the agent's directory while it runs, a part of
//! `exit.json` in the end.
//!
//! Every number counts from the start of this incarnation: whoever reads one late, or twice, loses and doubles nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The counters of one incarnation: from one start of an agent to its end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metered {
    /// Which start of the agent: no other start of any agent has the same.
    pub incarnation: String,
    /// How often it was measured before.
    pub number: u64,
    /// When that start began, in milliseconds since 1970.
    pub since: u64,
    /// When this was measured.
    pub at: u64,
    /// Milliseconds between the two, by a clock that nobody sets.
    pub wall_ms: u64,
    /// Whether nothing of it is left that could use more.
    #[serde(default, rename = "final")]
    pub is_final: bool,
    /// Whether the counters are the kernel's last word; if not, what came after `at` is missing.
    #[serde(default)]
    pub complete: bool,
    /// CPU time of all its processes, in microseconds.
    #[serde(default)]
    pub cpu_us: Option<u64>,
    /// Memory over time, in byte-seconds, from samples.
    #[serde(default)]
    pub memory_byte_seconds: Option<u64>,
    /// What that can have been at the most.
    #[serde(default)]
    pub memory_byte_seconds_at_most: Option<u64>,
    /// Memory at the last look, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The most memory at once, in bytes.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// Bytes read from disks.
    #[serde(default)]
    pub io_read: Option<u64>,
    /// Bytes written to disks.
    #[serde(default)]
    pub io_written: Option<u64>,
    /// Bytes over the network, by where they went: `public`, `private`, `loopback`, `published`, `dns`, `unknown`.
    #[serde(default)]
    pub egress: BTreeMap<String, Carried>,
}

/// Bytes over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Carried {
    /// From the agent.
    pub sent: u64,
    /// To it.
    pub received: u64,
}
