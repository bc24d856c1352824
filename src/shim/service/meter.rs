//! What the agent uses, measured by the process that outlives the daemon.
//!
//! The kernel counts CPU time and bytes by itself, and is asked for them. Memory over time it counts nowhere: so it is
//! looked at again and again, and the line between two looks is taken for what lay between ("trapezoid"). How far that
//! can be wrong is told with it: never more than the peak so far, all the time since the look before.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::estate::{self, Estate};
use super::kept;
use crate::cgroup;
use crate::ordered;
use crate::shim::session::Reins;
use crate::wire::service::usage::Metered;
use crate::wire::tally::Classes;

/// The pause before the second look at memory, which doubles while little changes: long enough that of many agents that start at once
/// none is looked at again before all of them run.
const FIRST: Duration = Duration::from_millis(200);

/// The longest pause while it changes.
const LIVELY: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// The shortest time between two notes of it on disk: each is a new file, and an agent that just starts is looked at often.
const NOTED: Duration = Duration::from_secs(1);

/// The tally of an agent without a way to the network: nothing was added to it.
const UNUSED: &str = "/dev/null";

/// Less than this, or a sixteenth, is no change, in bytes.
const LITTLE: u64 = 1 << 20;

/// One incarnation's meter.
pub struct Meter {
    path: PathBuf,
    tally: PathBuf,
    incarnation: String,
    since: u64,
    begun: Instant,
    number: u64,
    memory: Integral,
    looked: Option<(Instant, u64)>,
    pause: Duration,
    due: Instant,
    noted: Instant,
    last: Metered,
}

