//! The agent's view of the filesystem, built with descriptors: no path is ever looked up twice, and nothing that an
//! agent could have planted is followed (GHSA-pxhw-h44j-8pfx, CVE-2025-52565, CVE-2026-41579).

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::Materials;
use super::step::{Fault, On};
use crate::plan::{Bind, Mount, Source, StandIn, User, cover};
use crate::sys;
use crate::sys::mount::{Attributes, set_attributes, set_read_only};

/// The new root: a tmpfs that holds mount points, links and a few small files, and is read-only in the end.
pub struct Root {
    fd: OwnedFd,
    /// The directory that was needed last; many files lie in the same one. Forgotten when something is mounted.
    last: RefCell<Option<(PathBuf, OwnedFd)>>,
}

impl Root {
    /// Makes an empty directory and an empty file, to cover others with.
    pub fn make_empty(&self) -> Result<(), Fault> {
        rustix::fs::mkdirat(&self.fd, EMPTY_DIRECTORY, Mode::from_raw_mode(0o555)).on(EMPTY_DIRECTORY)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, EMPTY_FILE, flags, Mode::from_raw_mode(0o444)).on(EMPTY_FILE)?;
        Ok(())
    }

    /// One more read-only mount of the empty directory, or of the empty file. Each is cloned from the root, by name: before
    /// Linux 6.15 the kernel clones no mount that is itself detached, and it never clones that of what has no name.
    pub fn clone_empty(&self, kind: Kind) -> Result<OwnedFd, Fault> {
        let name = match kind {
            Kind::Directory => EMPTY_DIRECTORY,
            Kind::File => EMPTY_FILE,
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(&self.fd, name, flags).on(name)?;
        set_read_only(tree.as_fd()).on(name)?;
        Ok(tree)
    }

    /// Takes their names away again; what they cover stays covered.
    pub fn remove_empty(&self) -> Result<(), Fault> {
        rustix::fs::unlinkat(&self.fd, EMPTY_DIRECTORY, AtFlags::REMOVEDIR).on(EMPTY_DIRECTORY)?;
        rustix::fs::unlinkat(&self.fd, EMPTY_FILE, AtFlags::empty()).on(EMPTY_FILE)
    }
}

const EMPTY_DIRECTORY: &str = ".empty-directory";
const EMPTY_FILE: &str = ".empty-file";
/// Where the tree of covers hangs while it is needed.
const COVERS: &str = ".covers";

/// Whether a mount point is for a directory or for anything else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// Makes the root and hangs it into this mount namespace: over the old /proc, the one directory every host has.
pub fn make_root() -> Result<Root, Fault> {
    // The modes below are meant as they stand; init gives the agent an ordinary umask.
    rustix::process::umask(Mode::empty());
    let fd = tmpfs("root", &[("size", "4M"), ("nr_inodes", "4096"), ("mode", "0755")], false)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&fd, "", rustix::fs::CWD, "/proc", flags).on("/proc")?;
    Ok(Root { fd, last: RefCell::default() })
}

/// The fresh storage among these, mounted nowhere yet: made before the rest comes from the shim.
pub fn make_storage(mounts: &[Mount], user: &User) -> Result<Vec<Option<OwnedFd>>, Fault> {
    let make = |mount: &Mount| {
        let Mount::Tmpfs { target, size, mode, owned_by_agent, exec } = mount else { return Ok(None) };
        let (size, mode) = (size.get().to_string(), format!("{mode:o}"));
        let id = if *owned_by_agent { user.uid } else { 0 }.to_string();
        let options = [("size", size.as_str()), ("mode", &mode), ("uid", &id), ("gid", &id)];
        tmpfs("tmpfs", &options, !exec).on_path(target).map(Some)
    };
    mounts.iter().map(make).collect()
}

/// Hangs in what every sandbox has.
pub fn place_special(root: &Root, given: &Materials, user: &User) -> Result<(), Fault> {
    let Materials { dev, etc, .. } = given;
    attach(root, dev.as_fd(), "dev")?;
    attach(root, etc.as_fd(), "etc")?;
    // Everyone's home lies in a directory that is not theirs.
    if let Some(parent) = user.home.parent().and_then(|p| p.strip_prefix("/").ok()) {
        target(root, parent, Kind::Directory).on(parent.display())?;
    }
    Ok(())
}

/// Makes each mount in the plan's order, but for what lies in the tree of /etc already.
pub fn build(
    root: &Root,
    mounts: &[Mount],
    given: &Materials,
    storage: &[Option<OwnedFd>],
) -> Result<(), Fault> {
    let Materials { trees, covers, .. } = given;
    if let Some(covers) = covers {
        attach(root, covers.as_fd(), COVERS)?;
    }
    for ((mount, tree), storage) in mounts.iter().zip(trees).zip(storage) {
        match mount {
            mount if mount.is_of_etc() => {}
            Mount::Bind(bind) => place_bind(root, bind, tree.as_ref()).on_path(&bind.target)?,
            // Nothing is copied but in /etc.
            Mount::Copy { .. } => return Err(Errno::NOTSUP.into()),
            Mount::Tmpfs { target, .. } => {
                let fs =
                    storage.as_ref().ok_or_else(|| io::Error::other("was not made")).on(target.display())?;
                attach(root, fs.as_fd(), relative(target)).on_path(target)?;
            }
            Mount::Symlink { target, points_to } => {
                in_parent(root, target, |parent, name| Ok(rustix::fs::symlinkat(points_to, parent, name)?))
                    .on(target.display())?;
            }
            Mount::File { target, content } => write_file(root, target, content, DATA).on_path(target)?,
            Mount::Script { target, content } => write_file(root, target, content, SCRIPT).on_path(target)?,
            Mount::Directory { target: path } => {
                target(root, relative(path), Kind::Directory).on(path.display())?;
            }
        }
    }
    if covers.is_some() {
        // Their clones stay.
        rustix::process::fchdir(&root.fd).on(COVERS)?;
        rustix::mount::unmount(COVERS, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).on(COVERS)?;
        rustix::fs::unlinkat(&root.fd, COVERS, AtFlags::REMOVEDIR).on(COVERS)?;
    }
    Ok(())
}

