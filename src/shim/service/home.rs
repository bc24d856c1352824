//! A home that is kept belongs to one agent at a time: what logs in there renews its token now and then, and a token that two
//! renew at once is the end of both logins.
//!
//! The lock is on the directory itself, held by the shim: it outlives the daemon, and ends with the shim however that
//! ends. Inside, an agent could lock its own home, which is locked already.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::wire::service::launcher::{Reason, Refusal};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Given back when it is dropped, whoever has inherited the descriptor.
#[derive(Debug)]
pub struct Hold(File);

impl Drop for Hold {
    fn drop(&mut self) {
        // The end of this process gives it back as well.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Takes the home for this agent alone, waiting for whoever has it, at most so long.
pub fn hold(home: &Path, wait: Duration) -> Result<Hold, Refusal> {
    let name = home.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |error: io::Error| Refusal {
        reason: Reason::Failed,
        detail: format!("home {name}: {error}"),
        field: Some("home".into()),
    };
    let directory = File::open(home).map_err(failed)?;
    let until = Instant::now() + wait;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Hold(directory)),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(taken(&name)),
            Err(error) => return Err(failed(error.into())),
        }
    }
}

fn taken(name: &str) -> Refusal {
    let detail = format!(
        "another agent is at home in {name}, and two would spoil each other's login: stop that one, name another home, \
         or wait for it (homeWait)"
    );
    Refusal { reason: Reason::Busy, detail, field: Some("home".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_one_agents_until_it_is_given_back() {
        let home = tempfile::tempdir().expect("a directory");
        let first = hold(home.path(), Duration::ZERO).expect("nobody has it");
        let refused = hold(home.path(), Duration::ZERO).expect_err("it is taken");
        assert_eq!((refused.reason, refused.field.as_deref()), (Reason::Busy, Some("home")));
        let path = home.path().to_owned();
        let second = std::thread::spawn(move || hold(&path, Duration::from_secs(60)));
        // A copy, as a child would have it, does not keep it.
        let copy = first.0.try_clone().expect("copied");
        drop(first);
        second.join().expect("it ran").expect("it waited");
        drop(copy);
    }
}
