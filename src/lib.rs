//! Stockade: a hardened sandboxing runtime for CLI coding agents.
//!
//! ```text
//!  stockade run ──▶ policy ──▶ plan ◀── host        what is allowed, what this kernel can, what will be done
//!                               │
//!                               ▼
//!                             shim                  owns the terminal, the cgroup and the end of the agent
//!                               │ clone3
//!                               ▼
//!                             jail                  THE SEQUENCE: becomes pid 1 of the sandbox, starts the agent
//! ```
//!
//! | module | noun | knows |
//! |---|---|---|
//! | [`id`] | names, parsed once and then trusted | nobody |
//! | [`ordered`] | sets and maps, filled one entry after another | nobody |
//! | [`policy`] | what is allowed | `id` |
//! | [`host`] | what this kernel can enforce | `policy` (the names of shortfalls), `cgroup`, `sys` |
//! | [`plan`] | policy + host + request, down to every mount, filter and limit | `policy`, `host` |
//! | [`sys`] | one wrapper per system call, the only unsafe code | nobody |
//! | [`cgroup`] | limits ↔ control files | `policy`, `sys` |
//! | [`wire`] | messages between our processes | nobody |
//! | [`api`] | what travels between a service and its clients | nobody |
//! | [`audit`] | the record for judges: written, chained, signed, verified | `id` |
//! | [`agents`] | what each CLI's screen says, and how it is driven | `api` (states), `policy` (whom files are believed from) |
//! | [`netns`] | one private network | `sys` |
//! | [`jail`] | the child's side: from clone3 to exec | `plan`, `netns`, `sys` |
//! | [`shim`] | the parent's side: from plan to proved-empty cgroup | `plan`, `jail`, `cgroup`, `sys` |
//! | [`egress`] | the gateway: what one sandbox says to the network, and hears | `policy`, `sys`, `wire` |
//! | [`launcher`] | starts a shim for what root's policies allow | `policy`, `shim`, `wire` |
//! | [`registry`] | what lies in etcd about agents and nodes, and the way there | nobody |
//! | [`daemon`] | the service: TLS, authorisation, API, supervisor | `api`, `audit`, `policy`, `registry`, `wire`; neither `shim` nor `jail` |
//! | [`cli`] | `stockade …` | everything but `jail` and `daemon` |
//! | [`client`] | `stockade …` against a service | `api`, `audit`, `cli`, `registry`, `wire` |
#![deny(unsafe_code)]

#[cfg(feature = "agents")]
pub mod agents;
pub mod api;
#[cfg(feature = "audit")]
pub mod audit;
pub mod cgroup;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "egress")]
pub mod egress;
pub mod host;
pub mod id;
pub mod jail;
pub mod launcher;
pub mod netns;
pub mod ordered;
pub mod plan;
pub mod policy;
#[cfg(feature = "registry")]
pub mod registry;
pub mod shim;
#[allow(unsafe_code)]
pub mod sys;
pub mod wire;
