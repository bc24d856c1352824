//! What the agent sees of the host, opened while we still can: the sandbox's uid 0 is nobody on the host, and could not
//! even reach a workspace below /root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::idmap::Idmaps;
use crate::plan::{Bind, Mount, Source};
use crate::sys::mount::{Attributes, set_attributes};

/// Largest file that is copied into the sandbox's /etc.
const LARGEST_COPY: i64 = 1 << 20;

/// A host path that could not be opened for the sandbox.
#[derive(Debug)]
pub struct SourceError {
    /// Which.
    pub path: String,
    /// What was done to it.
    pub doing: &'static str,
    /// Why not.
    pub source: io::Error,
}

/// One detached tree for each mount that comes from a host path, in the plan's order.
pub fn open(mounts: &[Mount], idmaps: &mut Idmaps) -> Result<Vec<Option<OwnedFd>>, SourceError> {
    let tree = |mount: &Mount| match mount {
        Mount::Bind(bind @ Bind { source: Source::Path { path }, .. }) => {
            detach(path, bind, idmaps).map(Some)
        }
        Mount::Copy { source, .. } => open_small(source).map(Some),
        _ => Ok(None),
    };
    mounts.iter().map(tree).collect()
}

fn detach(path: &Path, bind: &Bind, idmaps: &mut Idmaps) -> Result<OwnedFd, SourceError> {
    let failed =
        |doing| move |source: io::Error| SourceError { path: path.display().to_string(), doing, source };
    // The plan holds canonical paths: a symlink now is one that was not there when it was made.
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(io::Error::from)
        .map_err(failed("opening"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree =
        open_tree(&found, "", flags).map_err(io::Error::from).map_err(failed("cloning the mount of"))?;
    let idmap = match bind.owner {
        Some(owner) => Some(idmaps.namespace(owner).map_err(failed("making the id mapping for"))?),
        None => None,
    };
    restrict(tree.as_fd(), bind, idmap).map_err(failed("restricting the mount of"))?;
    Ok(tree)
}

/// A file that is copied rather than mounted.
fn open_small(path: &Path) -> Result<OwnedFd, SourceError> {
    let failed =
        |source: io::Error| SourceError { path: path.display().to_string(), doing: "opening", source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(CWD, path, flags, Mode::empty(), resolve).map_err(|errno| failed(errno.into()))?;
    let found = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?;
    let regular = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
    if !regular || found.st_size > LARGEST_COPY {
        return Err(failed(io::Error::other("not a regular file of at most 1 MiB")));
    }
    Ok(file)
}

fn restrict(tree: BorrowedFd<'_>, bind: &Bind, idmap: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let wanted = Attributes { read_only: !bind.writable, no_exec: !bind.exec, idmap, recursive: true };
    set_attributes(tree, wanted)
}
