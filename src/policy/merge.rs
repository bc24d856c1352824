//! How a file changes its parent: first `[remove.…]`, then a value replaces and a list adds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;

use super::document::{Document, OptionalLimit};
use super::inject::InjectName;
use super::value::{Argument, VariableName};
use super::{Filesystem, Limits, Network, Policy};
use crate::id::PolicyName;

/// An entry under `[remove]` that the parent does not have: a typing error, or a parent that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NothingToRemove {
    /// Where it stands in the file, in bytes.
    pub span: Range<usize>,
    /// `filesystem.protected`
    pub key: &'static str,
    /// What was to be removed.
    pub entry: String,
    /// What the parent has there.
    pub present: Vec<String>,
}

impl Policy {
    /// Nothing allowed, under this name; what a file without `extends` starts from.
    pub fn nothing(name: PolicyName) -> Self {
        Self {
            name,
            description: String::new(),
            agent: Default::default(),
            filesystem: Default::default(),
            network: Default::default(),
            limits: Default::default(),
            syscalls: Default::default(),
            capabilities: Default::default(),
            environment: Default::default(),
            terminal: Default::default(),
            tolerate: Default::default(),
        }
    }

    /// This policy as changed by a file that extends it.
    pub fn changed_by(mut self, name: PolicyName, document: Document) -> Result<Self, NothingToRemove> {
        self.remove(&document)?;
        self.name = name;
        self.description = document.description.unwrap_or_default();
        if let Some(command) = document.agent.command {
            self.agent.command = command.into_iter().map(|argument| argument.0).collect();
        }
        add_filesystem(&mut self.filesystem, document.filesystem);
        add_network(&mut self.network, document.network);
        add_limits(&mut self.limits, document.limits);
        self.syscalls.allow.extend(document.syscalls.allow.into_iter().map(|name| name.0));
        self.syscalls.deny.extend(document.syscalls.deny.into_iter().map(|name| name.0));
        replace(&mut self.syscalls.nested_namespaces, document.syscalls.nested_namespaces);
        self.capabilities.keep.extend(document.capabilities.keep);
        self.environment.pass.extend(document.environment.pass.into_iter().map(|pattern| pattern.0));
        let set =
            document.environment.set.into_iter().map(|(VariableName(name), Argument(value))| (name, value));
        self.environment.set.extend(set);
        let paths = document.environment.paths.into_iter().map(|(VariableName(name), path)| (name, path));
        self.environment.paths.extend(paths);
        replace(&mut self.terminal.allocate, document.terminal.allocate);
        replace(&mut self.terminal.report_urls, document.terminal.report_urls);
        self.tolerate.shortfalls.extend(document.tolerate.shortfalls);
        Ok(self)
    }

    fn remove(&mut self, document: &Document) -> Result<(), NothingToRemove> {
        let remove = &document.remove;
        let (files, gone) = (&mut self.filesystem, &remove.filesystem);
        take(&mut files.system, &gone.system, "filesystem.system")?;
        take(&mut files.read_only, &gone.read_only, "filesystem.read-only")?;
        take(&mut files.read_write, &gone.read_write, "filesystem.read-write")?;
        take(&mut files.protected, &gone.protected, "filesystem.protected")?;
        take(&mut files.protected_if_present, &gone.protected_if_present, "filesystem.protected-if-present")?;
        let (network, gone) = (&mut self.network, &remove.network);
        take(&mut network.allow, &gone.allow, "network.allow")?;
        take_keys(&mut network.resolve, &gone.resolve, "network.resolve", |name| name)?;
        gone.inject.iter().try_for_each(|name| take_inject(network, name))?;
        for limit in &remove.limits {
            take_limit(&mut self.limits, limit)?;
        }
        let names = |list: &[Spanned<super::value::SyscallName>]| spanned(list, |name| name.0.clone());
        take(&mut self.syscalls.allow, &names(&remove.syscalls.allow), "syscalls.allow")?;
        take(&mut self.syscalls.deny, &names(&remove.syscalls.deny), "syscalls.deny")?;
        take(&mut self.capabilities.keep, &remove.capabilities.keep, "capabilities.keep")?;
        let patterns = spanned(&remove.environment.pass, |pattern| pattern.0.clone());
        take(&mut self.environment.pass, &patterns, "environment.pass")?;
        take_keys(&mut self.environment.set, &remove.environment.set, "environment.set", |name| &name.0)?;
        take_keys(&mut self.environment.paths, &remove.environment.paths, "environment.paths", |name| {
            &name.0
        })?;
        take(&mut self.tolerate.shortfalls, &remove.tolerate.shortfalls, "tolerate.shortfalls")
    }
}

