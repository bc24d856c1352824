//! One range of host uids and gids per sandbox, held by a lock that no crash can leave behind.
//!
//! Ranges start at 1879048192 (0x7000_0000), above what systemd hands out to containers (524288 to 1879048191,
//! systemd's UIDS-GIDS.md) and below 2^31, where some tools lose the sign. Each lock is one byte of one file: an open
//! file description lock (fcntl_locking(2)) lives as long as any process that holds a copy of the descriptor.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fd::AsFd;

use crate::id::AgentId;

/// The first host uid that Stockade uses.
pub const FIRST: u32 = 0x7000_0000;
/// Uids in one range.
pub const SIZE: u32 = 0x1_0000;
/// How many ranges there are, and so how many sandboxes at once.
pub const RANGES: u32 = 4096;

const DIRECTORY: &str = "/run/stockade";
/// In no directory of ours: to make one for each run, and remove it, takes longer than all else about the lock where /run is on a disk.
const FILE: &str = "/run/stockade-uid-ranges";
/// Where /run is not root's alone (a container's tmpfs, with a mode like that of /tmp): there anybody could hold the lock.
const SHELTERED: &str = "/run/stockade/uid-ranges";

/// A range that belongs to one sandbox until every copy of the descriptor is closed.
#[derive(Debug)]
pub struct UidRange {
    index: u32,
    lock: File,
}

impl UidRange {
    /// Takes the first free range.
    pub fn acquire() -> io::Result<Self> {
        loop {
            let lock = open()?;
            let index = (0..RANGES).find(|index| lock_byte(&lock, *index));
            // Between open and lock the last holder may have removed the file: then this lock protects nothing.
            if !is_current(&lock, file())? {
                continue;
            }
            let index =
                index.ok_or_else(|| io::Error::other(format!("all {RANGES} uid ranges are in use")))?;
            return Ok(Self { index, lock });
        }
    }

    /// Takes exactly this one; `None`: somebody has it.
    pub fn take(index: u32) -> io::Result<Option<Self>> {
        loop {
            let lock = open()?;
            let is_free = lock_byte(&lock, index);
            if is_current(&lock, file())? {
                return Ok(is_free.then_some(Self { index, lock }));
            }
        }
    }

    /// Its number, 0 to [`RANGES`].
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The host uid of the sandbox's uid 0.
    pub fn first(&self) -> u32 {
        FIRST + self.index * SIZE
    }

    /// The host uid and gid of its gateway: the last one, which nobody inside can take.
    pub fn gateway(&self) -> u32 {
        self.first() + SIZE - 1
    }

    /// All of them, on the host.
    pub fn uids(&self) -> std::ops::Range<u32> {
        self.first()..self.first() + SIZE
    }

    /// The line for uid_map and gid_map (user_namespaces(7)).
    pub fn map(&self) -> String {
        format!("0 {} {SIZE}\n", self.first())
    }

    /// The descriptor that carries the lock.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Gives the range back; the last holder of any range also removes the file.
    pub fn release(self) {
        // By an explicit unlock, for the keeper has a copy of the descriptor; and before looking for others: of two that
        // leave at once, the later to unlock then sees nobody.
        set_lock(&self.lock, libc::F_UNLCK, i64::from(self.index), 1);
        remove_if_unused(&self.lock);
    }
}

/// Whether this lock still holds the range, or can. Its owner may have given it back, and somebody else have taken it: by
/// another lock on this file, or on a newer one where the last to leave has removed this.
pub fn still_holds(lock: &File, index: u32) -> bool {
    lock_byte(lock, index) && is_current(lock, file()).unwrap_or(false)
}

/// The name of the agent that has this range.
pub fn agent(index: u32) -> AgentId {
    format!("run-{index}").parse().expect("letters, a dash and digits are a name")
}

/// The name under which that agent's gateway has a cgroup.
pub fn gateway(index: u32) -> AgentId {
    format!("run-{index}.egress").parse().expect("letters, a dash, digits and a dot are a name")
}

/// Removes the lock file, and /run/stockade if nothing is in it, when no range is held through any other descriptor.
pub fn remove_if_unused(lock: &File) {
    // Succeeds only if nobody else holds a byte. Whoever opened the file before it was removed will see, after
    // locking, that it is no longer the current one.
    if lock_bytes(lock, 0, 0) && is_current(lock, file()).unwrap_or(false) {
        let _ = std::fs::remove_file(file());
        let _ = std::fs::remove_dir(DIRECTORY); // holds other things, or another start has just made it anew
    }
}

/// Removes the lock file when nobody holds a range, for one who never had any.
pub fn sweep() {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    match options.open(file()) {
        Ok(lock) => remove_if_unused(&lock),
        // The directory may be all there is.
        Err(_) => drop(std::fs::remove_dir(DIRECTORY)),
    }
}

/// /run/stockade, if it is there and nobody but root can write to it.
pub fn existing_directory() -> Option<&'static Path> {
    let path = Path::new(DIRECTORY);
    check_owner(path).is_ok().then_some(path)
}

/// /run/stockade, made if it is missing.
pub fn directory() -> io::Result<&'static Path> {
    let path = Path::new(DIRECTORY);
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match check_owner(path) {
        // The last sandbox to end has just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => directory(),
        checked => checked.map(|()| path),
    }
}

/// Where the lock is: the same for everybody, as long as nobody changes /run itself.
fn file() -> &'static Path {
    Path::new(if check_owner(Path::new("/run")).is_ok() { FILE } else { SHELTERED })
}

fn open() -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    loop {
        let path = file();
        if path == Path::new(SHELTERED) {
            directory()?;
        }
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path == Path::new(SHELTERED) => {} // removed in between
            opened => return opened,
        }
    }
}

fn check_owner(directory: &Path) -> io::Result<()> {
    let found = std::fs::symlink_metadata(directory)?;
    if found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("{} must be a directory that only root can write to", directory.display())))
}

/// Whether `path` still names this open file.
pub fn is_current(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits for the right to change a file in /run/stockade, and what hangs on it; another open file of ours counts as
/// somebody else.
pub fn lock_for_change(file: &File) -> io::Result<()> {
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&record(libc::F_WRLCK, 0, 1))) {
            Err(nix::errno::Errno::EINTR) => {}
            locked => return Ok(locked.map(drop)?),
        }
    }
}

/// Gives that right back.
pub fn unlock_for_change(file: &File) {
    set_lock(file, libc::F_UNLCK, 0, 1);
}

fn lock_byte(file: &File, index: u32) -> bool {
    lock_bytes(file, i64::from(index), 1)
}

fn lock_bytes(file: &File, start: i64, length: i64) -> bool {
    set_lock(file, libc::F_WRLCK, start, length)
}

fn set_lock(file: &File, kind: libc::c_int, start: i64, length: i64) -> bool {
    fcntl(file, FcntlArg::F_OFD_SETLK(&record(kind, start, length))).is_ok()
}

fn record(kind: libc::c_int, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_range_reaches_root_or_the_sign_bit() {
        const { assert!(FIRST > 1_879_048_191) };
        const { assert!(FIRST as u64 + RANGES as u64 * SIZE as u64 <= 1 << 31) };
    }
}
