//! What an agent used, in numbers of the kernel.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::event::Timespec;
use serde::Serialize;

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
}

impl Usage {
    /// Whether the agent, or a part of it, was killed because it used more memory than it may.
    pub fn ran_out_of_memory(&self) -> bool {
        [self.oom_kills, self.oom_group_kills].into_iter().flatten().any(|count| count > 0)
    }
}

/// A "flat keyed" control file: a word and a number on each line. What is neither is left out.
pub(super) fn flat(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)))
        .collect()
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
    fn running_out_of_memory_is_told_by_either_count() {
        assert!(!Usage::default().ran_out_of_memory());
        assert!(!Usage { oom_kills: Some(0), ..Usage::default() }.ran_out_of_memory());
        assert!(Usage { oom_kills: Some(1), ..Usage::default() }.ran_out_of_memory());
        assert!(Usage { oom_group_kills: Some(1), ..Usage::default() }.ran_out_of_memory());
    }
}
