//! The keeper: a second process. It makes the sandbox's network namespace while its owner still decides, and cleans up
//! if `stockade run` is killed outright.
//!
//! ```text
//!  stockade run ──socket──▶ keeper    "range <index>" and its lock, "ledger <path>" …: they queue, unread
//!       ╳ SIGKILL                     executes itself anew, reads what was said, kills the cgroup, writes down what it has
//!                                     used, removes it, and what the ledgers name
//! ```
//! The agent itself needs no keeper: its init dies with the parent (PR_SET_PDEATHSIG), and the kernel ends the rest.
//! What a killed process cannot do is remove the cgroup, the placeholders and the lock file.
//!
//! Until its owner ends it runs on its owner's memory ([`Beside`]). What it would find there after a kill may be half
//! written: so it begins afresh.

use std::cell::Cell;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::ids::{self, UidRange};
use super::service::estate::{Estate, Read};
use super::{placeholders, privileges};
use crate::cgroup::{self, Layout};
use crate::sys::beside::{Beside, Errand};
use crate::sys::fd;
use crate::{netns, wire};

/// The name under which the program executes itself to clean up.
const NAME: &CStr = c"stockade-keeper";

const RANGE: u8 = b'#';
const LEDGER: u8 = b'+';
const ESTATE: u8 = b'=';

/// How long a process takes to end after its parent, at the most.
const MOMENT: Duration = Duration::from_secs(1);

/// The running keeper. One that is not dismissed cleans up when its owner ends, however that comes.
pub struct Keeper {
    process: Beside,
    socket: OwnedFd,
    /// Whether it has said that its network namespace is there.
    network: Cell<bool>,
}

impl Keeper {
    /// Starts it, before anything exists that would have to be cleaned up.
    pub fn start() -> io::Result<Self> {
        crate::sys::signal::restore(Signal::SIGCHLD)?;
        let owner = pidfd_open(getpid(), PidfdFlags::empty())?;
        let (ours, theirs) = wire::pair()?;
        let (socket, owner) = (theirs.as_fd(), owner.as_fd());
        let process = Beside::start(Errand { socket, owner, capabilities: privileges::kept(), name: NAME })?;
        // Nobody reads what is said there as long as this process lives: it must not wait for room.
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok(Self { process, socket: ours, network: Cell::new(false) })
    }

    /// Does something in the network namespace that the keeper makes, once it is there.
    pub fn in_network<T>(&self, deed: impl FnOnce() -> T) -> io::Result<T> {
        if !self.network.get() {
            self.await_network()?;
            self.network.set(true);
        }
        netns::within(self.process.pidfd(), deed)
    }

    /// Whether it lives, and has not said that it cannot make a network namespace.
    pub fn is_well(&self) -> bool {
        let mut polls = [
            PollFd::from_borrowed_fd(self.process.pidfd(), PollFlags::IN),
            PollFd::new(&self.socket, PollFlags::IN),
        ];
        let polled = poll(&mut polls, Some(&Timespec::default()));
        let [ended, said] = polls.map(|poll| !poll.revents().is_empty());
        // Nobody hears twice what it said: it is kept.
        polled.is_ok() && !ended && (!said || self.network.replace(true) || self.await_network().is_ok())
    }

    /// Which process it is.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Everything is cleaned up: it may go.
    pub fn dismiss(self) {
        self.process.end();
    }

    fn await_network(&self) -> io::Result<()> {
        while poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], None) == Err(Errno::INTR) {}
        let Some((bytes, _)) = wire::receive(&self.socket, 0)? else {
            return Err(io::Error::other("the process that makes the network namespace was ended"));
        };
        match bytes.try_into().map(i32::from_le_bytes) {
            Ok(0) => Ok(()),
            Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Waits until whoever kills this process's whole group leaves it: before there is anything to clean up.
    pub fn part(&self) {
        self.process.part();
    }

    /// Tells it of the range of uids, by which everything else of the sandbox is named. It shares the lock, so that
    /// nobody takes the range before all of it is gone.
    pub fn watch(&self, range: &UidRange) -> io::Result<()> {
        let message = [&[RANGE], range.index().to_le_bytes().as_slice()].concat();
        wire::send(self.socket.as_fd(), &message, &[range.descriptor()])
    }

    /// Tells it where to put what the agent has used, before the cgroup goes.
    pub fn entrust(&self, estate: &Estate) -> io::Result<()> {
        let estate = serde_json::to_vec(estate)?;
        wire::send(self.socket.as_fd(), &[&[ESTATE], estate.as_slice()].concat(), &[])
    }

    /// Tells it of a ledger of placeholders that is about to be opened.
    pub fn announce(&self, path: &Path) -> io::Result<()> {
        wire::send(self.socket.as_fd(), &[&[LEDGER], path.as_os_str().as_bytes()].concat(), &[])
    }
}

/// Whether this program was started to clean up after one that was killed: then it has done so.
pub fn was_called() -> bool {
    let mut arguments = std::env::args_os();
    let called = arguments.next().is_some_and(|name| name.as_bytes() == NAME.to_bytes());
    if called {
        let _ = rustix::thread::set_name(NAME);
        if let Some(socket) = arguments.next().and_then(|number| number.to_str()?.parse().ok()) {
            clean_up(fd::fixed(socket));
        }
    }
    called
}

/// Nobody is left to tell of an error; the next start takes over what cannot be removed.
fn clean_up(socket: BorrowedFd<'_>) {
    let Ok(told) = listen(socket) else { return };
    let Some((index, lock)) = told.range else { return ids::sweep() };
    let lock = lock.into();
    if ids::still_holds(&lock, index) {
        let estate = told.estate.as_ref();
        let settle = |used: &cgroup::Usage| drop(estate.map(|estate| estate.settle(used, Read::AtItsEnd)));
        let clear = |layout: Layout| {
            // What the gateway has counted is whole once it is gone.
            let gateway = cgroup::kill_and_remove(&layout, &ids::gateway(index), |_| {});
            cgroup::kill_and_remove(&layout, &ids::agent(index), settle).and(gateway)
        };
        let _ = Layout::detect().and_then(clear);
    }
    for ledger in told.ledgers.iter().rev() {
        settle(ledger);
    }
    ids::remove_if_unused(&lock);
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

/// What there is to clean up.
#[derive(Default)]
struct Told {
    range: Option<(u32, OwnedFd)>,
    ledgers: Vec<PathBuf>,
    estate: Option<Estate>,
}

/// All that the owner said: it has ended, so that all of it is there. A child of its own may still hold its end open.
fn listen(socket: BorrowedFd<'_>) -> io::Result<Told> {
    rustix::io::ioctl_fionbio(socket, true)?;
    let mut told = Told::default();
    loop {
        let (message, mut descriptors) = match wire::receive(socket, 1) {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(told),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(told),
            Err(error) => return Err(error),
        };
        match (message.split_first(), descriptors.pop()) {
            (Some((&RANGE, index)), Some(lock)) => {
                // A start that was given up, and another: what came before is settled.
                told.ledgers.clear();
                told.range = index.try_into().ok().map(|index| (u32::from_le_bytes(index), lock));
            }
            (Some((&ESTATE, estate)), _) => told.estate = serde_json::from_slice(estate).ok(),
            (Some((&LEDGER, path)), _) => told.ledgers.push(OsStr::from_bytes(path).into()),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