/// Nothing in the root itself can change any more.
pub fn seal(root: &Root) -> io::Result<()> {
    set_read_only(root.fd.as_fd())
}

/// pivot_root(2) with the old root stacked on the same place, then let go: no name leads to it any more.
pub fn pivot_into(root: &Root) -> io::Result<()> {
    rustix::process::fchdir(&root.fd)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Hangs a detached tree in at `path`, relative to the root.
pub fn attach(root: &Root, tree: BorrowedFd<'_>, path: impl AsRef<Path>) -> Result<(), Fault> {
    let path = path.as_ref();
    let point = target(root, path, kind_of(tree).on(path.display())?).on(path.display())?;
    move_onto(root, tree, point.as_fd()).on(path.display())
}

fn place_bind(root: &Root, bind: &Bind, tree: Option<&OwnedFd>) -> Result<(), Fault> {
    match (&bind.source, tree) {
        (Source::Path { .. }, Some(tree)) => attach(root, tree.as_fd(), relative(&bind.target)),
        (Source::Path { .. }, None) => Err(io::Error::other("was not opened by the shim").into()),
        (Source::Protected { stand_in: Some(StandIn::File), .. }, _) => {
            let point = open(root.fd.as_fd(), relative(&bind.target))?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let cover = rustix::mount::open_tree(
                &root.fd,
                Path::new(COVERS).join(cover::name(bind.target.file_name())),
                flags,
            )?;
            Ok(move_onto(root, cover.as_fd(), point.as_fd())?)
        }
        (Source::Protected { .. }, _) => {
            // Source and target are one descriptor, so no rename in between can part them.
            let point = open(root.fd.as_fd(), relative(&bind.target))?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH
                | OpenTreeFlags::AT_RECURSIVE;
            let tree = rustix::mount::open_tree(&point, "", flags)?;
            let wanted = Attributes {
                read_only: !bind.writable,
                no_exec: !bind.exec,
                recursive: true,
                ..Attributes::default()
            };
            set_attributes(tree.as_fd(), wanted)?;
            Ok(move_onto(root, tree.as_fd(), point.as_fd())?)
        }
    }
}

/// What everybody may do with a file.
const DATA: u32 = 0o444;
const SCRIPT: u32 = 0o555;

fn write_file(root: &Root, path: &Path, content: &str, mode: u32) -> Result<(), Fault> {
    let file = create(root, path, mode)?;
    let mut rest = content.as_bytes();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    Ok(())
}

fn create(root: &Root, path: &Path, mode: u32) -> Result<OwnedFd, Fault> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    Ok(in_parent(root, path, |parent, name| Ok(rustix::fs::openat(parent, name, flags, mode)?))?)
}

/// A detached tmpfs of this user namespace.
fn tmpfs(name: &str, options: &[(&str, &str)], no_exec: bool) -> Result<OwnedFd, Fault> {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if no_exec {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
    }
    sys::mount::tmpfs(&[&[("source", name)], options].concat(), attributes).on(format!("tmpfs {name}"))
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn open(at: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(at, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The mount point at `path`; what is missing of it is made.
fn target(root: &Root, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    match open(root.fd.as_fd(), path) {
        Ok(point) => return Ok(point),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    in_parent(root, path, |parent, name| {
        if kind == Kind::File {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // This descriptor is as good a mount point as another.
            return Ok(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o444))?);
        }
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        Ok(open(parent, Path::new(name))?)
    })
}

/// Does something in the directory that `path` lies in, made where it is missing, with the last component.
fn in_parent<T>(
    root: &Root,
    path: &Path,
    deed: impl FnOnce(BorrowedFd<'_>, &OsStr) -> io::Result<T>,
) -> io::Result<T> {
    let path = relative(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("not a plain path"));
    };
    if parent.as_os_str().is_empty() {
        return deed(root.fd.as_fd(), name);
    }
    let mut last = root.last.take().filter(|(known, _)| known == parent);
    if last.is_none() {
        last = Some((parent.to_path_buf(), target(root, parent, Kind::Directory)?));
    }
    let (_, directory) = last.as_ref().expect("found, or opened just now");
    let done = deed(directory.as_fd(), name);
    root.last.replace(last);
    done
}

fn kind_of(tree: BorrowedFd<'_>) -> io::Result<Kind> {
    Ok(kind_of_mode(rustix::fs::fstat(tree)?.st_mode))
}

/// What a mount point for something of this mode has to be.
pub fn kind_of_mode(mode: rustix::fs::RawMode) -> Kind {
    match rustix::fs::FileType::from_raw_mode(mode).is_dir() {
        true => Kind::Directory,
        false => Kind::File,
    }
}

fn move_onto(root: &Root, tree: BorrowedFd<'_>, point: BorrowedFd<'_>) -> io::Result<()> {
    // What lay there may be hidden now.
    root.last.take();
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", point, "", flags)?)
}

/// Names the mount an error belongs to, unless a more exact object is known.
trait OnPath<T> {
    fn on_path(self, path: &Path) -> Result<T, Fault>;
}

impl<T> OnPath<T> for Result<T, Fault> {
    fn on_path(self, path: &Path) -> Result<T, Fault> {
        self.map_err(|fault| match fault.object.as_str() {
            "" => Fault { object: path.display().to_string(), ..fault },
            _ => fault,
        })
    }
}
