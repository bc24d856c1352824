//! Between the daemon and the launcher.

use serde::{Deserialize, Serialize};

use super::Versions;

/// What a daemon asks. The first message is `Hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum ToLauncher {
    /// Who speaks which versions.
    Hello {
        /// The daemon's.
        versions: Versions,
    },
    /// Start an agent. Two descriptors come with it: a memfd with the [`super::Order`], sealed, and one end of a
    /// SOCK_SEQPACKET pair, on which the shim will speak.
    #[serde(rename_all = "camelCase")]
    Launch {
        /// The order's id, again.
        id: String,
    },
    /// Start an agent that has ended anew, by the order that it was started with. One descriptor: the socket.
    #[serde(rename_all = "camelCase")]
    Relaunch {
        /// Its id.
        id: String,
    },
    /// Kill whatever is left of an agent whose shim does not answer, and prove it gone.
    #[serde(rename_all = "camelCase")]
    Kill {
        /// Its id.
        id: String,
    },
    /// Remove everything that is kept of an agent that has ended: its directory, its order.
    #[serde(rename_all = "camelCase")]
    Remove {
        /// Its id.
        id: String,
        /// Also its private workspace.
        #[serde(default)]
        workspace: bool,
    },
}

/// What the launcher answers: one answer per question, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum FromLauncher {
    /// To `Hello`.
    #[serde(rename_all = "camelCase")]
    Welcome {
        /// The version that both speak.
        version: u16,
        /// The launcher's program version, for people.
        program: String,
        /// /proc/sys/kernel/random/boot_id
        boot: String,
    },
    /// To `Launch` and `Relaunch`: the shim runs, and will say more.
    #[serde(rename_all = "camelCase")]
    Launched {
        /// Its pid.
        pid: u32,
    },
    /// To `Kill` and `Remove`.
    Done,
    /// To anything.
    Refused(Refusal),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{detail}")]
pub struct Refusal {
    /// Which kind of reason.
    pub reason: Reason,
    /// In words: the object, the cause and the way out.
    pub detail: String,
    /// The order's field at fault, if it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No common version.
    Version,
    /// Not a well-formed order.
    Malformed,
    /// No such policy.
    UnknownPolicy,
    /// It exceeds its policy, or asks for a directory that is not opened.
    Exceeds,
    /// This host lacks a protection, or the policy's command is not installed.
    Host,
    /// Something that it needs to itself is another agent's: its home. From version 2 on.
    Busy,
    /// An agent of this id is there already.
    Exists,
    /// No agent of this id is there.
    Unknown,
    /// Stockade failed.
    Failed,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}
