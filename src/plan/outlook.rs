//! What a path will be like inside, which entry of the policy decides it, and which would change it.

use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::request::{Place, Request};
use super::view::{expand, nameable};
use super::{Bind, Mount, Source, devices, precious, proc};
use crate::policy::path::InvalidPath;
use crate::policy::{Access, HostPath, Policy};

/// More links in a row than the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// What an agent finds at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing.
    Absent,
    /// A directory that holds only what is shown below it.
    Directory,
    /// A file written for each sandbox; the host's is not shown.
    Generated,
    /// The sandbox's own; nothing of the host's is in it.
    Private,
    /// What the host has, unchangeable.
    ReadOnly,
    /// What the host has; changes stay.
    Writable,
    /// Unchangeable although what surrounds it is writable.
    Protected,
    /// Covered by something empty.
    Masked,
}

impl Verdict {
    /// In the user's words.
    pub fn says(self) -> &'static str {
        match self {
            Self::Absent => "does not exist inside",
            Self::Directory => "a directory with nothing in it but what is shown below it",
            Self::Generated => "a file of the sandbox's own, read-only",
            Self::Private => "the sandbox's own, not the host's",
            Self::ReadOnly => "read-only",
            Self::Writable => "writable",
            Self::Protected => "read-only, in a writable workspace",
            Self::Masked => "covered: nothing can be read from it",
        }
    }
}

/// One entry of a policy: the key, and the value in a list that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `filesystem.read-only`
    pub key: &'static str,
    /// As the policy writes it.
    pub value: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// Where the path leads inside, once its links are followed.
    pub path: PathBuf,
    /// What is there.
    pub verdict: Verdict,
    /// Why.
    pub cause: String,
    /// What of the policy says so; none: nothing names it, or it is so in every sandbox.
    pub decided_by: Option<Entry>,
    /// What would change it; none: no policy can.
    pub remedy: Option<String>,
}

/// What is asked about: one start.
pub struct Scene<'a> {
    /// What is allowed.
    pub policy: &'a Policy,
    /// What would be started.
    pub request: &'a Request,
    /// What would be mounted for it.
    pub mounts: &'a [Mount],
    /// The agent's home inside.
    pub home: &'a Path,
    /// What a link of the host says; none: no link.
    pub read_link: &'a dyn Fn(&Path) -> Option<PathBuf>,
    /// Whether the host has something there.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

