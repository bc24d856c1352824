//! What events are made of.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Digest;
use super::text::{FilePath, Host, Identity, Name, Release, Serial, VariableName, Word};
use crate::id::{PlaceName, PolicyName, Tenant};

/// Whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    /// SAN of its certificate.
    pub identity: Identity,
    /// Serial number of its certificate.
    pub serial: Serial,
    /// What its grant lets it do; none without a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Word>,
    /// Whose agents its grant is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Where it connects from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SocketAddr>,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It went on.
    Allowed,
    /// It did not.
    Refused,
}

/// What is about to be done to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Act {
    /// Start it.
    Spawn,
    /// Start it anew.
    Restart,
    /// End it.
    Stop,
    /// Kill what is left of it.
    Kill,
    /// Remove what is kept of it.
    Remove,
    /// Run something else within its walls.
    Exec,
    /// Give its gateway a new value for a credential.
    Secret,
    /// Complete its login: type a code, or deliver a callback.
    Login,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
    /// It was tried and failed.
    Failed,
}

/// What was ordered. Of variables the names, of arguments the number, of files the paths: the rest may be secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderSummary {
    /// The program, if it is not the policy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<FilePath>,
    /// How many arguments it gets.
    #[serde(default)]
    pub arguments: u64,
    /// Names of the variables.
    #[serde(default)]
    pub variables: Vec<VariableName>,
    /// The host's directory that it works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<FilePath>,
    /// The node's workspace that it works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_name: Option<PlaceName>,
    /// The node's home that it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<PlaceName>,
    /// Files written into the workspace before it starts.
    #[serde(default)]
    pub files: Vec<FilePath>,
    /// Bytes of memory, if less than the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Thousandths of a CPU, if less than the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millicpus: Option<u64>,
    /// Processes and threads, if fewer than the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Of the policy's destinations only these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Host>>,
}

/// What the kernel said of the walls, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestationSummary {
    /// SHA-256 over the attestation as it lies in the agent's directory.
    pub hash: Digest,
    /// The policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyName>,
    /// SHA-256 over the effective policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_hash: Option<Digest>,
    /// `uname -r`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Release>,
    /// SHA-256 over the filter of system calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_hash: Option<Digest>,
    /// 0: no Landlock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock_abi: Option<u32>,
    /// The agent's uid on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_uid: Option<u32>,
    /// What this host lacks and the policy tolerates.
    #[serde(default)]
    pub shortfalls: Vec<Name>,
}

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// It exited.
    Exited,
    /// A signal ended it.
    Signalled,
    /// Its memory ran out.
    OutOfMemory,
    /// The node was started anew.
    Reboot,
    /// Its shim was gone.
    Lost,
}

/// What an agent used in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    /// Microseconds of CPU time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<u64>,
    /// The most memory there was, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// Bytes sent through the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Bytes received through the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Refused connections and calls.
    #[serde(default)]
    pub refused: u64,
}

/// What a viewer may do at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rights {
    /// See.
    View,
    /// See and type.
    Type,
}

/// What was read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// The configuration, certificates, revocations and grants: all of them, or none.
    Config,
    /// Policies.
    Policies,
}

/// What went to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The name or the address that the agent asked for.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// Whether it was let through.
    pub verdict: Verdict,
    /// The rule's name, or the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Host>,
    /// How often.
    pub count: u64,
    /// Bytes from the agent.
    #[serde(default)]
    pub sent: u64,
    /// Bytes to the agent.
    #[serde(default)]
    pub received: u64,
}

/// What a wall refused, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Denied {
    /// `seccomp` or `landlock`.
    pub wall: Name,
    /// The system call, or the right. Not on what: an agent names its files as it likes.
    pub what: Name,
    /// How often.
    pub count: u64,
}
