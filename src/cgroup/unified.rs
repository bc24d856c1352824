//! cgroup v2: limits, events and the one-write kill (cgroups(7), kernel doc cgroup-v2).

use std::collections::BTreeMap;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::CgroupError;
use super::control::{Amounts, Control, Limit, PERIOD, Reads};
use super::device::Device;
use super::group::{self, Group, HOUSE};
use super::layout::{Controller, Tree};
use super::usage::{self, Usage};
use crate::policy::Io;

/// The files that hold the limits.
pub(super) fn controls(amounts: Amounts, io: Option<Io>, devices: &[Device]) -> Vec<Control> {
    let Amounts { memory, quota, processes } = amounts;
    let plain = Control::plain;
    let mut controls = vec![
        plain(Limit::Memory, Controller::Memory, "memory.max", memory.to_string()),
        // Together with memory.max: swap is not on top of the memory, there is none.
        Control { optional: true, ..plain(Limit::Swap, Controller::Memory, "memory.swap.max", "0".into()) },
        plain(Limit::KillAllWhenOutOfMemory, Controller::Memory, "memory.oom.group", "1".into()),
        plain(Limit::Cpu, Controller::Cpu, "cpu.max", format!("{quota} {PERIOD}")),
        plain(Limit::Processes, Controller::Pids, "pids.max", processes.to_string()),
    ];
    for (Io { read, write }, device) in
        io.iter().flat_map(|io| devices.iter().map(move |device| (io, device)))
    {
        let value = format!("{device} rbps={} wbps={}", read.get(), write.get());
        controls
            .push(Control { reads: Reads::AmongLines, ..plain(Limit::Io, Controller::Io, "io.max", value) });
    }
    controls
}

/// Gives the groups in the house these controllers. The house must have a group in it, so that it stays.
///
/// Any number of starters may do this at once: enabling what is enabled changes nothing.
pub(super) fn enable(tree: &Tree, controllers: &[Controller]) -> Result<(), CgroupError> {
    let names: Vec<&str> = controllers.iter().filter_map(|controller| controller.unified_name()).collect();
    let house = format!("{HOUSE}/cgroup.subtree_control");
    // The outer one first: a group has only the controllers that its parent hands down.
    let files = ["cgroup.subtree_control", house.as_str()];
    if lacking(tree, files[1], &names)?.is_empty() {
        return Ok(());
    }
    for file in files {
        let wanted = lacking(tree, file, &names)?;
        if wanted.is_empty() {
            continue;
        }
        group::write(&tree.root, file, &wanted).map_err(|errno| {
            let path = tree.path.join(file);
            match errno {
                Errno::BUSY => CgroupError::InternalProcesses {
                    path: tree.path.clone(),
                    controllers: wanted.clone(),
                    source: errno.into(),
                },
                errno => CgroupError::Write { path, value: wanted.clone(), source: errno.into() },
            }
        })?;
    }
    Ok(())
}

/// Waits for another starter that is enabling these controllers at this moment.
///
/// `cgroup.subtree_control` names a controller as soon as somebody's write began, and the group's files appear only at
/// its end. A write of our own waits for that one, and then changes nothing (`cgroup_mutex`, kernel/cgroup/cgroup.c).
pub(super) fn settle(tree: &Tree, controllers: &[Controller]) -> Result<(), CgroupError> {
    let names = controllers.iter().filter_map(|controller| controller.unified_name());
    let value = names.map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    let house = format!("{HOUSE}/cgroup.subtree_control");
    group::write(&tree.root, &house, &value).map_err(|errno| CgroupError::Write {
        path: tree.path.join(house),
        value,
        source: errno.into(),
    })
}

/// What must be written to `file` so that it has all of `names`: `+memory +pids`.
fn lacking(tree: &Tree, file: &str, names: &[&str]) -> Result<String, CgroupError> {
    let enabled = group::read(&tree.root, file)
        .map_err(|source| CgroupError::Read { path: tree.path.join(file), source })?;
    let missing = names.iter().filter(|name| !enabled.split_ascii_whitespace().any(|word| word == **name));
    Ok(missing.map(|name| format!("+{name}")).collect::<Vec<_>>().join(" "))
}

