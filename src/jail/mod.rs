//! THE SEQUENCE: from clone3 to a confined pid 1, and from there to the agent.
//!
//! Runs in the child, single-threaded, with everything that needs the host already opened by the shim.
//! Decisions were made in the plan: there are none here. A failure names its step and ends the child.

mod capabilities;
mod cgroup;
mod descriptors;
mod dialer;
mod extra;
mod files;
mod init;
mod landlock;
mod limits;
pub mod materials;
mod mounts;
mod proc;
pub mod step;
mod terminal;

use std::convert::Infallible;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};

pub use rustix::termios::Winsize as WindowSize;

use crate::plan::Plan;
use crate::sys;
use crate::wire::service::order::File;
use crate::wire::{self, FromInit, ToInit};
pub use materials::Materials;
use step::{At, JailError, Step};

/// Where one of the agent's standard streams leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// To the sandbox's own terminal.
    Terminal,
    /// To what the caller gave: a pipe, a socket, a file.
    Inherited,
}

/// What the child is born with. The rest comes over the socket while it is at work: [`Materials`], then the doors of its
/// v1 cgroups.
pub struct Birthright<'a> {
    /// The way to the shim.
    pub socket: OwnedFd,
    /// The way to the gateway, if connections from outside are to be made inside; it does not block.
    pub dialer: Option<OwnedFd>,
    /// Descriptors 0, 1 and 2.
    pub streams: [Stream; 3],
    /// The size of the terminal to make, if one is to be made.
    pub terminal: Option<WindowSize>,
    /// Whether the shim is to be told when the command was executed.
    pub announce: bool,
    /// To be written where the agent works, by the agent's own user, before it starts.
    pub files: &'a [File],
}

/// Becomes the sandbox's pid 1. Never returns: on failure it tells the shim which step failed, and ends.
pub fn enter(plan: &Plan, birthright: Birthright<'_>) -> ! {
    // Never dropped: once descriptors are closed by number, whoever still owned one would close a stranger's.
    let early = ManuallyDrop::new(birthright.socket.as_fd().try_clone_to_owned());
    let Err(error) = confine(plan, birthright);
    let late = (error.step as u8 > Step::Descriptors as u8).then(descriptors::socket);
    if let Some(socket) = late.or_else(|| early.as_ref().ok().map(AsFd::as_fd)) {
        let failed = FromInit::Failed {
            step: error.step as u8,
            errno: error.source.raw_os_error().unwrap_or(0),
            detail: describe(&error),
        };
        // If even the report fails, the shim sees the end of the socket and says so.
        let _ = failed.send(socket, None);
    }
    sys::process::exit_now(125)
}

fn describe(error: &JailError) -> String {
    match (error.source.raw_os_error(), error.object.as_str()) {
        (Some(_), object) => object.to_owned(),
        (None, "") => error.source.to_string(),
        (None, object) => format!("{object}: {}", error.source),
    }
}

/// The order is the design: each step needs a right that a later one gives up.
fn confine(plan: &Plan, birthright: Birthright<'_>) -> Result<Infallible, JailError> {
    let Birthright { socket, dialer, streams, terminal, announce, files } = birthright;

    sys::process::rename("stockade-init").at(Step::Ids)?;
    // Before the cgroups: a real-time process cannot enter a v1 cpu group, and would not be limited by a v2 one.
    sys::process::schedule_ordinarily().at(Step::Ids)?;
    expect(&socket, ToInit::Mapped).at(Step::Ids)?;
    capabilities::become_root_inside().at(Step::Ids)?;
    rustix::process::setsid().at(Step::Session)?;
    rustix::system::sethostname(plan.hostname.as_bytes()).at(Step::Hostname)?;

    let proc = proc::make().at(Step::Proc)?;
    let root = mounts::make_root().at(Step::Root)?;
    mounts::attach(&root, proc.as_fd(), "proc").at(Step::Mounts)?;
    // A sandbox inside may mount a procfs of its own only while all of this one is visible (kernel: mount_too_revealing).
    if !plan.nested_namespaces {
        proc::forbid_user_namespaces(&proc).at(Step::Mask)?;
        proc::mask(&proc, &root).at(Step::Mask)?;
    }
    let storage = mounts::make_storage(&plan.mounts, &plan.user).at(Step::Mounts)?;
    let given = Materials::receive(socket.as_fd(), plan).at(Step::Mounts)?;
    mounts::place_special(&root, &given, &plan.user).at(Step::Mounts)?;
    mounts::build(&root, &plan.mounts, &given, &storage).at(Step::Mounts)?;
    let slave = terminal::make(&root, terminal, &plan.user, &socket).at(Step::Terminal)?;
    mounts::seal(&root).at(Step::Root)?;
    mounts::pivot_into(&root).at(Step::Pivot)?;

    // Their limits are written and read back by now. What this process holds so far is its own work, not the agent's.
    cgroup::enter(&wire::receive_descriptors(socket.as_fd()).at(Step::Cgroup)?).at(Step::Cgroup)?;
    cgroup::hide_what_is_above().at(Step::Cgroup)?;
    limits::set(&plan.rlimits).at(Step::Limits)?;
    // From here on the sandbox's descriptors are 0, 1, 2, the socket and the dialer; whatever else was open is closed by number,
    // all at once, and is nobody's to close again.
    let _ = ManuallyDrop::new((proc, root, given, storage));
    // Kept open when a later step fails, to say so.
    let (socket, dialer) = descriptors::keep_only(streams, slave, socket, dialer).at(Step::Descriptors)?;
    let socket = ManuallyDrop::new(socket);
    sys::signal::reset_all().at(Step::Signals)?;
    capabilities::give_up(&plan.user).at(Step::Privileges)?;
    // A change of uid clears the parent-death signal, so it is set after it (prctl(2)).
    capabilities::tether().at(Step::Tether)?;
    rustix::thread::set_no_new_privs(true).at(Step::NoNewPrivs)?;
    landlock::restrict(&plan.landlock).at(Step::Landlock)?;
    // Last: the filter forbids most of the calls made above.
    let listener = sys::seccomp::install(&plan.seccomp.program, plan.seccomp.notify).at(Step::Seccomp)?;
    FromInit::Confined.send(socket.as_fd(), listener.as_ref().map(AsFd::as_fd)).at(Step::Report)?;
    drop(listener);

    // The shim has read back from the kernel what this process is. If it died meanwhile, this read says so.
    expect(&socket, ToInit::Go).at(Step::Report)?;
    init::run(init::Start { plan, socket: &socket, streams, announce, files }, dialer)
}

fn expect(socket: &OwnedFd, wanted: ToInit) -> io::Result<()> {
    let message = wire::expect(socket.as_fd())?;
    if message == wanted {
        Ok(())
    } else {
        Err(io::Error::other(format!("{message:?} instead of {wanted:?}")))
    }
}
