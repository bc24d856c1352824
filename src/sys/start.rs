//! How a program begins without the runtime of Rust's standard library around its `main`.
//!
//! That runtime looks for the end of the stack in /proc/self/maps and installs two signal handlers, to say more about an
//! overflow than SIGSEGV does: a tenth of a millisecond, which is most of what a short command takes by itself. What else it does
//! is done here: [`crate::entry`].

#[cfg(not(target_env = "gnu"))]
compile_error!(
    "std::env::args() is empty without the standard library's own start, unless glibc hands it the arguments"
);

use std::io;
use std::panic::catch_unwind;

use nix::sys::signal::{SigHandler, Signal};
use rustix::fs::{Mode, OFlags};

/// What the runtime exits with after a panic.
const PANICKED: i32 = 101;

/// Runs `main` to its end, and ends this process with what it returns, standard output flushed.
pub fn run(main: fn() -> u8) -> ! {
    let code = match open_standard().and_then(|()| ignore_broken_pipes()) {
        Ok(()) => catch_unwind(main).map_or(PANICKED, i32::from),
        Err(error) => {
            eprintln!("stockade: cannot start: {error}");
            PANICKED
        }
    };
    std::process::exit(code)
}

/// A closed descriptor below 3 would be given to the first file that is opened, and what is meant for the user written into it.
fn open_standard() -> io::Result<()> {
    for _ in (0..3).filter(|number| !super::fd::is_open(*number)) {
        // Takes the lowest number that is free, which is this one; it stays open.
        std::mem::forget(rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?);
    }
    Ok(())
}

/// A write to a pipe that nobody reads is an error, not an end.
fn ignore_broken_pipes() -> io::Result<()> {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigIgn) }?;
    Ok(())
}

/// Makes a function, `fn() -> u8`, what the program does: what it returns is the exit code. For a program with `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// Called by the C library; the arguments are found by `std::env::args` all the same.
        #[unsafe(no_mangle)]
        pub extern "C" fn main() -> i32 {
            $crate::sys::start::run($main)
        }
    };
}
