//! The keeper: a second process that cleans up if `stockade run` is killed outright.
//!
//! ```text
//!  stockade run ──socket──▶ keeper    "range <index>" and its lock, "ledger <path>", …, "done"
//!        ╳ SIGKILL                    the end without "done": kill the cgroup, remove it and what the ledgers name
//! ```
//! The agent itself needs no keeper: its init dies with the parent (PR_SET_PDEATHSIG), and the kernel ends the rest.
//! What a killed process cannot do is remove the cgroup, the placeholders and the lock file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open, setpgid};

use super::ids::{self, UidRange};
use super::placeholders;
use crate::cgroup::{self, Layout};
use crate::sys::process::{Fork, exit_now, fork, reap};
use crate::sys::{fd, signal};
use crate::wire;

const RANGE: u8 = b'#';
const LEDGER: u8 = b'+';
const DONE: u8 = b'.';

/// Where the keeper has what it needs: the socket, the end of `stockade run`, the lock.
const SOCKET: i32 = 0;
const OWNER: i32 = 1;
const FIRST_FREE: i32 = 2;

/// How long a process takes to end after its parent, at the most.
const MOMENT: Duration = Duration::from_secs(1);

/// The running keeper.
pub struct Keeper {
    pid: i32,
    socket: OwnedFd,
}

impl Keeper {
    /// Starts it, before anything exists that would have to be cleaned up.
    pub fn start() -> io::Result<Self> {
        let owner = pidfd_open(getpid(), PidfdFlags::empty())?;
        let (ours, theirs) = wire::pair()?;
        match fork()? {
            Fork::Child => {
                keep(&theirs, &owner);
                exit_now(0)
            }
            Fork::Parent(pid) => {
                // A group of its own before anything else happens: whoever kills the caller's whole group leaves it.
                // Refused if it has made itself a session already, which is as good.
                let _ = setpgid(Pid::from_raw(pid), Pid::from_raw(pid));
                Ok(Self { pid, socket: ours })
            }
        }
    }

    /// Tells it of the range of uids, by which everything else of the sandbox is named. It shares the lock, so that
    /// nobody takes the range before all of it is gone.
    pub fn watch(&self, range: &UidRange) -> io::Result<()> {
        let message = [&[RANGE], range.index().to_le_bytes().as_slice()].concat();
        wire::send(self.socket.as_fd(), &message, Some(range.descriptor()))
    }

    /// Tells it of a ledger of placeholders that is about to be opened.
    pub fn announce(&self, path: &Path) -> io::Result<()> {
        wire::send(self.socket.as_fd(), &[&[LEDGER], path.as_os_str().as_bytes()].concat(), None)
    }

    /// Everything is cleaned up already: it may go.
    pub fn dismiss(self) {
        // A keeper that somebody killed has no socket any more; it is reaped all the same.
        let _ = wire::send(self.socket.as_fd(), &[DONE], None);
        drop(self.socket);
        reap(self.pid);
    }
}

/// What there is to clean up.
#[derive(Default)]
struct Told {
    range: Option<(u32, OwnedFd)>,
    ledgers: Vec<PathBuf>,
}

fn keep(socket: &OwnedFd, owner: &OwnedFd) {
    // A session of its own: neither the terminal's Ctrl-C nor its hangup reaches it.
    let _ = rustix::process::setsid();
    let _ = signal::block_all();
    let (Ok(()), Ok(())) = (fd::place(socket.as_fd(), SOCKET), fd::place(owner.as_fd(), OWNER)) else {
        return;
    };
    // The caller's streams and files stay open only as long as the caller's own process lives.
    let _ = fd::close_from(FIRST_FREE);
    let Ok(Some(told)) = listen() else { return };
    await_end_of_owner();
    // Nobody is left to tell of an error; the next start takes over what could not be removed.
    let Some((index, lock)) = told.range else { return ids::sweep() };
    // A layout is descriptors, and the caller's were closed above: this process opens its own.
    let clear = |layout: Layout| {
        let gateway = cgroup::kill_and_remove(&layout, &ids::gateway(index));
        cgroup::kill_and_remove(&layout, &ids::agent(index)).and(gateway)
    };
    let _ = Layout::detect().and_then(clear);
    for ledger in told.ledgers.iter().rev() {
        settle(ledger);
    }
    ids::remove_if_unused(&lock.into());
}

/// The owner may have been killed while a child of its own held a user namespace for it (`idmap`): that child has copies
/// of the ledgers' locks, belongs to no cgroup, and ends a moment after its parent. Another run's lock stays; the last
/// to leave settles.
fn settle(ledger: &Path) {
    let deadline = Instant::now() + MOMENT;
    while !placeholders::settle(ledger) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// All that is said until the end of the socket; `None` if everything was cleaned up.
fn listen() -> io::Result<Option<Told>> {
    let mut told = Told::default();
    while let Some((message, lock)) = wire::receive(fd::standard(SOCKET))? {
        match (message.split_first(), lock) {
            (Some((&RANGE, index)), Some(lock)) => {
                told.range = index.try_into().ok().map(|index| (u32::from_le_bytes(index), lock));
            }
            (Some((&LEDGER, path)), _) => told.ledgers.push(std::ffi::OsStr::from_bytes(path).into()),
            (Some((&DONE, _)), _) => return Ok(None),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(Some(told))
}

/// A process that dies closes one descriptor after the other: the end of the socket may come before the end of its locks.
fn await_end_of_owner() {
    let owner = fd::standard(OWNER);
    while poll(&mut [PollFd::new(&owner, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
}