impl Scene<'_> {
    /// What the agent will find at `path`.
    pub fn look(&self, path: &Path) -> Outlook {
        let path = self.follow(path);
        if let Some(fixed) = self.in_proc(&path).or_else(|| in_dev(&path)) {
            return fixed;
        }
        match self.mount_of(&path) {
            Some(Mount::File { .. } | Mount::Script { .. }) => {
                says(path, Verdict::Generated, "it is written for each sandbox; the host's is not shown")
            }
            Some(Mount::Tmpfs { target, exec, .. }) => self.in_memory(&path, target, *exec),
            Some(Mount::Bind(bind)) => self.bound(path, bind),
            Some(Mount::Copy { target, .. }) => {
                let cause = "it is a copy of the host's, made at the start".to_owned();
                Outlook { cause, ..self.shown(path, target, false) }
            }
            _ if self.mounts.iter().any(|mount| mount.target().starts_with(&path)) => says(
                path,
                Verdict::Directory,
                "it leads to what the policy shows below it, and cannot be changed",
            ),
            _ => self.absent(path),
        }
    }

    fn in_proc(&self, path: &Path) -> Option<Outlook> {
        let below = path.strip_prefix("/proc").ok()?;
        let first = below.components().next().map(|name| name.as_os_str().to_string_lossy().into_owned());
        let first = first.unwrap_or_default();
        let masked = proc::MASKED.contains(&first.as_str());
        let read_only = proc::READ_ONLY.contains(&first.as_str());
        let nested = self.policy.syscalls.nested_namespaces;
        let (verdict, cause) = if nested && (masked || read_only) {
            let cause = "syscalls.nested-namespaces leaves it as it is: a sandbox inside may mount a /proc of its own \
                         only if all of this one is visible; what acts on the host is its root's to write";
            (Verdict::Private, cause)
        } else if masked {
            (Verdict::Masked, "it describes the host's kernel, hardware or keys")
        } else if read_only {
            (Verdict::ReadOnly, "it acts on the host's kernel")
        } else {
            (Verdict::Private, "a /proc that knows only the sandbox's own processes")
        };
        Some(says(path.into(), verdict, cause))
    }

    /// The deepest mount that holds `path`.
    fn mount_of(&self, path: &Path) -> Option<&Mount> {
        let holding = self.mounts.iter().filter(|mount| path.starts_with(mount.target()));
        holding.max_by_key(|mount| mount.target().components().count())
    }

    fn follow(&self, path: &Path) -> PathBuf {
        let mut path = normal(path);
        for _ in 0..MOST_LINKS {
            match self.first_link(&path) {
                Some(led) => path = led,
                None => break,
            }
        }
        path
    }

    fn first_link(&self, path: &Path) -> Option<PathBuf> {
        let mut above = PathBuf::new();
        for component in path.components() {
            let parent = above.clone();
            above.push(component);
            let says = match self.mount_of(&above) {
                Some(Mount::Symlink { target, points_to }) if *target == above => Some(points_to.clone()),
                Some(Mount::Bind(bind)) => on_host(bind, &above).and_then(|host| (self.read_link)(&host)),
                _ => None,
            };
            if let Some(says) = says {
                let rest = path.strip_prefix(&above).expect("a path begins with its own beginning");
                return Some(normal(&parent.join(says).join(rest)));
            }
        }
        None
    }

    fn in_memory(&self, path: &Path, target: &Path, exec: bool) -> Outlook {
        let files = &self.policy.filesystem;
        let (key, size, switch) = match target {
            t if t == self.home => ("filesystem.home-size", &files.home_size, Some("home-exec")),
            t if t == Path::new("/tmp") => ("filesystem.tmp-size", &files.tmp_size, Some("tmp-exec")),
            _ => ("filesystem.shm-size", &files.shm_size, None),
        };
        let runs = if exec { "programs may run from it" } else { "no program runs from it" };
        let cause = format!("it is writable, {size}, empty at the start and gone at the end; {runs}");
        let is_hosts = path != target && (self.exists)(path);
        let remedy = match switch.filter(|_| !exec) {
            _ if is_hosts => self.how_to_show(path).ok().map(|how| format!("to see the host's: {how}")),
            switch => switch.map(|switch| format!("to run programs from it: [filesystem] {switch} = true")),
        };
        let decided_by = Some(Entry { key, value: size.to_string() });
        Outlook { path: path.into(), verdict: Verdict::Private, cause, decided_by, remedy }
    }

    fn bound(&self, path: PathBuf, bind: &Bind) -> Outlook {
        match &bind.source {
            Source::Protected { root, path: relative, .. } if !bind.writable => {
                self.protected(path, root, relative)
            }
            Source::Protected { root, .. } => self.shown(path, root, true),
            Source::Path { .. } => {
                let is_there = on_host(bind, &path).is_none_or(|host| (self.exists)(&host));
                let outlook = self.shown(path, &bind.target, bind.writable);
                match is_there {
                    true => outlook,
                    false => Outlook {
                        cause: format!("{}; this host has nothing there", outlook.cause),
                        ..outlook
                    },
                }
            }
        }
    }

    fn protected(&self, path: PathBuf, root: &Path, relative: &Path) -> Outlook {
        let files = &self.policy.filesystem;
        let is_workspace = self.request.workspace.as_ref().is_some_and(|place| place.path == root);
        let lists = [("protected", &files.protected), ("protected-if-present", &files.protected_if_present)];
        // A missing directory is held for everything that would be below it.
        let entry = lists.into_iter().filter(|_| is_workspace).find_map(|(list, entries)| {
            let entry = entries.iter().find(|entry| entry.path.starts_with(relative))?;
            Some((list, entry.to_string()))
        });
        let (decided_by, remedy) = match entry {
            Some(("protected", value)) => (
                Entry { key: "filesystem.protected", value: value.clone() },
                Some(format!("[remove.filesystem] protected = [{value:?}]")),
            ),
            Some((list, value)) => (
                Entry { key: "filesystem.protected-if-present", value: value.clone() },
                Some(format!("[remove.filesystem] {list} = [{value:?}]")),
            ),
            None => (Entry { key: "filesystem.git-worktree", value: "true".into() }, None),
        };
        let cause = "the host may execute or believe it later".to_owned();
        Outlook { path, verdict: Verdict::Protected, cause, decided_by: Some(decided_by), remedy }
    }

    fn shown(&self, path: PathBuf, target: &Path, writable: bool) -> Outlook {
        let decided_by = self.entry_of(target);
        let key = decided_by.as_ref().map_or("", |entry| entry.key);
        let (verdict, cause) = match writable {
            true => (Verdict::Writable, "it is the host's; what the agent changes stays changed"),
            false => (Verdict::ReadOnly, "it is the host's, on a read-only mount"),
        };
        let remedy = match (key, nameable(&path, Some(&self.request.caller.home))) {
            _ if writable => None,
            ("filesystem.workspace", _) => Some("[filesystem] workspace = \"read-write\"".to_owned()),
            ("filesystem.read-only", Ok(name)) if path == target => {
                Some(format!("move {:?} from [filesystem] read-only to read-write", name.to_string()))
            }
            (_, Ok(name)) if !precious::is_system(&path) => Some(line("read-write", &name)),
            _ => None,
        };
        Outlook { path, verdict, cause: cause.into(), decided_by, remedy }
    }

    /// Later mounts win, so they are asked first.
    fn entry_of(&self, target: &Path) -> Option<Entry> {
        let files = &self.policy.filesystem;
        let is = |place: &Option<Place>| place.as_ref().is_some_and(|place| place.path == target);
        let repository = self.request.git_repository.as_ref();
        if repository.is_some_and(|repository| target.starts_with(&repository.common.path)) {
            return Some(Entry { key: "filesystem.git-worktree", value: "true".into() });
        }
        if is(&self.request.workspace) {
            let value = match files.workspace {
                Access::None => "none",
                Access::ReadOnly => "read-only",
                Access::ReadWrite => "read-write",
            };
            return Some(Entry { key: "filesystem.workspace", value: value.into() });
        }
        let lists = [
            ("filesystem.read-write", &files.read_write),
            ("filesystem.read-only", &files.read_only),
            ("filesystem.system", &files.system),
        ];
        let home = &self.request.caller.home;
        let named = lists.into_iter().find_map(|(key, list)| {
            let path = list.iter().find(|path| expand(path, home) == target)?;
            Some(Entry { key, value: path.to_string() })
        });
        let installed = || {
            let is_part = self.request.installation.iter().any(|path| path == target);
            is_part.then(|| Entry { key: "filesystem.expose-command", value: "true".into() })
        };
        named.or_else(installed)
    }

    fn absent(&self, path: PathBuf) -> Outlook {
        let home = &self.request.caller.home;
        let system = &self.policy.filesystem.system;
        if let Some(entry) = system.iter().find(|entry| path.starts_with(expand(entry, home))) {
            let decided_by = Some(Entry { key: "filesystem.system", value: entry.to_string() });
            let cause = "the policy would show it, but this host does not have it".to_owned();
            return Outlook { path, verdict: Verdict::Absent, cause, decided_by, remedy: None };
        }
        match self.how_to_show(&path) {
            Ok(how) => {
                let outlook = says(path, Verdict::Absent, "no entry of the policy shows it");
                Outlook { remedy: Some(how), ..outlook }
            }
            Err(error) => says(path, Verdict::Absent, &format!("no policy can show it: {error}")),
        }
    }

    fn how_to_show(&self, path: &Path) -> Result<String, InvalidPath> {
        let Request { caller, workspace, .. } = self.request;
        let line = line("read-only", &nameable(path, Some(&caller.home))?);
        let gives_workspace = workspace.is_none() && self.policy.filesystem.workspace != Access::None;
        Ok(match gives_workspace && path.starts_with(&caller.directory) {
            true => format!("start with --workspace {}, or {line}", caller.directory.display()),
            false => line,
        })
    }
}