fn add_filesystem(to: &mut Filesystem, from: super::document::Filesystem) {
    to.system.extend(from.system);
    to.read_only.extend(from.read_only);
    to.read_write.extend(from.read_write);
    replace(&mut to.workspace, from.workspace);
    to.protected.extend(from.protected);
    to.protected_if_present.extend(from.protected_if_present);
    replace(&mut to.git_worktree, from.git_worktree);
    replace(&mut to.expose_command, from.expose_command);
    replace(&mut to.home_size, from.home_size);
    replace(&mut to.home_exec, from.home_exec);
    replace(&mut to.tmp_size, from.tmp_size);
    replace(&mut to.tmp_exec, from.tmp_exec);
    replace(&mut to.shm_size, from.shm_size);
}

fn add_network(to: &mut Network, from: super::document::Network) {
    replace(&mut to.loopback, from.loopback);
    to.allow.extend(from.allow);
    to.ca_bundle = from.ca_bundle.or(to.ca_bundle.take());
    to.resolve.extend(from.resolve.into_iter().map(|(name, addresses)| (name, addresses.0)));
    from.inject.into_iter().for_each(|inject| to.put_inject(inject));
}

fn add_limits(to: &mut Limits, from: super::document::Limits) {
    replace(&mut to.memory, from.memory);
    replace(&mut to.cpus, from.cpus);
    replace(&mut to.processes, from.processes.map(|count| count.0));
    replace(&mut to.open_files, from.open_files.map(|count| count.0));
    to.file_size = from.file_size.or(to.file_size);
    to.io = from.io.or(to.io);
}

fn replace<T>(value: &mut T, by: Option<T>) {
    if let Some(by) = by {
        *value = by;
    }
}

fn spanned<T, U>(list: &[Spanned<T>], to: impl Fn(&T) -> U) -> Vec<Spanned<U>> {
    list.iter().map(|entry| Spanned::new(entry.span(), to(entry.get_ref()))).collect()
}

fn take<T: Ord + Display>(
    set: &mut BTreeSet<T>,
    entries: &[Spanned<T>],
    key: &'static str,
) -> Result<(), NothingToRemove> {
    for entry in entries {
        if !set.remove(entry.get_ref()) {
            let present = set.iter().map(T::to_string).collect();
            return Err(NothingToRemove {
                span: entry.span(),
                key,
                entry: entry.get_ref().to_string(),
                present,
            });
        }
    }
    Ok(())
}

fn take_keys<T, K: Ord + Display, V>(
    map: &mut BTreeMap<K, V>,
    entries: &[Spanned<T>],
    key: &'static str,
    name: fn(&T) -> &K,
) -> Result<(), NothingToRemove> {
    for entry in entries {
        let name = name(entry.get_ref());
        if map.remove(name).is_none() {
            let present = map.keys().map(K::to_string).collect();
            return Err(NothingToRemove { span: entry.span(), key, entry: name.to_string(), present });
        }
    }
    Ok(())
}

fn take_inject(network: &mut Network, name: &Spanned<InjectName>) -> Result<(), NothingToRemove> {
    let before = network.inject.len();
    network.inject.retain(|inject| inject.name != *name.get_ref());
    if network.inject.len() < before {
        return Ok(());
    }
    let present = network.inject.iter().map(|inject| inject.name.to_string()).collect();
    Err(NothingToRemove {
        span: name.span(),
        key: "network.inject",
        entry: name.get_ref().to_string(),
        present,
    })
}

fn take_limit(limits: &mut Limits, limit: &Spanned<OptionalLimit>) -> Result<(), NothingToRemove> {
    let (was_there, entry) = match limit.get_ref() {
        OptionalLimit::FileSize => (limits.file_size.take().is_some(), "file-size"),
        OptionalLimit::Io => (limits.io.take().is_some(), "io"),
    };
    if was_there {
        return Ok(());
    }
    Err(NothingToRemove { span: limit.span(), key: "limits", entry: entry.into(), present: Vec::new() })
}
