//! The launcher: root, single-threaded, no network. It starts a shim for an order that root's own policies allow.
//!
//! ```text
//!  daemon ──Launch{id} + order + line──▶ read once ─▶ admit (root's policies) ─▶ places, directory, socket ─▶ a shim that waits
//!         ◀── Launched{pid} / Refused ──
//! ```
//! It believes nothing that the daemon says: an order holds names, and what they stand for is decided here. It accepts
//! nobody but the daemon's uid, not even root: an administrator stops and starts it, and asks the daemon for the rest.

mod arguments;
mod audit;
mod blanks;
mod bury;
mod config;
mod confine;
mod connections;
mod refuse;
mod requests;
mod spares;
mod start;
mod tree;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use arguments::Arguments;
use connections::Connections;
use requests::Launcher;

/// Between two looks at agents that are being ended.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// The command line.
    #[error("{0} (stockade-launcher [--root DIR] --daemon-user NAME, or --daemon-uid UID --daemon-gid GID)")]
    Arguments(String),
    /// Its configuration.
    #[error("{0}")]
    Config(String),
    /// Its tree.
    #[error("{what}: {source}")]
    Tree {
        /// What failed, and where.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Anything else of the system.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs the launcher until it is told to end (SIGTERM, SIGINT).
pub fn main() -> ExitCode {
    crate::sys::process::end_on_panic();
    let result = Arguments::parse(std::env::args_os().skip(1)).and_then(|arguments| match arguments {
        Some(arguments) => serve(arguments),
        None => Ok(()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stockade-launcher: {error}");
            ExitCode::from(if matches!(error, LauncherError::Arguments(_)) { 2 } else { 1 })
        }
    }
}

fn serve(arguments: Arguments) -> Result<(), LauncherError> {
    let given = arguments::inherited_listener()?;
    // Whoever starts it: the daemon's group reads what is made for it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let (node, ready_shims) = config::settings(&arguments)?;
    let tree = tree::Tree::make(&node)?;
    let signals = signals()?;
    confine::confine()?;
    let mut launcher = Launcher::new(node, tree, ready_shims)?;
    // Whoever gets through to it finds the node in order.
    launcher.sweep();
    let listener = match given {
        Some(listener) => listener,
        None => launcher.listen()?,
    };
    attend(&mut launcher, &listener, &signals)
}

/// Those that it reads as data: blocked from before there is a child.
fn signals() -> io::Result<SignalFd> {
    crate::sys::signal::ignore(Signal::SIGPIPE)?;
    crate::sys::signal::ignore(Signal::SIGHUP)?;
    crate::sys::signal::restore(Signal::SIGCHLD)?;
    let set: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    crate::sys::signal::set_mask(&set)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn attend(launcher: &mut Launcher, listener: &OwnedFd, signals: &SignalFd) -> Result<(), LauncherError> {
    let mut connections = Connections::default();
    loop {
        let mut polls = vec![PollFd::new(signals, PollFlags::IN)];
        if connections.has_room() {
            polls.push(PollFd::new(listener, PollFlags::IN));
        }
        let first = polls.len();
        connections.register(&mut polls);
        // What nobody waits for is done while nobody asks.
        let timeout = match (launcher.refuse.has_some(), launcher.is_ending()) {
            (true, _) => Some(Timespec::default()),
            (false, true) => Some(LOOK),
            (false, false) => launcher.spares.wait().and_then(|wait| wait.try_into().ok()),
        };
        let nobody_asks = match poll(&mut polls, timeout.as_ref()) {
            Ok(0) => true,
            Ok(_) | Err(rustix::io::Errno::INTR) => false,
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let fired: Vec<bool> = polls.iter().map(|poll| !poll.revents().is_empty()).collect();
        drop(polls);
        if fired[0] {
            while let Some(signal) = signals.read_signal().map_err(io::Error::from)? {
                match signal.ssi_signo.cast_signed() {
                    libc::SIGCHLD => launcher.reap(),
                    _ => {
                        launcher.dismiss();
                        return Ok(());
                    }
                }
            }
        }
        // In reverse, so that one that is removed moves none that is still to come.
        for at in (first..fired.len()).rev().filter(|at| fired[*at]) {
            connections.attend(at - first, launcher);
        }
        if first == 2 && fired[1] {
            connections.accept(listener.as_fd(), launcher.daemon_uid());
        }
        if nobody_asks {
            launcher.prepare();
        }
        launcher.refuse.remove_some();
        for (asker, answer) in launcher.settle() {
            connections.answer(asker, answer);
        }
    }
}
