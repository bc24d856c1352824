//! Whether one policy allows nothing that another does not.
//!
//! Every field is taken apart by name, so that a new one cannot be forgotten: it does not compile until it is judged.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::path::Path;

use super::inject::HostFile;
use super::{
    Access, Destination, Environment, Filesystem, HostPath, Hostname, Io, Limits, Network, Policy, Syscalls,
    Terminal, WorkspacePath,
};

/// Everything in which a policy goes beyond its ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess(Vec<Exceeded>);

/// One value beyond the ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// `limits.memory`
    pub key: &'static str,
    /// What was wanted.
    pub wanted: String,
    /// What the ceiling has.
    pub allowed: String,
}

impl Excess {
    /// Each value beyond the ceiling; at least one.
    pub fn iter(&self) -> impl Iterator<Item = &Exceeded> {
        self.0.iter()
    }

    /// The same, and what no policy has at all.
    pub fn with(
        excess: Option<Self>,
        key: &'static str,
        wanted: impl Iterator<Item = String>,
    ) -> Option<Self> {
        let mut all = excess.map(|excess| excess.0).unwrap_or_default();
        all.extend(wanted.map(|wanted| Exceeded { key, wanted, allowed: "none".into() }));
        (!all.is_empty()).then_some(Self(all))
    }
}

impl Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (allowed: {})", self.key, self.wanted, self.allowed)
    }
}

