//! What an agent used, in numbers of the kernel.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::event::Timespec;
use serde::Serialize;

use crate::ordered;

/// Read from the group's own files; `None`: this kernel does not count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Now.
    pub memory_bytes: Option<u64>,
    /// At most, since the group was made.
    pub memory_peak_bytes: Option<u64>,
    /// CPU time of all processes, dead ones included.
    pub cpu_micros: Option<u64>,
    /// For how long they were held back by the CPU limit, summed over CPUs.
    pub cpu_throttled_micros: Option<u64>,
    /// Processes and threads at once, at most.
    pub processes_peak: Option<u64>,
    /// How often a fork or clone was refused by the process limit.
    pub forks_refused: Option<u64>,
    /// Processes that were killed because the group ran out of memory.
    pub oom_kills: Option<u64>,
    /// How often the whole group was (v2, Linux 5.17).
    pub oom_group_kills: Option<u64>,
    /// Bytes read from disks, all of them together. v1 counts them where `limits.io` is set, or somebody is billed by them.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to disks. v1 counts only what does not go through the page cache.
    pub io_written_bytes: Option<u64>,
}

impl Usage {
    /// Whether the agent, or a part of it, was killed because it used more memory than it may.
    pub fn ran_out_of_memory(&self) -> bool {
        [self.oom_kills, self.oom_group_kills].into_iter().flatten().any(|count| count > 0)
    }
}

/// A "flat keyed" control file: a word and a number on each line. What is neither is left out.
pub(super) fn flat(text: &str) -> BTreeMap<String, u64> {
    let words = text.lines().filter_map(|line| line.split_once(' '));
    ordered::map(words.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))))
}

/// Bytes read and written, from v2's `io.stat`: `8:0 rbytes=1 wbytes=2 rios=…`, one line a disk.
pub(super) fn io_stat(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key));
        words.filter_map(|number| number.parse::<u64>().ok()).fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// The same from v1's `blkio.throttle.io_service_bytes`: `8:0 Read 1`, one line a disk and kind.
pub(super) fn io_service_bytes(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let of = |line: &str| {
            let mut words = line.split_ascii_whitespace().skip(1);
            (words.next() == Some(kind)).then(|| words.next()?.parse::<u64>().ok())?
        };
        text.lines().filter_map(of).fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

/// For poll(2), which takes no more than 2^31 seconds on every kernel.
pub(super) fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).min(i64::from(i32::MAX));
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyed_file_is_read_by_key() {
        let events = flat("low 0\nhigh 3\nmax 17\noom 2\noom_kill 1\nnonsense\nbad x\n");
        assert_eq!(events.get("max"), Some(&17));
        assert_eq!(events.get("oom_kill"), Some(&1));
        assert_eq!(events.get("bad"), None);
        assert_eq!(events.len(), 5);
    }

    #[test]
    fn bytes_of_all_disks_are_added_up() {
        let v2 =
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n254:0 rbytes=5 wbytes=7 rios=1 wios=1\n";
        assert_eq!(io_stat(v2), (15, 27));
        let v1 =
            "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\n254:0 Read 5\n254:0 Write 7\nTotal 42\n";
        assert_eq!(io_service_bytes(v1), (15, 27));
        assert_eq!((io_stat(""), io_service_bytes("Total 0\n")), ((0, 0), (0, 0)));
    }

    #[test]
    fn running_out_of_memory_is_told_by_either_count() {
        assert!(!Usage::default().ran_out_of_memory());
        assert!(!Usage { oom_kills: Some(0), ..Usage::default() }.ran_out_of_memory());
        assert!(Usage { oom_kills: Some(1), ..Usage::default() }.ran_out_of_memory());
        assert!(Usage { oom_group_kills: Some(1), ..Usage::default() }.ran_out_of_memory());
    }
}
