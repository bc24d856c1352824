//! What the paths that a plan may show look like on this host: facts, gathered once, for a plan that touches nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file, a socket, a device: anything that a file can be mounted over.
    File,
    /// A symbolic link, and what it says.
    Symlink(PathBuf),
}

/// One path as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// The same without symbolic links in its directories.
    pub canonical: PathBuf,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Facts about paths; a path that is not in it does not exist.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    found: BTreeMap<PathBuf, Found>,
}

impl Survey {
    /// Looks at each path. What cannot be looked at counts as missing.
    pub fn look(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut survey = Self::default();
        // Most lie in the same few directories.
        let mut directories = BTreeMap::new();
        for path in paths {
            if let Some(found) = look(&path, &mut directories) {
                survey.found.insert(path, found);
            }
        }
        survey
    }

    /// Adds what a test wants to be there.
    pub fn insert(&mut self, path: impl Into<PathBuf>, found: Found) {
        self.found.insert(path.into(), found);
    }

    /// What is at `path`.
    pub fn get(&self, path: &Path) -> Option<&Found> {
        self.found.get(path)
    }
}

fn look(path: &Path, directories: &mut BTreeMap<PathBuf, Option<PathBuf>>) -> Option<Found> {
    let found = fs::symlink_metadata(path).ok()?;
    if is_placeholder(&found) {
        return None;
    }
    let kind = if found.is_dir() {
        Kind::Directory
    } else if found.is_symlink() {
        Kind::Symlink(fs::read_link(path).ok()?)
    } else {
        Kind::File
    };
    let canonical = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let known = directories.entry(parent.to_path_buf());
            known.or_insert_with(|| fs::canonicalize(parent).ok()).as_ref()?.join(name)
        }
        _ => PathBuf::from("/"),
    };
    Some(Found { kind, canonical, uid: found.uid(), gid: found.gid() })
}

/// Whether another run holds the place of a missing file with this: a socket that nobody may open.
fn is_placeholder(found: &fs::Metadata) -> bool {
    found.file_type().is_socket() && found.mode() & 0o7777 == 0
}

/// The longest file that names a directory for git; a path has at most 4096 bytes (PATH_MAX).
const LONGEST_POINTER: u64 = 8192;

/// The repository that a linked worktree belongs to (gitrepository-layout(5)), and the worktree's name in it, if
/// `workspace` really is one of its worktrees.
///
/// The workspace's `.git` file is not believed: an agent may have written it, and it could name any directory. The
/// repository must name this worktree in turn, in a file outside the workspace, and belong to the same owner.
pub fn git_repository(workspace: &Path) -> Option<(PathBuf, OsString)> {
    let pointer = workspace.join(".git");
    let text = read_pointer(&pointer)?;
    let private = fs::canonicalize(workspace.join(text.strip_prefix("gitdir:")?.trim())).ok()?;
    let worktrees = private.parent().filter(|p| p.file_name().is_some_and(|n| n == "worktrees"))?;
    let common = worktrees.parent()?;
    let back = read_pointer(&private.join("gitdir"))?;
    let names_us = fs::canonicalize(back.trim()).ok()? == fs::canonicalize(&pointer).ok()?;
    let is_repository = ["HEAD", "objects", "refs"].iter().all(|name| common.join(name).exists());
    let same_owner = fs::metadata(common).ok()?.uid() == fs::metadata(workspace).ok()?.uid();
    let outside = !common.starts_with(workspace);
    let name = private.file_name()?.to_owned();
    (names_us && is_repository && same_owner && outside).then(|| (common.to_path_buf(), name))
}

/// A small regular file's text. An agent may have put anything in its place: a pipe that never ends, a file of a
/// terabyte.
fn read_pointer(path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;
    if !found.is_file() || found.len() > LONGEST_POINTER {
        return None;
    }
    let mut text = String::new();
    file.take(LONGEST_POINTER).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Whether the filesystem at `path` is mounted noexec (statvfs(3)).
pub fn is_noexec(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}