impl Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, exceeded) in self.0.iter().enumerate() {
            write!(f, "{}{exceeded}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Excess {}

impl Policy {
    /// Whether an agent under this policy can do nothing that it could not do under `ceiling`.
    ///
    /// The command, and the values that the environment is set to, are not a matter of rights: whatever is started
    /// with whatever settings stands behind the same walls.
    pub fn is_within(&self, ceiling: &Policy) -> Result<(), Excess> {
        let Policy {
            name: _,
            description: _,
            agent: _,
            filesystem,
            network,
            limits,
            syscalls,
            capabilities,
            environment,
            terminal: Terminal { allocate, report_urls },
            tolerate,
        } = self;
        let mut found = Findings(Vec::new());
        found.filesystem(filesystem, &ceiling.filesystem);
        found.network(network, &ceiling.network);
        found.limits(limits, &ceiling.limits);
        found.syscalls(syscalls, &ceiling.syscalls);
        found.subset("capabilities.keep", &capabilities.keep, &ceiling.capabilities.keep);
        found.environment(environment, &ceiling.environment);
        found.at_most("terminal.allocate", allocate, &ceiling.terminal.allocate);
        found.at_most("terminal.report-urls", report_urls, &ceiling.terminal.report_urls);
        found.subset("tolerate.shortfalls", &tolerate.shortfalls, &ceiling.tolerate.shortfalls);
        if found.0.is_empty() { Ok(()) } else { Err(Excess(found.0)) }
    }
}

struct Findings(Vec<Exceeded>);

impl Findings {
    fn add(&mut self, key: &'static str, wanted: impl Display, allowed: impl Display) {
        self.0.push(Exceeded { key, wanted: wanted.to_string(), allowed: allowed.to_string() });
    }

    fn at_most<T: PartialOrd + Display>(&mut self, key: &'static str, wanted: &T, allowed: &T) {
        if wanted > allowed {
            self.add(key, wanted, allowed);
        }
    }

    /// No limit is the widest limit.
    fn limited<T: PartialOrd + Display>(&mut self, key: &'static str, wanted: Option<T>, allowed: Option<T>) {
        match (wanted, allowed) {
            (Some(wanted), Some(allowed)) => self.at_most(key, &wanted, &allowed),
            (None, Some(allowed)) => self.add(key, "unlimited", allowed),
            (_, None) => {}
        }
    }

    fn subset<T: Ord + Display>(&mut self, key: &'static str, wanted: &BTreeSet<T>, allowed: &BTreeSet<T>) {
        for entry in wanted.difference(allowed) {
            self.add(key, entry, list(allowed));
        }
    }

    fn filesystem(&mut self, wanted: &Filesystem, ceiling: &Filesystem) {
        let Filesystem {
            system: _,
            read_only: _,
            read_write: _,
            workspace,
            protected: _,
            protected_if_present: _,
            git_worktree,
            expose_command,
            home_size,
            home_exec,
            tmp_size,
            tmp_exec,
            shm_size,
        } = wanted;
        self.host_paths(wanted, ceiling);
        if *workspace > ceiling.workspace {
            self.add("filesystem.workspace", access_name(*workspace), access_name(ceiling.workspace));
        }
        // Nothing is written to a workspace that is not writable, so nothing in it needs protection.
        if *workspace == Access::ReadWrite {
            self.protection(wanted, ceiling);
        }
        self.at_most("filesystem.git-worktree", git_worktree, &ceiling.git_worktree);
        self.at_most("filesystem.expose-command", expose_command, &ceiling.expose_command);
        self.at_most("filesystem.home-size", home_size, &ceiling.home_size);
        self.at_most("filesystem.home-exec", home_exec, &ceiling.home_exec);
        self.at_most("filesystem.tmp-size", tmp_size, &ceiling.tmp_size);
        self.at_most("filesystem.tmp-exec", tmp_exec, &ceiling.tmp_exec);
        self.at_most("filesystem.shm-size", shm_size, &ceiling.shm_size);
    }

    /// Compares the access to every path there is. The access to a path is that of the nearest named ancestor, so
    /// it changes only at named paths: comparing at each path that either policy names compares everywhere.
    fn host_paths(&mut self, wanted: &Filesystem, ceiling: &Filesystem) {
        let here: BTreeSet<&HostPath> = host_sets(wanted).into_iter().flat_map(|(_, set)| set).collect();
        for (key, set) in host_sets(wanted) {
            for path in set {
                self.host_path(key, path, wanted, ceiling);
            }
        }
        for path in
            host_sets(ceiling).into_iter().flat_map(|(_, set)| set).filter(|path| !here.contains(path))
        {
            self.host_path("filesystem.read-write", path, wanted, ceiling);
        }
    }

    fn host_path(&mut self, key: &'static str, path: &HostPath, wanted: &Filesystem, ceiling: &Filesystem) {
        // Where a policy names a path twice, the wider reading counts against the narrower policy.
        let wants = access_to(&path.0, wanted, Access::max);
        let allows = access_to(&path.0, ceiling, Access::min);
        if wants > allows {
            self.add(key, path, access_name(allows));
        }
    }

    fn protection(&mut self, wanted: &Filesystem, ceiling: &Filesystem) {
        for path in &ceiling.protected {
            if !covers(&wanted.protected, path) {
                self.add("filesystem.protected", format!("without {path}"), list(&ceiling.protected));
            }
        }
        for path in &ceiling.protected_if_present {
            if !covers(&wanted.protected, path) && !covers(&wanted.protected_if_present, path) {
                let allowed = list(&ceiling.protected_if_present);
                self.add("filesystem.protected-if-present", format!("without {path}"), allowed);
            }
        }
    }

    fn network(&mut self, wanted: &Network, ceiling: &Network) {
        let Network { loopback, allow, ca_bundle, resolve, inject } = wanted;
        self.at_most("network.loopback", loopback, &ceiling.loopback);
        let parents: Vec<Destination> = ceiling.allow.iter().cloned().collect();
        for destination in allow.iter().filter(|destination| !destination.is_within(&parents)) {
            self.add("network.allow", destination, list(&ceiling.allow));
        }
        for one in inject.iter().filter(|one| !ceiling.inject.iter().any(|wider| one.is_within(wider))) {
            self.add("network.inject", one, list(&ceiling.inject.iter().collect()));
        }
        // Where a name leads is the site's decision: neither another address nor the public one in its place.
        let names: BTreeSet<&Hostname> = resolve.keys().chain(ceiling.resolve.keys()).collect();
        for name in names {
            let (here, there) = (resolve.get(name), ceiling.resolve.get(name));
            if here != there && (here.is_some() || wanted.leads_to(name)) {
                self.add("network.resolve", resolution(name, here), resolution(name, there));
            }
        }
        if *ca_bundle != ceiling.ca_bundle && !inject.is_empty() {
            let bundle =
                |bundle: &Option<HostFile>| bundle.as_ref().map_or("the host's".into(), HostFile::to_string);
            self.add("network.ca-bundle", bundle(ca_bundle), bundle(&ceiling.ca_bundle));
        }
    }

    fn limits(&mut self, wanted: &Limits, ceiling: &Limits) {
        let Limits { memory, cpus, processes, open_files, file_size, io } = wanted;
        self.at_most("limits.memory", memory, &ceiling.memory);
        self.at_most("limits.cpus", cpus, &ceiling.cpus);
        self.at_most("limits.processes", processes, &ceiling.processes);
        self.at_most("limits.open-files", open_files, &ceiling.open_files);
        self.limited("limits.file-size", *file_size, ceiling.file_size);
        let rates = |io: Option<Io>| (io.map(|io| io.read), io.map(|io| io.write));
        let ((read, write), (most_read, most_write)) = (rates(*io), rates(ceiling.io));
        self.limited("limits.io.read", read, most_read);
        self.limited("limits.io.write", write, most_write);
    }

    fn syscalls(&mut self, wanted: &Syscalls, ceiling: &Syscalls) {
        let Syscalls { allow, deny, nested_namespaces } = wanted;
        let effective =
            |allow: &BTreeSet<String>, deny: &BTreeSet<String>| allow.difference(deny).cloned().collect();
        self.subset("syscalls.allow", &effective(allow, deny), &effective(&ceiling.allow, &ceiling.deny));
        for call in ceiling.deny.difference(deny) {
            self.add("syscalls.deny", format!("without {call}"), list(&ceiling.deny));
        }
        self.at_most("syscalls.nested-namespaces", nested_namespaces, &ceiling.nested_namespaces);
    }

    fn environment(&mut self, wanted: &Environment, ceiling: &Environment) {
        // Constants from a policy, and where a path that is shown lies, tell an agent nothing of its caller.
        let Environment { pass, set: _, paths: _ } = wanted;
        for pattern in pass {
            if !ceiling.pass.iter().any(|wider| matches_all_of(wider, pattern)) {
                self.add("environment.pass", pattern, list(&ceiling.pass));
            }
        }
    }
}

fn host_sets(files: &Filesystem) -> [(&'static str, &BTreeSet<HostPath>); 3] {
    let Filesystem { system, read_only, read_write, .. } = files;
    [
        ("filesystem.system", system),
        ("filesystem.read-only", read_only),
        ("filesystem.read-write", read_write),
    ]
}

/// The access to a host path that the nearest named ancestor gives; `of_two` decides where two lists name it.
fn access_to(path: &Path, files: &Filesystem, of_two: fn(Access, Access) -> Access) -> Access {
    let named = |ancestor: &Path| {
        let ancestor = HostPath(ancestor.into());
        let readable = files.system.contains(&ancestor) || files.read_only.contains(&ancestor);
        let writable = files.read_write.contains(&ancestor);
        match (readable, writable) {
            (true, true) => Some(of_two(Access::ReadOnly, Access::ReadWrite)),
            (true, false) => Some(Access::ReadOnly),
            (false, true) => Some(Access::ReadWrite),
            (false, false) => None,
        }
    };
    path.ancestors().find_map(named).unwrap_or(Access::None)
}

fn covers(protected: &BTreeSet<WorkspacePath>, path: &WorkspacePath) -> bool {
    protected.iter().any(|wider| path.path.starts_with(&wider.path))
}

fn matches_all_of(wider: &str, narrower: &str) -> bool {
    match wider.strip_suffix('*') {
        Some(beginning) => narrower.starts_with(beginning),
        None => wider == narrower,
    }
}

fn resolution(name: &Hostname, addresses: Option<&Vec<IpAddr>>) -> String {
    let addresses = addresses.map(|all| all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(","));
    format!("{name}={}", addresses.unwrap_or_else(|| "as looked up".into()))
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::None => "none",
        Access::ReadOnly => "read-only",
        Access::ReadWrite => "read-write",
    }
}

fn list<T: Display>(set: &BTreeSet<T>) -> String {
    if set.is_empty() {
        return "none".into();
    }
    set.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}
