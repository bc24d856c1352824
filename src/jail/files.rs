//! Files that were ordered for the agent's directory and its home: written inside, by its own user, behind all its walls.
//! What an earlier agent has left there can lead nowhere that this one could not go itself.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::step::{Fault, On};
use crate::wire::service::order::File;

/// Writes each: below the current directory, replacing what is there, or below the home, where nothing is replaced.
pub fn write(files: &[File], home: &Path) -> Result<(), Fault> {
    files.iter().try_for_each(|file| put(file, home).on(&file.path))
}

fn put(file: &File, home: &Path) -> io::Result<()> {
    let path = Path::new(&file.path);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut here: Option<OwnedFd> = None;
    if file.home {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        here = match openat(CWD, home, flags, Mode::empty()) {
            Err(Errno::ACCESS) => return Ok(()),
            home => Some(home?),
        };
    }
    for part in path.parent().into_iter().flatten() {
        here = match enter(here.as_ref(), part) {
            // A home that is kept may have a link or a file there by now, or let nobody in: that is its owner's answer.
            Err(error) if file.home && is_taken(&error) => return Ok(()),
            entered => Some(entered?),
        };
    }
    let (new, mode) = if file.home { (OFlags::EXCL, 0o600) } else { (OFlags::TRUNC, 0o644) };
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | new
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let opened = match &here {
        Some(directory) => openat(directory, name, flags, mode),
        None => openat(CWD, name, flags, mode),
    };
    match opened {
        Err(Errno::EXIST | Errno::ACCESS) if file.home => Ok(()),
        opened => std::fs::File::from(opened?).write_all(file.content.as_bytes()),
    }
}

fn is_taken(error: &io::Error) -> bool {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    is(Errno::EXIST) || is(Errno::LOOP) || is(Errno::NOTDIR) || is(Errno::ACCESS)
}

/// A directory, made if it is missing; never through a link.
fn enter(here: Option<&OwnedFd>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = match here {
        Some(here) => mkdirat(here, name, Mode::from_raw_mode(0o755)),
        None => mkdirat(CWD, name, Mode::from_raw_mode(0o755)),
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(match here {
        Some(here) => openat(here, name, flags, Mode::empty())?,
        None => openat(CWD, name, flags, Mode::empty())?,
    })
}