fn line(list: &str, name: &HostPath) -> String {
    format!("[filesystem] {list} = [{:?}]", name.to_string())
}

fn says(path: PathBuf, verdict: Verdict, cause: &str) -> Outlook {
    Outlook { path, verdict, cause: cause.into(), decided_by: None, remedy: None }
}

/// The host's name for what `bind` shows as `path`.
fn on_host(bind: &Bind, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(&bind.target).ok()?;
    let source = match &bind.source {
        Source::Path { path } => path.clone(),
        Source::Protected { root, path, .. } => root.join(path),
    };
    // `join` would put a slash behind a file.
    Some(if below.as_os_str().is_empty() { source } else { source.join(below) })
}

fn in_dev(path: &Path) -> Option<Outlook> {
    let below = path.strip_prefix("/dev").ok()?;
    let first = below.components().next().map(|name| name.as_os_str().to_string_lossy().into_owned());
    let known = match first.as_deref() {
        Some("shm") => return None,
        None | Some("pts") => true,
        Some(name) => {
            devices::DEVICES.iter().any(|(device, ..)| *device == name)
                || devices::LINKS.iter().any(|(link, _)| *link == name)
        }
    };
    Some(match known {
        true => says(
            path.into(),
            Verdict::Private,
            "a /dev with the harmless devices and the sandbox's own terminals",
        ),
        false => says(path.into(), Verdict::Absent, "no policy can show it: agents get no other devices"),
    })
}

/// Without `.` and `..`; what stands before a `..` has been followed already.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests;