impl Meter {
    /// Begins now; `path` is where the counters go.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn begin(path: PathBuf) -> io::Result<Self> {
        let incarnation = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
        let now = Instant::now();
        Ok(Self {
            path,
            tally: UNUSED.into(),
            incarnation,
            since: kept::now(),
            begun: now,
            number: 0,
            memory: Integral::default(),
            looked: None,
            pause: FIRST,
            due: now,
            noted: now,
            last: Metered::default(),
        })
    }

    /// There will be such an incarnation: before anything of it runs.
    pub fn announce(&mut self) -> io::Result<()> {
        self.last = self.metered(&cgroup::Usage::default(), None);
        kept::put(&self.path, &self.last, 0o640, false)
    }

    /// When it wants to look again.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Looks, if it is time to, and now and then puts down what it sees: if this process is killed, that is where somebody else
    /// goes on.
    pub fn attend(&mut self, reins: &Reins<'_>) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        if now >= self.noted + NOTED {
            self.write(reins);
        } else {
            let (now, peak) = reins.cgroup.memory();
            self.look(now, peak);
        }
        self.due = Instant::now() + self.pause;
    }

    /// Puts the counters down. A disk that is full takes the next ones.
    pub fn write(&mut self, reins: &Reins<'_>) {
        let usage = reins.cgroup.usage();
        self.look(usage.memory_bytes, usage.memory_peak_bytes);
        self.number += 1;
        let gateway = reins.gateway.as_ref();
        let classes = gateway.and_then(|gateway| gateway.classes());
        self.last = self.metered(&usage, classes.as_ref());
        self.noted = Instant::now();
        let _ = kept::put(&self.path, &self.last, 0o640, false);
    }

    /// Nothing of it is left, and this is all that it used: put down, for this process may be killed before it can say so.
    pub fn close(&mut self, usage: &cgroup::Usage, classes: Option<&Classes>, complete: bool) {
        self.look(usage.memory_bytes, usage.memory_peak_bytes);
        self.number += 1;
        self.last = Metered { is_final: true, complete, ..self.metered(usage, classes) };
        let _ = kept::put(&self.path, &self.last, 0o640, false);
    }

    /// The last word, whoever has found it out; or what was known last.
    pub fn last_word(&self) -> Metered {
        if self.last.is_final {
            return self.last.clone();
        }
        let text = fs::read(&self.path).ok();
        let settled = text.and_then(|text| serde_json::from_slice(&text).ok());
        let last = || Metered { number: self.number + 1, is_final: true, ..self.last.clone() };
        settled.filter(|metered: &Metered| metered.is_final).unwrap_or_else(last)
    }

    /// Bytes over the network are counted in this file.
    ///
    /// # Errors
    /// As write(2) and rename(2).
    pub fn count_bytes(&mut self, tally: PathBuf) -> io::Result<()> {
        self.tally = tally;
        kept::put_bytes(&self.tally, b"", 0o600, false)
    }

    /// What whoever cleans up after this process needs.
    pub fn estate(&self) -> Estate {
        let so_far = millis(self.begun.elapsed());
        Estate {
            usage: self.path.clone(),
            tally: self.tally.clone(),
            begun: estate::clock().saturating_sub(so_far),
        }
    }

    fn look(&mut self, now: Option<u64>, peak: Option<u64>) {
        let Some(now) = now else { return };
        let at = Instant::now();
        if let Some((then, before)) = self.looked {
            self.memory.add(at - then, before, now, peak);
            let little = now.abs_diff(before) < LITTLE.max(before / 16);
            self.pause = if little { (self.pause * 2).min(LONGEST) } else { self.pause.min(LIVELY) };
        }
        self.looked = Some((at, now));
    }

    fn metered(&self, usage: &cgroup::Usage, classes: Option<&Classes>) -> Metered {
        let wall = self.begun.elapsed();
        let known = self.looked.is_some();
        let egress = classes.into_iter().flatten().map(|(class, carried)| ((*class).to_owned(), *carried));
        Metered {
            incarnation: self.incarnation.clone(),
            number: self.number,
            since: self.since,
            at: self.since.saturating_add(millis(wall)),
            wall_ms: millis(wall),
            is_final: false,
            complete: false,
            cpu_us: usage.cpu_micros,
            memory_byte_seconds: known.then(|| self.memory.likely()),
            memory_byte_seconds_at_most: known.then(|| self.memory.at_most()),
            memory: self.looked.map(|(_, memory)| memory),
            memory_peak: usage.memory_peak_bytes,
            io_read: usage.io_read_bytes,
            io_written: usage.io_written_bytes,
            egress: ordered::map(egress),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Byte-nanoseconds, twice: as is likely, and at the most.
#[derive(Debug, Default, Clone, Copy)]
struct Integral {
    likely: u128,
    at_most: u128,
}

impl Integral {
    /// Between two looks, so long apart. Without a peak the larger of both is all that is known.
    fn add(&mut self, apart: Duration, before: u64, now: u64, peak: Option<u64>) {
        let nanos = apart.as_nanos();
        self.likely += (u128::from(before) + u128::from(now)) * nanos / 2;
        self.at_most += u128::from(peak.unwrap_or(0).max(before).max(now)) * nanos;
    }

    fn likely(self) -> u64 {
        byte_seconds(self.likely)
    }

    fn at_most(self) -> u64 {
        byte_seconds(self.at_most)
    }
}

fn byte_seconds(byte_nanos: u128) -> u64 {
    u64::try_from(byte_nanos / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_over_time_is_the_area_below_the_line_and_at_most_that_below_the_peak() {
        let mut integral = Integral::default();
        integral.add(Duration::from_secs(2), 0, 100, Some(100));
        assert_eq!((integral.likely(), integral.at_most()), (100, 200));
        integral.add(Duration::from_secs(1), 100, 100, Some(300));
        assert_eq!((integral.likely(), integral.at_most()), (200, 500));
        integral.add(Duration::from_secs(1), 50, 70, None);
        assert_eq!((integral.likely(), integral.at_most()), (260, 570));
    }

    #[test]
    fn looks_become_rare_while_nothing_changes_and_frequent_once_it_does() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut meter = Meter::begin(directory.path().join("usage.json")).expect("begun");
        (0..40).for_each(|_| meter.look(Some(1 << 30), None));
        assert_eq!(meter.pause, LONGEST);
        meter.look(Some(2 << 30), None);
        assert_eq!(meter.pause, LIVELY);
    }

    #[test]
    fn no_two_starts_are_the_same_and_the_last_word_has_a_number_of_its_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let begin = || Meter::begin(directory.path().join("usage.json")).expect("begun");
        let (mut one, other) = (begin(), begin());
        assert_ne!(one.incarnation, other.incarnation);
        one.announce().expect("written");
        let text = fs::read(&one.path).expect("read");
        let first: Metered = serde_json::from_slice(&text).expect("JSON");
        one.close(&cgroup::Usage { cpu_micros: Some(7), ..Default::default() }, None, true);
        let (last, text) = (one.last_word(), fs::read(&one.path).expect("read"));
        assert_eq!(
            serde_json::from_slice::<Metered>(&text).expect("JSON"),
            last,
            "whoever comes after it knows, too"
        );
        assert_eq!((first.number, first.is_final, last.number, last.is_final), (0, false, 1, true));
        assert_eq!((last.cpu_us, last.incarnation), (Some(7), first.incarnation));
    }
}
