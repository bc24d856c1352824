//! What a shim is told by the launcher: the order that was checked, and where it belongs. A sealed file in memory, so that
//! neither can change it afterwards. It comes by a message with three descriptors to a shim that waits for it:
//!
//! ```text
//!  launcher ──exec: socket──▶ shim, getting ready … ◀── claim, line, listener ── launcher
//! ```

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use serde::{Deserialize, Serialize};

use super::Order;
use crate::wire;

/// The socket over which the launcher's message comes, in a shim that was just executed. Both are of one installation, as
/// the launcher opened the program when it started: there is nothing to negotiate.
pub const ENGAGEMENT: i32 = 3;

/// What a shim is called while it waits.
pub const SPARE: &str = "stockade-spare";

/// The descriptors of the message.
#[derive(Debug)]
pub struct Engagement {
    /// The sealed claim.
    pub claim: OwnedFd,
    /// The socket that leads to the daemon.
    pub line: OwnedFd,
    /// The socket on which later daemons are accepted.
    pub listener: OwnedFd,
}

impl Engagement {
    /// Sends it to a shim that waits.
    ///
    /// # Errors
    /// As sendmsg(2); EPIPE when that shim has ended.
    pub fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        wire::send(socket, MESSAGE, &[self.claim.as_fd(), self.line.as_fd(), self.listener.as_fd()])
    }

    /// Waits for it; `None` when the launcher has gone.
    ///
    /// # Errors
    /// As recvmsg(2), and when something else comes.
    pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let Some((bytes, fds)) = wire::receive(socket, 3)? else { return Ok(None) };
        match (bytes.as_slice(), <[OwnedFd; 3]>::try_from(fds)) {
            (MESSAGE, Ok([claim, line, listener])) => Ok(Some(Self { claim, line, listener })),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not an engagement")),
        }
    }
}

const MESSAGE: &[u8] = b"engaged";

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim<Policy> {
    /// The node.
    pub node: Settings,
    /// The order.
    pub order: Order,
    /// What it may do, as the launcher has admitted it.
    pub policy: Policy,
    /// SHA-256 over that.
    pub policy_hash: String,
    /// Whether the kernel's audit was on just now; if not, why.
    #[serde(default)]
    pub audit: Option<Result<(), String>>,
}

/// What root has decided for this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Of the tree.
    pub root: PathBuf,
    /// Whom launcher and shims obey.
    pub daemon_uid: u32,
    /// Who reads what they write.
    pub daemon_gid: u32,
    /// Below these, an order may name a workspace.
    pub workspace_roots: Vec<PathBuf>,
    /// Where policies are looked for first.
    pub policies: Vec<PathBuf>,
}

/// A file in memory with these bytes that nobody can change, read from its start.
///
/// # Errors
/// As memfd_create(2).
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let memfd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memfd);
    file.write_all(bytes)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// All of a sealed file in memory, at most `most` bytes.
///
/// # Errors
/// When it is something else, when it can still be changed, and when it is longer.
pub fn read_sealed(file: impl AsFd, most: u64) -> io::Result<Vec<u8>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let seals = fcntl_get_seals(&file).map_err(|_| wrong("not a file in memory (memfd_create(2))"))?;
    let wanted = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    if !seals.contains(wanted) {
        return Err(wrong("a file in memory that is not sealed (write, grow, shrink, seal)"));
    }
    let length = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(u64::MAX);
    if length > most {
        return Err(wrong(&format!("longer than {most} bytes")));
    }
    let mut bytes = Vec::new();
    // By position: where the sender's copy of the descriptor stands is no matter.
    let mut at = 0;
    while at < length {
        let mut part = vec![0; usize::try_from(length - at).map_err(io::Error::other)?.min(1 << 16)];
        match rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut part[..], at))? {
            0 => break,
            read => {
                bytes.extend_from_slice(&part[..read]);
                at += read as u64;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_and_what_could_change_is_not() {
        let file = sealed("order", b"words").expect("sealed");
        assert_eq!(read_sealed(&file, 5).expect("read"), b"words");
        assert_eq!(read_sealed(&file, 5).expect("and again"), b"words");
        read_sealed(&file, 4).expect_err("too long");
        let open = memfd_create("order", MemfdFlags::ALLOW_SEALING).expect("a memfd");
        read_sealed(&open, 5).expect_err("not sealed");
        read_sealed(tempfile::tempfile().expect("a file"), 5).expect_err("not a memfd");
    }
}
