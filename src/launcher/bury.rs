//! Makes sure that nothing of an agent is left whose shim is gone, or is to go: the proof, and then the record.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::{self, Layout};
use crate::shim::ids::{self, UidRange};
use crate::shim::service::estate::{Estate, Read};
use crate::shim::service::kept::{self, Process, Whereabouts};
use crate::wire::service::launcher::{Reason, Refusal};
use crate::wire::service::usage::Metered;
use crate::wire::service::{Ended, Places, places};

/// How long killed processes may take to be gone, and a keeper to clean up after them.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where its shim says it is, if it is of this boot.
pub fn whereabouts(places: &Places, id: &str, boot: &str) -> Option<Whereabouts> {
    let text = fs::read(kept::whereabouts(places, id)).ok()?;
    let found: Whereabouts = serde_json::from_slice(&text).ok()?;
    (found.boot == boot).then_some(found)
}

/// The end of one agent, for which nobody waits: one that holds much memory takes its time.
pub struct Burial {
    found: Whereabouts,
    deadline: Instant,
}

impl Burial {
    /// Ends the shim: the kernel ends the sandbox with it, the keeper removes the cgroup.
    pub fn begin(found: Whereabouts) -> Self {
        kill(found.shim);
        Self { found, deadline: Instant::now() + PATIENCE }
    }

    /// Whether all is gone, as soon as that can be told; what shim and keeper could not do is done here.
    pub fn look(&self) -> Option<io::Result<()>> {
        let Whereabouts { shim, keeper, range, estate, .. } = &self.found;
        let Some(left) = [shim, keeper].into_iter().find(|process| process.is_there()) else {
            return Some(clear(*range, estate.as_ref()));
        };
        (Instant::now() >= self.deadline)
            .then(|| Err(io::Error::other(format!("pid {} does not end: it hangs in the kernel", left.pid))))
    }
}

fn clear(range: u32, estate: Option<&Estate>) -> io::Result<()> {
    // Whoever has the range by now has cleared its cgroups before using them.
    let Some(taken) = UidRange::take(range)? else { return Ok(()) };
    let layout = Layout::detect().map_err(io::Error::other)?;
    // There is something left only where the keeper was killed, too.
    let settle = |used: &cgroup::Usage| {
        let settled = estate.map(|estate| estate.settle(used, Read::Later));
        if let Some(Err(error)) = settled {
            eprintln!("stockade-launcher: what range {range} has used is not recorded: {error}");
        }
    };
    let cleared = cgroup::kill_and_remove(&layout, &ids::gateway(range), |_| {})
        .and(cgroup::kill_and_remove(&layout, &ids::agent(range), settle));
    taken.release();
    cleared.map_err(io::Error::other)
}

fn kill(process: Process) {
    let pid = Pid::from_raw(process.pid.cast_signed());
    let Some(Ok(pidfd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
    // Asked again now that the descriptor holds on to whoever has this pid.
    if process.is_there() {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

/// Says what became of an agent whose shim could not.
pub fn record(places: &Places, id: &str, boot: &str, what: &str) -> io::Result<()> {
    let directory = places.agent(id);
    if directory.join(places::EXIT).exists() {
        return Ok(());
    }
    // A shim begins with the log: without one the command was never executed.
    let never = !directory.join(places::TERMINAL).exists();
    let refusal = || Refusal { reason: Reason::Failed, detail: what.into(), field: None };
    let ended = Ended {
        code: None,
        signal: None,
        out_of_memory: false,
        stopped: false,
        killed: false,
        not_started: never.then(refusal),
        boot: boot.into(),
        at: kept::now(),
        end: end_of_log(places, id),
        usage: Default::default(),
        report: serde_json::json!({ "error": what }),
        metered: last_measured(&directory),
    };
    kept::put_exit(&directory, &ended)
}

/// What it had used when it ended, or when its shim last looked: all that anybody knows.
fn last_measured(directory: &Path) -> Option<Box<Metered>> {
    let text = fs::read(directory.join(places::USAGE)).ok()?;
    let last: Metered = serde_json::from_slice(&text).ok()?;
    if last.is_final {
        return Some(Box::new(last));
    }
    Some(Box::new(Metered { number: last.number + 1, is_final: true, complete: false, ..last }))
}

/// How far the log reaches that is there.
fn end_of_log(places: &Places, id: &str) -> u64 {
    let directory = places.agent(id).join(places::TERMINAL);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let first_and_length = entries.filter_map(|entry| {
        let first = crate::wire::service::log::first_offset(entry.file_name().to_str()?)?;
        Some(first + entry.metadata().ok()?.len())
    });
    first_and_length.max().unwrap_or(0)
}
