//! Really trying a thing: in a throw-away child whose namespaces end with it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::sys::process::{self, End, Side};

/// Each sandbox's ids on the host come from here: 65536 at a time, above every range that systemd, useradd or
/// a container engine hands out (<https://systemd.io/UIDS-GIDS/>).
pub const FIRST_HOST_ID: u32 = 0x7000_0000;
/// The last host id that a sandbox may have; the kernel's -1 lies far above.
pub const LAST_HOST_ID: u32 = 0x7fff_ffff;
const IDS: u32 = 65_536;

/// Does `act` in a child with new namespaces `flags`, in `cgroup` where given; the child ends with it.
pub fn in_child(
    flags: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    refuse_threads()?;
    match process::clone3(flags as u64, cgroup)? {
        Side::Child => end_with(act),
        Side::Parent { pidfd, .. } => outcome(pidfd.as_fd()),
    }
}

/// Does `act` as an agent's init would: root of a user namespace whose ids own nothing on the host, with new
/// namespaces `flags` beside it.
pub fn in_sandbox(flags: libc::c_int, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let held = Held::start(flags, || {
        rustix::thread::set_thread_res_gid(
            rustix::fs::Gid::ROOT,
            rustix::fs::Gid::ROOT,
            rustix::fs::Gid::ROOT,
        )?;
        rustix::thread::set_thread_res_uid(
            rustix::fs::Uid::ROOT,
            rustix::fs::Uid::ROOT,
            rustix::fs::Uid::ROOT,
        )?;
        act()
    })?;
    held.let_go()
}

/// Starts a child, in `cgroup` where given, that ends only when it is killed, and has `kill` do that.
pub fn until_killed(
    cgroup: Option<BorrowedFd<'_>>,
    kill: impl FnOnce(u32) -> io::Result<()>,
) -> io::Result<()> {
    refuse_threads()?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    match process::clone3(0, cgroup)? {
        Side::Child => {
            drop(writer);
            end_with(|| fs::File::from(reader).read_exact(&mut [0]))
        }
        Side::Parent { pid, pidfd } => {
            let killed = kill(pid);
            // Whoever was not killed reads the end of the pipe now, and ends by itself.
            drop(writer);
            let end = process::wait(pidfd.as_fd())?;
            killed?;
            match end {
                End::Signaled(libc::SIGKILL) => Ok(()),
                other => Err(io::Error::other(format!(
                    "a process was to be killed with its group, but: {other:?}"
                ))),
            }
        }
    }
}

/// A user namespace with the ids of a sandbox; it lasts as long as the descriptor.
pub fn user_namespace() -> io::Result<OwnedFd> {
    let held = Held::start(0, || Ok(()))?;
    let path = format!("/proc/{}/ns/user", held.pid);
    let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    held.let_go()?;
    Ok(namespace?)
}

/// A child in its own user namespace that waits to be told to act.
struct Held {
    pid: u32,
    pidfd: OwnedFd,
    go: fs::File,
}

impl Held {
    fn start(flags: libc::c_int, act: impl FnOnce() -> io::Result<()>) -> io::Result<Self> {
        refuse_threads()?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let held = match process::clone3((flags | libc::CLONE_NEWUSER) as u64, None)? {
            Side::Child => {
                // Its own copy would keep the pipe open for ever, should the parent die.
                drop(writer);
                end_with(|| {
                    fs::File::from(reader).read_exact(&mut [0])?;
                    act()
                })
            }
            Side::Parent { pid, pidfd } => Self { pid, pidfd, go: fs::File::from(writer) },
        };
        for map in ["uid_map", "gid_map"] {
            let written = fs::write(format!("/proc/{}/{map}", held.pid), format!("0 {FIRST_HOST_ID} {IDS}"));
            if let Err(error) = written {
                held.abandon();
                return Err(error);
            }
        }
        Ok(held)
    }

    fn let_go(mut self) -> io::Result<()> {
        let told = self.go.write_all(&[1]);
        let outcome = outcome(self.pidfd.as_fd());
        told.and(outcome)
    }

    /// The child reads the end of the pipe instead of its word, and ends.
    fn abandon(self) {
        drop(self.go);
        // What went wrong has been found already; this only reaps.
        let _ = process::wait(self.pidfd.as_fd());
    }
}

fn end_with(act: impl FnOnce() -> io::Result<()>) -> ! {
    // A panic must not unwind into the parent's code, which this process is a copy of.
    let code = match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => error.raw_os_error().unwrap_or(libc::EIO),
        Err(_) => libc::EIO,
    };
    process::exit_now(code)
}

/// The child's exit code is an error number; Linux has none above 133.
fn outcome(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    match process::wait(pidfd)? {
        End::Exited(0) => Ok(()),
        End::Exited(errno) => Err(io::Error::from_raw_os_error(errno)),
        End::Signaled(signal) => Err(io::Error::other(format!("the attempt was killed by signal {signal}"))),
    }
}

/// A copy of one thread of several may find a lock taken by a thread that it does not have.
fn refuse_threads() -> io::Result<()> {
    match fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        threads => Err(io::Error::other(format!(
            "only a single-threaded process can try things, this one has {threads}"
        ))),
    }
}
