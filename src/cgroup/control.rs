//! One limit as one control file: what is written, and what the file must read afterwards.

use std::path::PathBuf;

use serde::Serialize;

use super::CgroupError;
use super::group::Group;
use super::layout::Controller;
use crate::policy::Limits;

/// What a control file limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Limit {
    /// Bytes of memory; on v1 and where there is no swap, all of it.
    Memory,
    /// v2: bytes of swap. v1: bytes of memory and swap together.
    Swap,
    /// v1: bytes that wait in TCP sockets. v2 counts them as memory.
    SocketMemory,
    /// Whether running out of memory ends every process of the agent, and not just the largest (v2).
    KillAllWhenOutOfMemory,
    /// Microseconds of CPU time in each period.
    Cpu,
    /// The period, in microseconds (v1; v2 has both in one file).
    CpuPeriod,
    /// Processes and threads.
    Processes,
    /// Bytes per second read from, and written to, one device.
    Io,
}

/// A limit that is in force, as its file reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnforcedLimit {
    /// What is limited.
    pub limit: Limit,
    /// The control file on this host.
    pub file: PathBuf,
    /// What it reads.
    pub value: String,
}

/// How a file's text is compared with what it should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// It is all there is.
    Alone,
    /// One line begins with these words; the others belong to other devices.
    AmongLines,
}

/// One limit to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) limit: Limit,
    pub(super) controller: Controller,
    pub(super) file: &'static str,
    pub(super) write: String,
    pub(super) expect: String,
    pub(super) reads: Reads,
    /// Left out where the kernel does not have the file: the shortfalls have told, or will have to do without.
    pub(super) optional: bool,
}

impl Control {
    /// A file of one value that reads as it was written.
    pub(super) fn plain(limit: Limit, controller: Controller, file: &'static str, value: String) -> Self {
        let expect = value.clone();
        Self { limit, controller, file, write: value, expect, reads: Reads::Alone, optional: false }
    }

    /// Writes the limit and reads it back.
    pub(super) fn impose(&self, group: &Group) -> Result<(), CgroupError> {
        let text = group.set(self.file, &self.write)?;
        match self.find(&text) {
            Some(_) => Ok(()),
            None => Err(CgroupError::ReadBack {
                path: group.path().join(self.file),
                wanted: self.expect.clone(),
                found: text.trim().into(),
            }),
        }
    }

    /// What the file reads now, whatever it should.
    pub(super) fn observe(&self, group: &Group) -> Result<EnforcedLimit, CgroupError> {
        let text = group.read(self.file)?;
        let value = self.find(&text).unwrap_or(text.trim()).to_owned();
        Ok(EnforcedLimit { limit: self.limit, file: group.path().join(self.file), value })
    }

    /// The part of `text` that says what it should.
    fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self.reads {
            Reads::Alone => Some(text.trim()).filter(|text| *text == self.expect),
            Reads::AmongLines => text.lines().map(str::trim).find(|line| {
                let mut words = line.split_ascii_whitespace();
                self.expect.split_ascii_whitespace().all(|wanted| words.next() == Some(wanted))
            }),
        }
    }
}

/// The limits in the kernel's own units, none of them nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amounts {
    /// Bytes, rounded down to whole pages as the kernel does: it counts pages.
    pub(super) memory: u64,
    /// Microseconds of CPU time in each [`PERIOD`].
    pub(super) quota: u64,
    pub(super) processes: u32,
}

/// Over which the CPU quota is counted, in microseconds.
pub(super) const PERIOD: u64 = 100_000;

/// The least quota that the kernel takes, in microseconds (kernel/sched/core.c, `min_cfs_quota_period`).
const LEAST_QUOTA: u64 = 1000;

impl Amounts {
    /// Refuses a limit of nothing: to some control files that means no limit.
    pub(super) fn of(limits: &Limits) -> Result<Self, CgroupError> {
        let page = rustix::param::page_size() as u64;
        let memory = limits.memory.get() / page * page;
        let quota = u64::from(limits.cpus.millis()) * (PERIOD / 1000);
        let too_small =
            |limit, given: String, least: String| Err(CgroupError::TooSmall { limit, given, least });
        if memory == 0 {
            return too_small("memory", limits.memory.to_string(), format!("{page}B"));
        }
        if quota < LEAST_QUOTA {
            return too_small("cpus", limits.cpus.to_string(), "0.01".into());
        }
        if limits.processes == 0 {
            return too_small("processes", "0".into(), "1".into());
        }
        Ok(Self { memory, quota, processes: limits.processes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Bytes, Cpus};

    fn limits(memory: &str, cpus: &str, processes: u32) -> Limits {
        Limits {
            memory: memory.parse::<Bytes>().expect("a size"),
            cpus: cpus.parse::<Cpus>().expect("a share"),
            processes,
            ..Limits::default()
        }
    }

    #[test]
    fn memory_is_rounded_down_to_pages_and_cpus_become_a_quota() {
        let page = rustix::param::page_size() as u64;
        let amounts = Amounts::of(&limits("10000001", "1.5", 7)).expect("enough");
        assert_eq!(amounts.memory, 10_000_001 / page * page);
        assert_eq!((amounts.quota, amounts.processes), (150_000, 7));
        assert_eq!(Amounts::of(&limits("1M", "0.01", 1)).expect("the least").quota, 1000);
        assert_eq!(Amounts::of(&limits("1M", "4096", 1)).expect("the most").quota, 409_600_000);
    }

    #[test]
    fn a_limit_of_nothing_is_refused() {
        for limits in [limits("1", "1", 1), limits("1M", "1", 0), Limits::default()] {
            assert!(matches!(Amounts::of(&limits), Err(CgroupError::TooSmall { .. })), "{limits:?}");
        }
    }

    #[test]
    fn only_the_very_value_is_taken_for_it() {
        let whole = Control::plain(Limit::Processes, Controller::Pids, "pids.max", "5".into());
        assert_eq!(whole.find("5\n"), Some("5"));
        for other in ["50\n", "max\n", "", "5 5\n", "max 5\n", "-1\n", "4\n5\n"] {
            assert_eq!(whole.find(other), None, "{other:?}");
        }
        let line = Control { reads: Reads::AmongLines, expect: "8:0 rbps=9 wbps=7".into(), ..whole };
        let text = "8:16 rbps=9 wbps=7 riops=max wiops=max\n8:0 rbps=9 wbps=7 riops=max wiops=max\n";
        assert_eq!(line.find(text), Some("8:0 rbps=9 wbps=7 riops=max wiops=max"));
        assert_eq!(line.find("8:0 rbps=9 wbps=max riops=max wiops=max\n"), None);
        assert_eq!(line.find("8:0 rbps=90 wbps=7\n"), None);
    }
}
