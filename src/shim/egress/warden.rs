//! The warden: the parent of the gateway, with the gateway's own uid and no privilege, that can start it again.
//!
//! ```text
//!  shim ── Start + control socket, configuration ──▶ warden ── fork, execveat ──▶ stockade-egress
//!       ◀─ Started(pid) / Ended(status) / Failed(what) ─      ◀─ its end ─────────
//! ```
//! The shim gives up every way to another uid before the agent runs, so whoever starts a second gateway must have taken
//! the gateway's uid before. It keeps the sockets meanwhile: an attempt that comes while there is no gateway waits for the
//! next one. The end of the shim is its end, and its end is the gateway's.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use caps::CapSet;
use nix::sys::resource::{Resource, setrlimit};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::cgroup::Cgroup;
use crate::sys::process::{End, Side, clone3, exit_now, wait};
use crate::sys::{self, exec, fd, signal};
use crate::wire;
use crate::wire::egress::{CONFIG, CONTROL, SOCKETS};
use crate::wire::tally;

/// Beyond every place that a socket of the gateway's goes to.
const ABOVE: i32 = SOCKETS + wire::MOST_DESCRIPTORS as i32 + 64;

const STARTED: u8 = b'P';
const ENDED: u8 = b'E';
const FAILED: u8 = b'F';

/// What the gateway is started with, again and again.
pub struct Setup<'a> {
    /// The program, opened and judged.
    pub program: OwnedFd,
    /// In the order of the configuration.
    pub sockets: Vec<OwnedFd>,
    /// Its uid and gid on the host.
    pub uid: u32,
    /// How many files it may have open.
    pub open_files: u64,
    /// Where it lives.
    pub cgroup: &'a Cgroup,
}

/// The running warden, as the shim sees it.
#[derive(Debug)]
pub struct Warden {
    pidfd: OwnedFd,
    socket: OwnedFd,
}

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A gateway was started: this process.
    Started(u32),
    /// The gateway has ended.
    Ended(End),
    /// It could not even be started.
    Failed(String),
    /// The warden itself is gone, and with it every gateway.
    Gone,
}

impl Warden {
    /// Starts it. Needs the rights that the shim gives up afterwards.
    pub fn start(setup: Setup<'_>) -> io::Result<Self> {
        let entrances = setup.cgroup.entrances().map_err(io::Error::other)?;
        let (ours, theirs) = wire::pair()?;
        match clone3(0, setup.cgroup.directory())? {
            Side::Child => serve(setup, theirs, entrances),
            Side::Parent { pid, pidfd } => {
                let warden = Self { pidfd, socket: ours };
                crate::shim::inherited::take_oom_protection(pid)?;
                Ok(warden)
            }
        }
    }

    /// Lets it start a gateway with this end of a control socket, and this configuration.
    pub fn order(&self, control: BorrowedFd<'_>, config: BorrowedFd<'_>) -> io::Result<()> {
        wire::send(self.socket.as_fd(), b"S", &[control, config])
    }

    /// Readable when it has something to say.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// What it says next; waits for it.
    pub fn hear(&self) -> Said {
        let Ok(Some((bytes, _))) = wire::receive(&self.socket, 0) else { return Said::Gone };
        match bytes.split_first() {
            Some((&ENDED, status)) => match status.try_into().map(i32::from_le_bytes) {
                Ok(status) => Said::Ended(End::from_status(status)),
                Err(_) => Said::Gone,
            },
            Some((&STARTED, pid)) => {
                pid.try_into().map_or(Said::Gone, |pid| Said::Started(u32::from_le_bytes(pid)))
            }
            Some((&FAILED, what)) => {
                Said::Failed(String::from_utf8_lossy(what).chars().filter(|c| !c.is_control()).collect())
            }
            _ => Said::Gone,
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        // It may have ended by itself; either way nobody stays a zombie.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = wait(self.pidfd.as_fd());
    }
}

/// The child's side. Never returns, so that nothing it inherited is dropped by its owner: descriptors are closed by number.
fn serve(setup: Setup<'_>, shim: OwnedFd, entrances: Vec<OwnedFd>) -> ! {
    let (setup, shim) = (ManuallyDrop::new(setup), ManuallyDrop::new(shim));
    let entrances = ManuallyDrop::new(entrances);
    let placed = settle(&entrances, setup.open_files).and_then(|()| place(&setup, &shim));
    let (shim, result) = match placed {
        Ok(places) => (places.shim, drop_privileges(setup.uid).and_then(|()| attend(&places))),
        Err(error) => (shim.as_fd(), Err(error)),
    };
    if let Err(error) = result {
        tell_failure(shim, &error);
    }
    exit_now(1)
}

/// Where the warden's own descriptors are.
struct Places {
    shim: BorrowedFd<'static>,
    program: BorrowedFd<'static>,
}

/// In its cgroup, in a session of its own, with nothing of the caller's that helps or stops it.
fn settle(entrances: &[OwnedFd], open_files: u64) -> io::Result<()> {
    sys::process::rename("stockade-warden")?;
    // Before the cgroups: a real-time process cannot enter a v1 cpu group.
    sys::process::schedule_ordinarily()?;
    for entrance in entrances {
        rustix::io::write(entrance, b"0")?;
    }
    // Neither the terminal's Ctrl-C nor its hangup reaches it.
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    setrlimit(Resource::RLIMIT_NOFILE, open_files, open_files)?;
    setrlimit(Resource::RLIMIT_CORE, 1, 1)?;
    // The only file that a gateway may write to.
    setrlimit(Resource::RLIMIT_FSIZE, tally::LENGTH as u64, tally::LENGTH as u64)?;
    signal::reset_all()
}

/// 0 to 4: nothing, until a gateway has something there. Then the gateway's sockets, then the warden's own.
fn place(setup: &Setup<'_>, shim: &OwnedFd) -> io::Result<Places> {
    let raise = |fd: BorrowedFd<'_>| {
        Ok::<_, io::Error>(ManuallyDrop::new(rustix::io::fcntl_dupfd_cloexec(fd, ABOVE)?))
    };
    let sockets = setup.sockets.iter().map(|socket| raise(socket.as_fd())).collect::<io::Result<Vec<_>>>()?;
    let null = raise(File::options().read(true).write(true).open("/dev/null")?.as_fd())?;
    let (shim, program) = (raise(shim.as_fd())?, raise(setup.program.as_fd())?);
    for number in 0..SOCKETS {
        fd::place(null.as_fd(), number)?;
    }
    let mut next = SOCKETS;
    for socket in &sockets {
        fd::place(socket.as_fd(), next)?;
        next += 1;
    }
    for own in [&shim, &program] {
        let placed = fd::place_owned(own.as_fd().try_clone_to_owned()?, next)?;
        std::mem::forget(placed);
        next += 1;
    }
    fd::close_from(next)?;
    Ok(Places { shim: fd::fixed(next - 2), program: fd::fixed(next - 1) })
}

