//! One wrapper per system call: borrowed descriptors in, owned ones out. The only unsafe code.
//!
//! What rustix or nix already wraps safely is called there; this module holds the rest.

pub mod audit;
pub mod beside;
#[cfg(feature = "client")]
pub mod child;
pub mod exec;
pub mod fd;
pub mod kernel;
pub mod mount;
pub mod net;
pub mod process;
#[cfg(any(feature = "client", feature = "daemon", feature = "egress"))]
pub mod ready;
pub mod seccomp;
pub mod signal;
#[cfg(feature = "cli")]
pub mod start;
pub mod terminal;
#[cfg(panic = "abort")]
mod unwind;

use std::io;

/// Turns a system call's result into `io::Result`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
