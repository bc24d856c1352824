//! Between the daemon and the shim of one agent.
//!
//! The output itself does not pass here: the shim appends it to the terminal log in the agent's directory
//! (`terminal/`), and says how far that reaches. A daemon reads the files, at its own pace; whoever is slow slows nobody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::order::Size;
use super::usage::Metered;
use super::{Refusal, Versions};

/// What a daemon says to a shim. The first message is `Hello`; typed bytes travel in frames of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum ToShim {
    /// Who speaks which versions.
    Hello {
        /// The daemon's.
        versions: Versions,
    },
    /// The terminal's size.
    Resize(Size),
    /// To the agent's process group.
    Signal {
        /// Its number, 1 to 64.
        number: i32,
    },
    /// SIGTERM to the agent; the whole cgroup is killed when the time is over.
    #[serde(rename_all = "camelCase")]
    Stop {
        /// Milliseconds; 0: at once.
        grace_ms: u64,
    },
    /// How much the agent has used; answered by `Usage`.
    Usage,
    /// Run something else within the agent's walls. Two or three descriptors come with it: its standard streams; with a
    /// terminal only one, a socket over which a PTY master comes back.
    #[serde(rename_all = "camelCase")]
    Exec {
        /// Chosen by the daemon; comes back with `ExecEnded`.
        exec: u64,
        /// Program and arguments.
        command: Vec<String>,
        /// On top of the agent's variables.
        #[serde(default)]
        environment: BTreeMap<String, String>,
    },
    /// Kill what was run by `Exec`, with its process group. `ExecEnded` follows; if it has ended, nothing does.
    #[serde(rename_all = "camelCase")]
    EndExec {
        /// Which.
        exec: u64,
    },
    /// Connect to a server within the agent's walls. One descriptor comes with it, a SOCK_SEQPACKET socket: over it comes
    /// an error number (4 bytes, the machine's order), and, if that is 0, the connection. From version 2 on.
    Dial {
        /// On the sandbox's own loopback.
        port: u16,
    },
    /// A new value for a credential of the policy's (`[[network.inject]]`). Nothing is said if it is taken, else `Refused`.
    Secret {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// What a shim says. After `Hello` comes `Welcome`, at once; then whatever happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum FromShim {
    /// To `Hello`. `Running` follows it, if the agent was started before.
    #[serde(rename_all = "camelCase")]
    Welcome {
        /// The version that both speak.
        version: u16,
        /// Whose shim it is.
        id: String,
        /// Its own pid.
        pid: u32,
        /// Which boot it belongs to.
        boot: String,
        /// Where it is.
        phase: Phase,
        /// How far the terminal log reaches: the offset of the next byte.
        end: u64,
        /// How many typed bytes it has taken; those of an earlier daemon that still wait are counted, and not told of again.
        taken: u64,
        /// The terminal's size.
        size: Size,
    },
    /// The agent was started. Its attestation lies in `attestation.json` by now.
    #[serde(rename_all = "camelCase")]
    Running {
        /// Milliseconds since 1970.
        since: u64,
    },
    /// It was not: the sandbox could not be built, or the host refused.
    NotStarted(Refusal),
    /// The terminal log reaches this far.
    Output {
        /// The offset of the next byte.
        end: u64,
    },
    /// So many typed bytes in all have reached the agent's terminal.
    Taken {
        /// Since the agent was started.
        total: u64,
    },
    /// To `Usage`.
    Usage(Usage),
    /// What was run by `Exec` has ended.
    #[serde(rename_all = "camelCase")]
    ExecEnded {
        /// Which.
        exec: u64,
        /// Its exit code, as a shell gives it (128+n for a signal).
        code: Option<u8>,
        /// Why it was not run.
        #[serde(default)]
        refused: Option<String>,
    },
    /// The request made no sense, or cannot be met now.
    Refused(Refusal),
    /// The first decision of its kind. From version 3 on.
    Verdict(Verdict),
    /// The agent has ended, its cgroup is proved empty, and this lies in `exit.json`. Nothing comes after it.
    Ended(Ended),
}

/// Where a shim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It builds.
    Starting,
    /// The agent runs.
    Running,
    /// It was asked to end.
    Stopping,
    /// A phase that this version does not know.
    #[serde(other)]
    Other,
}

/// What a wall decided, for the first time in an incarnation. How often it did is told at the end (`Ended::report`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// `egress`, `seccomp` or `landlock`.
    pub wall: String,
    /// Whether it was let through.
    pub allowed: bool,
    /// The name or address, the call, the right.
    pub what: String,
    /// The port, where there is one.
    #[serde(default)]
    pub port: Option<u16>,
    /// The rule that allows it, or the kind of reason why not; of the network only.
    #[serde(default)]
    pub why: Option<String>,
}

/// What an agent has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time in microseconds.
    #[serde(default)]
    pub cpu_us: Option<u64>,
    /// Memory now, in bytes.
    #[serde(default)]
    pub memory: Option<u64>,
    /// The most memory there was, in bytes.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// Processes and threads now.
    #[serde(default)]
    pub processes: Option<u64>,
    /// Bytes sent through the gateway, and received.
    #[serde(default)]
    pub sent: Option<u64>,
    /// Bytes received through the gateway.
    #[serde(default)]
    pub received: Option<u64>,
    /// Refused connections and calls.
    #[serde(default)]
    pub refused: u64,
}

/// How an agent ended: `exit.json`, and the last message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Its exit code, if it exited.
    #[serde(default)]
    pub code: Option<u8>,
    /// The signal that ended it, if one did.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Whether its memory limit ended it.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Whether it was asked to stop.
    #[serde(default)]
    pub stopped: bool,
    /// Whether its cgroup had to be killed because it did not end in time.
    #[serde(default)]
    pub killed: bool,
    /// Why it was never started.
    #[serde(default)]
    pub not_started: Option<Refusal>,
    /// Which boot that was.
    pub boot: String,
    /// Milliseconds since 1970.
    pub at: u64,
    /// How far the terminal log reaches.
    pub end: u64,
    /// What it used in all.
    #[serde(default)]
    pub usage: Usage,
    /// What it was refused, and what went over the network: as in the report of `stockade run`.
    #[serde(default)]
    pub report: serde_json::Value,
    /// What it used, for the bill; a shim of an earlier version says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<Box<Metered>>,
}
