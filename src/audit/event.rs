//! The events: a closed set. A new one is added here, in [`Event::kind`], in docs/audit.md, and a test asks for all three.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Digest;
use super::key::PublicKey;
use super::parts::{
    Act, AttestationSummary, Denied, Destination, Ending, OrderSummary, Outcome, Part, Rights, Used, Verdict,
    Who,
};
use super::seal::{LogId, Seal};
use super::text::{FieldName, Host, Identity, Name, Release, RequestId, Serial, Word};
use crate::id::{AgentId, PolicyName, Tenant};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
#[allow(clippy::large_enum_variant, reason = "written once and gone; most are of the largest kinds")]
#[allow(missing_docs, reason = "docs/audit.md describes every field, and a test compares")]
pub enum Event {
    // Of the log itself; only the log writes these.
    /// The first record of every segment.
    SegmentOpened {
        log: LogId,
        schema: u32,
        key_id: String,
        public_key: PublicKey,
        /// Intents of earlier segments that have no outcome yet.
        open: Vec<u64>,
    },
    /// Everything before this record, signed.
    Checkpoint {
        seal: Seal,
    },
    /// From here on another key signs; the old one vouches for it.
    KeyRotated {
        key_id: String,
        public_key: PublicKey,
        by: String,
        signature: String,
    },
    /// The log was not closed in order. What was cut off was never reported as written.
    Recovered {
        torn_bytes: u64,
    },
    /// Records up to this one are kept no longer, and are removed after this was written and signed.
    Pruned {
        through: u64,
        hash: Digest,
        segments: u64,
        bytes: u64,
    },
    /// An intent without an outcome: the service ended in between.
    Abandoned {
        intent: u64,
    },
    /// The log could not be written for a while.
    Resumed {
        seconds: u64,
        reason: Word,
        lost: u64,
    },

    // Of the service.
    ServiceStarted {
        version: Release,
        pid: u32,
        boot: Release,
    },
    ServiceStopped {
        reason: Word,
    },
    /// Something was read anew; refused: what was in force still is.
    Reloaded {
        part: Part,
        outcome: Outcome,
        /// Of what is in force now, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hash: Option<Digest>,
        /// Sections of the configuration that differ now and take effect at the next start.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        waits: Vec<Word>,
    },
    /// A connection that did not get as far as a request, and others like it from the same address.
    ConnectionRefused {
        source: SocketAddr,
        reason: Word,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<Identity>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        serial: Option<Serial>,
        count: u64,
    },
    /// A request that changes or reveals something, once it was answered.
    Request {
        request: RequestId,
        who: Who,
        action: Word,
        endpoint: Word,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        verdict: Verdict,
        rule: Word,
        status: u16,
    },

    // Of agents.
    /// Something is about to be done to an agent. On disk before it is done.
    Intent {
        act: Act,
        agent: AgentId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<Tenant>,
        /// None: the service itself (an idle limit, a restart after a failure).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Who>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<RequestId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<PolicyName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy_hash: Option<Digest>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<OrderSummary>,
    },
    /// What another act than a start came to.
    Acted {
        intent: u64,
        agent: AgentId,
        act: Act,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Word>,
    },
    Started {
        intent: u64,
        agent: AgentId,
        attestation: AttestationSummary,
    },
    NotStarted {
        intent: u64,
        agent: AgentId,
        reason: Word,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<FieldName>,
    },
    Ended {
        agent: AgentId,
        how: Ending,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<u8>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// It was asked to.
        stopped: bool,
        /// Its cgroup had to be killed.
        killed: bool,
        /// Its cgroup was seen to be empty.
        emptied: bool,
        used: Used,
    },
    /// A service that was started anew has found it.
    Adopted {
        agent: AgentId,
        running: bool,
    },
    Attached {
        agent: AgentId,
        session: u64,
        who: Who,
        rights: Rights,
    },
    Detached {
        agent: AgentId,
        session: u64,
        reason: Word,
    },
    LoginBegun {
        agent: AgentId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        site: Option<Host>,
    },
    LoginCompleted {
        agent: AgentId,
        outcome: Outcome,
    },
    /// A question of an agent's is about to be answered in the user's stead, by the rules of its kind.
    QuestionAnswered {
        agent: AgentId,
        screen: Name,
    },
    /// A budget warns, or is used up: then what it is for is stopped.
    Budget {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        tenant: Tenant,
        what: Word,
        used: u64,
        limit: u64,
        level: Word,
    },
    /// What a wall let through or refused, for the first time in an incarnation.
    Verdict {
        agent: AgentId,
        wall: Name,
        what: Host,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        verdict: Verdict,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<Host>,
    },
    /// Where it went over the network, and where it was not let; `more` kinds are not listed.
    Egress {
        agent: AgentId,
        destinations: Vec<Destination>,
        more: u64,
    },
    /// What its walls refused; `more` kinds are not listed.
    Denials {
        agent: AgentId,
        denials: Vec<Denied>,
        more: u64,
    },
}

/// The most entries of a list in one event.
pub const MOST_LISTED: usize = 256;

impl Event {
    /// Every type, as in JSON.
    pub const KINDS: &'static [&'static str] = &[
        "segmentOpened",
        "checkpoint",
        "keyRotated",
        "recovered",
        "pruned",
        "abandoned",
        "resumed",
        "serviceStarted",
        "serviceStopped",
        "reloaded",
        "connectionRefused",
        "request",
        "intent",
        "acted",
        "started",
        "notStarted",
        "ended",
        "adopted",
        "attached",
        "detached",
        "loginBegun",
        "loginCompleted",
        "questionAnswered",
        "budget",
        "verdict",
        "egress",
        "denials",
    ];

    /// Its type, as in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SegmentOpened { .. } => "segmentOpened",
            Self::Checkpoint { .. } => "checkpoint",
            Self::KeyRotated { .. } => "keyRotated",
            Self::Recovered { .. } => "recovered",
            Self::Pruned { .. } => "pruned",
            Self::Abandoned { .. } => "abandoned",
            Self::Resumed { .. } => "resumed",
            Self::ServiceStarted { .. } => "serviceStarted",
            Self::ServiceStopped { .. } => "serviceStopped",
            Self::Reloaded { .. } => "reloaded",
            Self::ConnectionRefused { .. } => "connectionRefused",
            Self::Request { .. } => "request",
            Self::Intent { .. } => "intent",
            Self::Acted { .. } => "acted",
            Self::Started { .. } => "started",
            Self::NotStarted { .. } => "notStarted",
            Self::Ended { .. } => "ended",
            Self::Adopted { .. } => "adopted",
            Self::Attached { .. } => "attached",
            Self::Detached { .. } => "detached",
            Self::LoginBegun { .. } => "loginBegun",
            Self::LoginCompleted { .. } => "loginCompleted",
            Self::QuestionAnswered { .. } => "questionAnswered",
            Self::Budget { .. } => "budget",
            Self::Verdict { .. } => "verdict",
            Self::Egress { .. } => "egress",
            Self::Denials { .. } => "denials",
        }
    }

    /// Whether something waits for this to be on disk: it is refused rather than kept for later.
    pub fn is_intent(&self) -> bool {
        matches!(self, Self::Intent { .. })
    }

    /// Which intent this closes.
    pub fn closes(&self) -> Option<u64> {
        match self {
            Self::Acted { intent, .. }
            | Self::Started { intent, .. }
            | Self::NotStarted { intent, .. }
            | Self::Abandoned { intent } => Some(*intent),
            _ => None,
        }
    }
}