fn drop_privileges(uid: u32) -> io::Result<()> {
    sys::process::empty_bounding_set()?;
    set_thread_groups(&[])?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    set_thread_res_gid(group, group, group)?;
    // Clears the permitted, effective and ambient sets as well (capabilities(7)).
    set_thread_res_uid(user, user, user)?;
    let failed = |error: caps::errors::CapsError| io::Error::other(error.to_string());
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient, CapSet::Bounding]
    {
        if !caps::read(None, set).map_err(failed)?.is_empty() {
            return Err(io::Error::other(format!("its {set:?} capabilities could not be given up")));
        }
    }
    rustix::thread::set_no_new_privs(true)?;
    // A change of uid clears the one and may set the other (prctl(2)), so they come last.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Starts a gateway whenever it is told to, and tells of its end. Returns when the shim is gone.
fn attend(places: &Places) -> io::Result<()> {
    let mut gateway: Option<OwnedFd> = None;
    loop {
        let mut polls = vec![PollFd::from_borrowed_fd(places.shim, PollFlags::IN)];
        polls.extend(gateway.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        match poll(&mut polls, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let told = !polls[0].revents().is_empty();
        let ended = polls.get(1).is_some_and(|fd| !fd.revents().is_empty());
        drop(polls);
        if ended && let Some(pidfd) = gateway.take() {
            let status = match wait(pidfd.as_fd())? {
                End::Exited(code) => (code & 0xff) << 8,
                End::Signaled(signal) => signal & 0x7f,
            };
            wire::send(places.shim, &[&[ENDED], status.to_le_bytes().as_slice()].concat(), &[])?;
        }
        if told {
            let Some((_, fds)) = wire::receive(places.shim, 2)? else { return Ok(()) };
            let [control, config]: [OwnedFd; 2] =
                fds.try_into().map_err(|_| io::Error::other("an order without its two descriptors"))?;
            match clone3(0, None)? {
                Side::Child => {
                    let Err(error) = become_gateway(places, control, config);
                    tell_failure(places.shim, &error);
                    exit_now(127)
                }
                Side::Parent { pid, pidfd } => {
                    gateway = Some(pidfd);
                    wire::send(places.shim, &[&[STARTED], pid.to_le_bytes().as_slice()].concat(), &[])?;
                }
            }
        }
    }
}

fn become_gateway(places: &Places, control: OwnedFd, config: OwnedFd) -> io::Result<Infallible> {
    fd::place(control.as_fd(), CONTROL)?;
    fd::place(config.as_fd(), CONFIG)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // From here on nothing that stays open survives but what was put in its place: all else closes on exec.
    Err(exec::execute(places.program, c"stockade-egress"))
}

/// If even this fails, the shim sees the end of the socket.
fn tell_failure(shim: BorrowedFd<'_>, error: &io::Error) {
    let mut message = vec![FAILED];
    let _ = write!(message, "{error}");
    message.truncate(wire::LONGEST);
    let _ = wire::send(shim, &message, &[]);
}