/// Whether a process is in the group, or in a group below it.
pub(super) fn is_populated(group: &Group) -> Result<bool, CgroupError> {
    match group.read("cgroup.events") {
        Ok(text) => Ok(populated(&text)),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until nobody is in the group; `false`: somebody still was at the deadline.
pub(super) fn wait_empty(group: &Group, deadline: Instant) -> Result<bool, CgroupError> {
    let events = match group.file("cgroup.events", OFlags::RDONLY) {
        Ok(events) => events,
        Err(error) if is_gone(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    let path = || group.path().join("cgroup.events");
    loop {
        // Reading arms the poll: a change after this is not missed (kernel doc cgroup-v2, "[Un]populated").
        match group::read_all(&events) {
            Ok(text) if !populated(&text) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(true),
            Err(source) => return Err(CgroupError::Read { path: path(), source }),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&usage::timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(CgroupError::Read { path: path(), source: errno.into() }),
        }
    }
}

/// Everything but "populated 0" counts as populated.
fn populated(events: &str) -> bool {
    usage::flat(events).get("populated") != Some(&0)
}

/// A removed group's files are gone, or answer ENODEV while they are open.
fn is_gone(error: &CgroupError) -> bool {
    match error {
        CgroupError::Read { source, .. } | CgroupError::Open { source, .. } => {
            matches!(source.raw_os_error(), Some(libc::ENODEV | libc::ENOENT))
        }
        _ => false,
    }
}

/// What the agent used. A file that this kernel does not have leaves its value unknown.
pub(super) fn usage(group: &Group, usage: &mut Usage) {
    let number = |file| group.read(file).ok().and_then(|text| text.trim().parse().ok());
    let events = |file| group.read(file).map(|text| usage::flat(&text)).unwrap_or_default();
    let cpu: BTreeMap<String, u64> = events("cpu.stat");
    usage.cpu_micros = cpu.get("usage_usec").copied();
    if group.tree.controllers.contains(&Controller::Memory) {
        let memory = events("memory.events");
        usage.memory_bytes = number("memory.current");
        usage.memory_peak_bytes = number("memory.peak");
        usage.oom_kills = memory.get("oom_kill").copied();
        usage.oom_group_kills = memory.get("oom_group_kill").copied();
    }
    if group.tree.controllers.contains(&Controller::Cpu) {
        usage.cpu_throttled_micros = cpu.get("throttled_usec").copied();
    }
    // Handed down for the counting alone, where nothing is limited; a group of an older version may lack it.
    if let Ok(text) = group.read("io.stat") {
        let (read, written) = usage::io_stat(&text);
        (usage.io_read_bytes, usage.io_written_bytes) = (Some(read), Some(written));
    }
    if group.tree.controllers.contains(&Controller::Pids) {
        usage.processes_peak = number("pids.peak");
        usage.forks_refused = events("pids.events").get("max").copied();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Bytes;

    #[test]
    fn each_limit_has_its_file_and_swap_is_nothing_on_top() {
        let amounts = Amounts { memory: 8192, quota: 150_000, processes: 9 };
        let io = Some(Io { read: Bytes::mib(1), write: Bytes::mib(2) });
        let written: Vec<(&str, String)> = controls(amounts, io, &[Device { major: 8, minor: 16 }])
            .into_iter()
            .map(|control| (control.file, control.write))
            .collect();
        let wanted = [
            ("memory.max", "8192"),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("cpu.max", "150000 100000"),
            ("pids.max", "9"),
            ("io.max", "8:16 rbps=1048576 wbps=2097152"),
        ];
        assert_eq!(written, wanted.map(|(file, value)| (file, value.to_owned())));
    }

    #[test]
    fn only_populated_0_means_empty() {
        assert!(!populated("populated 0\nfrozen 0\n"));
        for text in ["populated 1\nfrozen 0\n", "frozen 0\n", "", "populated x\n"] {
            assert!(populated(text), "{text:?}");
        }
    }
}
