//! What a policy file says, and nothing that it does not say: every value is optional, no key is unknown.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use super::inject::{HostFile, Inject, InjectName};
use super::value::{Addresses, Argument, Count, SyscallName, VariableName, VariablePattern};
use super::{Access, Bytes, Capability, Cpus, Destination, HostPath, Hostname, Io, Shortfall, WorkspacePath};
use crate::id::PolicyName;

/// One policy file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Document {
    /// The policy that this one starts from; none: from nothing allowed.
    pub extends: Option<Spanned<PolicyName>>,
    /// What it adds, and why. Not inherited.
    pub description: Option<String>,
    /// `[agent]`
    pub agent: Agent,
    /// `[filesystem]`
    pub filesystem: Filesystem,
    /// `[network]`
    pub network: Network,
    /// `[limits]`
    pub limits: Limits,
    /// `[syscalls]`
    pub syscalls: Syscalls,
    /// `[capabilities]`
    pub capabilities: Capabilities,
    /// `[environment]`
    pub environment: Environment,
    /// `[terminal]`
    pub terminal: Terminal,
    /// `[tolerate]`
    pub tolerate: Tolerate,
    /// `[remove.…]`: taken out of what the parent has, before this file's own entries are added.
    pub remove: Remove,
}

/// `[agent]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Agent {
    /// Replaces the parent's as a whole: arguments belong to their program.
    pub command: Option<Vec<Argument>>,
}

/// `[filesystem]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)] // each is the field of the same name in `policy::Filesystem`
pub struct Filesystem {
    pub system: BTreeSet<HostPath>,
    pub read_only: BTreeSet<HostPath>,
    pub read_write: BTreeSet<HostPath>,
    pub workspace: Option<Access>,
    pub protected: BTreeSet<WorkspacePath>,
    pub protected_if_present: BTreeSet<WorkspacePath>,
    pub git_worktree: Option<bool>,
    pub expose_command: Option<bool>,
    pub home_size: Option<Bytes>,
    pub home_exec: Option<bool>,
    pub tmp_size: Option<Bytes>,
    pub tmp_exec: Option<bool>,
    pub shm_size: Option<Bytes>,
}

/// `[network]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Network {
    pub loopback: Option<bool>,
    pub allow: BTreeSet<Destination>,
    pub ca_bundle: Option<HostFile>,
    pub resolve: BTreeMap<Hostname, Addresses>,
    pub inject: Vec<Inject>,
}

/// `[limits]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Limits {
    pub memory: Option<Bytes>,
    pub cpus: Option<Cpus>,
    pub processes: Option<Count>,
    pub open_files: Option<Count>,
    pub file_size: Option<Bytes>,
    pub io: Option<Io>,
}

/// `[syscalls]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Syscalls {
    pub allow: BTreeSet<SyscallName>,
    pub deny: BTreeSet<SyscallName>,
    pub nested_namespaces: Option<bool>,
}

/// `[capabilities]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Capabilities {
    pub keep: BTreeSet<Capability>,
}

/// `[environment]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Environment {
    pub pass: BTreeSet<VariablePattern>,
    pub set: BTreeMap<VariableName, Argument>,
    pub paths: BTreeMap<VariableName, HostPath>,
}

/// `[terminal]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Terminal {
    pub allocate: Option<bool>,
    pub report_urls: Option<bool>,
}

/// `[tolerate]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Tolerate {
    pub shortfalls: BTreeSet<Shortfall>,
}

/// `[remove]`: entries of the parent that this policy does without. Naming one that is not there is an error.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Remove {
    pub filesystem: RemoveFilesystem,
    pub network: RemoveNetwork,
    pub limits: Vec<Spanned<OptionalLimit>>,
    pub syscalls: RemoveSyscalls,
    pub capabilities: RemoveCapabilities,
    pub environment: RemoveEnvironment,
    pub tolerate: RemoveTolerate,
}

/// `[remove.filesystem]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct RemoveFilesystem {
    pub system: Vec<Spanned<HostPath>>,
    pub read_only: Vec<Spanned<HostPath>>,
    pub read_write: Vec<Spanned<HostPath>>,
    pub protected: Vec<Spanned<WorkspacePath>>,
    pub protected_if_present: Vec<Spanned<WorkspacePath>>,
}

/// `[remove.network]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct RemoveNetwork {
    pub allow: Vec<Spanned<Destination>>,
    pub resolve: Vec<Spanned<Hostname>>,
    /// By their names.
    pub inject: Vec<Spanned<InjectName>>,
}

/// The limits that need not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum OptionalLimit {
    FileSize,
    Io,
}

/// `[remove.syscalls]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct RemoveSyscalls {
    pub allow: Vec<Spanned<SyscallName>>,
    pub deny: Vec<Spanned<SyscallName>>,
}

/// `[remove.capabilities]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct RemoveCapabilities {
    pub keep: Vec<Spanned<Capability>>,
}

/// `[remove.environment]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct RemoveEnvironment {
    pub pass: Vec<Spanned<VariablePattern>>,
    pub set: Vec<Spanned<VariableName>>,
    pub paths: Vec<Spanned<VariableName>>,
}

/// `[remove.tolerate]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct RemoveTolerate {
    pub shortfalls: Vec<Spanned<Shortfall>>,
}
