//! Files that were ordered for the agent's directory: written inside, by its own user, behind all its walls. What an
//! earlier agent has left there can lead nowhere that this one could not go itself.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::step::{Fault, On};
use crate::wire::service::order::File;

/// Writes each below the current directory, replacing what is there.
pub fn write(files: &[File]) -> Result<(), Fault> {
    files.iter().try_for_each(|file| put(Path::new(&file.path), file.content.as_bytes()).on(&file.path))
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut here: Option<OwnedFd> = None;
    for part in path.parent().into_iter().flatten() {
        here = Some(enter(here.as_ref(), part)?);
    }
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::TRUNC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = match &here {
        Some(directory) => openat(directory, name, flags, mode)?,
        None => openat(CWD, name, flags, mode)?,
    };
    std::fs::File::from(file).write_all(content)
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
