//! What an agent had used whose shim was killed: read by whoever removes what is left of it, before that goes.
//!
//! ```text
//!  shim ── Estate ──▶ keeper                        at once, by the same clock: the record is whole
//!     └── whereabouts ▶ launcher (the keeper, too, was killed)   later: the kernel's counters are whole, times end earlier
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::kept;
use crate::cgroup;
use crate::wire::service::usage::Metered;
use crate::wire::tally;

/// Where an incarnation's counters are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estate {
    /// `usage.json` in its directory.
    pub usage: PathBuf,
    /// What went over the network ([`tally`]).
    pub tally: PathBuf,
    /// When it began, in milliseconds of the clock that nobody sets.
    pub begun: u64,
}

/// When its counters are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// As it ended.
    AtItsEnd,
    /// Some time after.
    Later,
}

/// Milliseconds of the clock that nobody sets.
pub fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs().try_into().unwrap_or(0));
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Estate {
    /// Nothing of it is left that could use more, and the kernel has counted this: it is put where its shim had put what it had
    /// measured. What is the last word already stays.
    ///
    /// # Errors
    /// As read(2) and write(2).
    pub fn settle(&self, used: &cgroup::Usage, read: Read) -> io::Result<()> {
        let last: Metered = serde_json::from_slice(&fs::read(&self.usage)?)?;
        if last.is_final && last.complete {
            return Ok(());
        }
        let carried = File::open(&self.tally).and_then(|file| tally::read(&file));
        let after = match read {
            Read::AtItsEnd => clock().saturating_sub(self.begun).saturating_sub(last.wall_ms),
            Read::Later => 0,
        };
        let egress = carried
            .as_ref()
            .ok()
            .map(|classes| classes.iter().map(|(class, carried)| ((*class).to_owned(), *carried)).collect());
        let peak = used.memory_peak_bytes.or(last.memory_peak);
        let metered = Metered {
            number: last.number + 1,
            at: last.at.saturating_add(after),
            wall_ms: last.wall_ms.saturating_add(after),
            is_final: true,
            complete: read == Read::AtItsEnd && carried.is_ok(),
            cpu_us: used.cpu_micros.or(last.cpu_us),
            memory_byte_seconds: grown(last.memory_byte_seconds, last.memory.or(peak), after),
            memory_byte_seconds_at_most: grown(last.memory_byte_seconds_at_most, peak, after),
            memory_peak: peak,
            io_read: used.io_read_bytes.or(last.io_read),
            io_written: used.io_written_bytes.or(last.io_written),
            egress: egress.unwrap_or_else(|| last.egress.clone()),
            ..last
        };
        match kept::put(&self.usage, &metered, 0o640, true) {
            // The room that it has there it keeps.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => self.put_over(&metered),
            put => put,
        }
    }

    fn put_over(&self, metered: &Metered) -> io::Result<()> {
        let text = serde_json::to_vec(metered)?;
        let file = File::options().write(true).custom_flags(libc::O_NOFOLLOW).open(&self.usage)?;
        file.write_all_at(&text, 0)?;
        file.set_len(text.len() as u64)?;
        file.sync_all()
    }
}

/// Byte-seconds, and so much memory for so many milliseconds more. Unknown only where the kernel counts no memory.
fn grown(sum: Option<u64>, bytes: Option<u64>, millis: u64) -> Option<u64> {
    let held = u128::from(bytes?) * u128::from(millis) / 1000;
    Some(sum.unwrap_or(0).saturating_add(u64::try_from(held).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estate(directory: &std::path::Path) -> Estate {
        let estate = Estate {
            usage: directory.join("usage.json"),
            tally: directory.join("a.egress"),
            begun: clock().saturating_sub(9000),
        };
        let last = Metered {
            incarnation: "i".into(),
            number: 3,
            at: 105_000,
            since: 100_000,
            wall_ms: 5000,
            cpu_us: Some(10),
            memory: Some(1000),
            memory_byte_seconds: Some(7),
            memory_byte_seconds_at_most: Some(9),
            ..Metered::default()
        };
        kept::put(&estate.usage, &last, 0o640, false).expect("written");
        estate
    }

    fn found(estate: &Estate) -> Metered {
        serde_json::from_slice(&fs::read(&estate.usage).expect("there")).expect("whole")
    }

    #[test]
    fn what_was_used_after_the_last_look_is_in_the_last_word_and_that_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let estate = estate(directory.path());
        fs::write(&estate.tally, b"").expect("written");
        let used = cgroup::Usage {
            cpu_micros: Some(99),
            memory_peak_bytes: Some(2000),
            io_read_bytes: Some(5),
            ..Default::default()
        };
        estate.settle(&used, Read::AtItsEnd).expect("settled");
        let told = found(&estate);
        assert!(told.is_final && told.complete && told.number == 4, "{told:?}");
        assert_eq!((told.cpu_us, told.memory_peak, told.io_read), (Some(99), Some(2000), Some(5)));
        assert!((9000..60_000).contains(&told.wall_ms) && told.at == 100_000 + told.wall_ms, "{told:?}");
        let after = told.wall_ms - 5000;
        assert_eq!(told.memory_byte_seconds, Some(7 + after), "1000 bytes");
        assert_eq!(told.memory_byte_seconds_at_most, Some(9 + 2 * after), "2000 bytes");
        estate.settle(&cgroup::Usage::default(), Read::Later).expect("nothing to do");
        assert_eq!(found(&estate), told);
    }

    #[test]
    fn what_is_read_later_is_the_kernels_word_of_what_it_counts_and_does_not_claim_to_know_when_it_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let estate = estate(directory.path());
        let used = cgroup::Usage { cpu_micros: Some(99), ..Default::default() };
        estate.settle(&used, Read::Later).expect("settled");
        let told = found(&estate);
        assert_eq!((told.is_final, told.complete, told.cpu_us, told.wall_ms), (true, false, Some(99), 5000));
        assert_eq!(told.memory_byte_seconds, Some(7));
    }

    #[test]
    fn on_a_disk_that_is_full_the_last_word_takes_the_place_of_the_one_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_path_buf();
        // In a mount namespace of this thread's own, so that nothing of it is left.
        let thread = std::thread::spawn(move || {
            use nix::mount::{MsFlags, mount};
            let flags = nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS;
            nix::sched::unshare(flags).expect("a mount namespace: these tests run as root");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).expect("mounted");
            let estate = estate(&path);
            fs::write(&estate.tally, b"").expect("written");
            let mut filler = File::create(path.join("filler")).expect("made");
            while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
            let used = cgroup::Usage { cpu_micros: Some(99), ..Default::default() };
            estate.settle(&used, Read::AtItsEnd).expect("settled");
            let told = found(&estate);
            assert_eq!((told.is_final, told.complete, told.cpu_us), (true, true, Some(99)));
        });
        thread.join().expect("it holds");
    }

    #[test]
    fn one_that_nobody_had_looked_at_yet_had_at_most_its_peak_all_the_time() {
        assert_eq!(grown(None, Some(2000), 500), Some(1000));
        assert_eq!(grown(Some(1), None, 500), None, "this kernel counts no memory");
    }
}
