//! Opening a policy file in a way that leaves nobody but root a chance to decide what is read.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};

/// As many links as the kernel itself would follow (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Why a file's content could be somebody else's than root's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    /// The file, or the directory or link on the way to it.
    pub part: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It belongs to this uid.
    Owner(u32),
    /// These permission bits let its group or everybody write to it.
    Writable(u32),
    /// It is a device, a pipe or a directory.
    NotAFile,
    /// More symbolic links than can be meant.
    TooManyLinks,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part.display();
        match self.reason {
            Reason::Owner(uid) => {
                write!(f, "{part} belongs to uid {uid} instead of root; put it right with: chown root {part}")
            }
            Reason::Writable(mode) => {
                write!(
                    f,
                    "{part} can be written by others (mode {mode:04o}); put it right with: chmod go-w {part}"
                )
            }
            Reason::NotAFile => write!(f, "{part} is not a regular file"),
            Reason::TooManyLinks => write!(f, "{part} goes through more than {MOST_LINKS} symbolic links"),
        }
    }
}

/// Why a file could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The system refused.
    Io(io::Error),
    /// This program refuses.
    Distrust(Distrust),
}

impl From<rustix::io::Errno> for OpenError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Opens the regular file at an absolute path, if only root and `owner` can have decided what is in it.
///
/// The path is walked name by name, each one opened without following links and judged by its own descriptor, so
/// that what was judged is what is used next. A directory that others may write to is passed only if it is sticky:
/// there, an entry that root owns cannot be replaced (unlink(2)). Links are followed by hand under the same rule.
pub fn open(path: &Path, owner: u32) -> Result<File, OpenError> {
    let mut links = 0;
    let mut here = open_part(CWD, OsStr::new("/"))?;
    let mut walked = PathBuf::from("/");
    let mut ahead = names(path);
    loop {
        let stat = rustix::fs::fstat(&here)?;
        judge_directory(&stat, owner, &walked)?;
        let Some(name) = ahead.pop() else { return refuse(path, Reason::NotAFile) };
        let part = open_part(&here, &name)?;
        let stat = rustix::fs::fstat(&part)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS {
                    return refuse(path, Reason::TooManyLinks);
                }
                judge_owner(&stat, owner, &walked.join(&name))?;
                // The link that was judged, by its own descriptor (readlinkat(2): an empty path since Linux 2.6.39).
                let target = rustix::fs::readlinkat(&part, "", Vec::new())?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                if target.is_absolute() {
                    here = open_part(CWD, OsStr::new("/"))?;
                    walked = PathBuf::from("/");
                }
                ahead.extend(names(target));
            }
            FileType::Directory => {
                here = part;
                walked.push(&name);
            }
            FileType::RegularFile if ahead.is_empty() => {
                return open_file(&here, &name, owner, &walked.join(&name));
            }
            // The kernel's word for a file where a directory is wanted.
            _ if !ahead.is_empty() => return Err(rustix::io::Errno::NOTDIR.into()),
            _ => return refuse(&walked.join(&name), Reason::NotAFile),
        }
    }
}

/// One name, whatever it stands for, without following or opening it for use.
fn open_part(directory: impl AsFd, name: &OsStr) -> Result<OwnedFd, OpenError> {
    Ok(rustix::fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// The names in a path, last first. `..` stays: it is looked up in the directory that is open, as the kernel would.
fn names(path: &Path) -> Vec<OsString> {
    use std::path::Component::{Normal, ParentDir};
    let names = path.components().filter_map(|component| match component {
        Normal(name) => Some(name.to_owned()),
        ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

fn open_file(directory: &OwnedFd, name: &OsStr, owner: u32, walked: &Path) -> Result<File, OpenError> {
    // NONBLOCK: a FIFO put here since the stat must not hold the program up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refuse(walked, Reason::NotAFile);
    }
    judge_owner(&stat, owner, walked)?;
    judge_mode(&stat, walked)?;
    Ok(file.into())
}

fn judge_directory(stat: &Stat, owner: u32, walked: &Path) -> Result<(), OpenError> {
    judge_owner(stat, owner, walked)?;
    if stat.st_mode & 0o1000 != 0 { Ok(()) } else { judge_mode(stat, walked) }
}

fn judge_owner(stat: &Stat, owner: u32, walked: &Path) -> Result<(), OpenError> {
    if stat.st_uid == 0 || stat.st_uid == owner { Ok(()) } else { refuse(walked, Reason::Owner(stat.st_uid)) }
}

/// The group bits stand for POSIX ACLs too: they hold the mask (acl(5)).
fn judge_mode(stat: &Stat, walked: &Path) -> Result<(), OpenError> {
    if stat.st_mode & 0o022 == 0 { Ok(()) } else { refuse(walked, Reason::Writable(stat.st_mode & 0o7777)) }
}

fn refuse<T>(part: &Path, reason: Reason) -> Result<T, OpenError> {
    Err(OpenError::Distrust(Distrust { part: part.into(), reason }))
}
