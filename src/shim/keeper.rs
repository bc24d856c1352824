//! The keeper: a second process that cleans up if `stockade run` is killed outright.
//!
//! ```text
//!  stockade run ──pipe──▶ keeper      "ledger <path>", …, "done"
//!        ╳ SIGKILL                    end of the pipe without "done": kill the cgroup, remove it and what the ledgers name
//! ```
//! The agent itself needs no keeper: its init dies with the parent (PR_SET_PDEATHSIG), and the kernel ends the rest.
//! What a killed process cannot do is remove the cgroup, the placeholders and the lock file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};

use super::ids::{self, UidRange};
use super::placeholders;
use crate::cgroup::{self, Layout};
use crate::id::AgentId;
use crate::sys::process::{Fork, exit_now, fork, reap};
use crate::sys::{fd, signal};

const MADE: u8 = b'+';
const DONE: u8 = b'.';

/// The running keeper.
pub struct Keeper {
    pid: i32,
    pipe: File,
}

impl Keeper {
    /// Starts it, before anything exists that would have to be cleaned up.
    pub fn start(id: &AgentId, range: &UidRange) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        match fork()? {
            Fork::Child => {
                drop(writer);
                keep(id, range, reader);
                exit_now(0)
            }
            Fork::Parent(pid) => Ok(Self { pid, pipe: writer.into() }),
        }
    }

    /// Tells it of a ledger of placeholders that is about to be opened.
    pub fn announce(&mut self, path: &Path) -> io::Result<()> {
        let path = path.as_os_str().as_bytes();
        self.pipe.write_all(&[&[MADE], path, &[0]].concat())
    }

    /// Everything is cleaned up already: it may go.
    pub fn dismiss(mut self) {
        // A keeper that somebody killed has no reader any more; it is reaped all the same.
        let _ = self.pipe.write_all(&[DONE]);
        drop(self.pipe);
        reap(self.pid);
    }
}

fn keep(id: &AgentId, range: &UidRange, pipe: rustix::fd::OwnedFd) {
    // A session of its own: neither the terminal's Ctrl-C nor its hangup reaches it.
    let _ = rustix::process::setsid();
    let _ = signal::block_all();
    // The caller's streams and files stay open only as long as the caller's own process lives.
    let (Ok(()), Ok(())) = (fd::place(pipe.as_fd(), 0), fd::place(range.descriptor(), 1)) else { return };
    let _ = fd::close_from(2);
    std::mem::forget(pipe);
    let mut told = Vec::new();
    let mut pipe = File::from(match fd::standard(0).try_clone_to_owned() {
        Ok(pipe) => pipe,
        Err(_) => return,
    });
    if pipe.read_to_end(&mut told).is_err() || told.last() == Some(&DONE) {
        return;
    }
    // Nobody is left to tell of an error; the next start takes over what could not be removed.
    // A layout is descriptors, and the caller's were closed above: this process opens its own.
    let _ = Layout::detect().and_then(|layout| cgroup::kill_and_remove(&layout, id));
    for path in told.split(|byte| *byte == 0).filter_map(|made| made.strip_prefix(&[MADE])).rev() {
        placeholders::settle(Path::new(std::ffi::OsStr::from_bytes(path)));
    }
    if let Ok(lock) = fd::standard(1).try_clone_to_owned() {
        ids::remove_if_unused(&lock.into());
    }
}
