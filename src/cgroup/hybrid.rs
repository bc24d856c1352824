//! cgroup v1: limits, and what has to be done by hand that v2 does by itself (cgroups(7), kernel doc cgroup-v1).

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags};

use super::CgroupError;
use super::control::{Amounts, Control, Limit, PERIOD, Reads};
use super::device::Device;
use super::group::Group;
use super::layout::Controller;
use super::usage::{self, Usage};
use crate::policy::Io;

/// The files that hold the limits.
pub(super) fn controls(amounts: Amounts, io: Option<Io>, devices: &[Device]) -> Vec<Control> {
    let Amounts { memory, quota, processes } = amounts;
    let plain = Control::plain;
    let mut controls = vec![
        plain(Limit::Memory, Controller::Memory, "memory.limit_in_bytes", memory.to_string()),
        // After the memory alone: the kernel refuses a sum below it.
        Control {
            optional: true,
            ..plain(Limit::Swap, Controller::Memory, "memory.memsw.limit_in_bytes", memory.to_string())
        },
        // Unread bytes in sockets are no memory to v1, unless this is written: all agents would share the kernel's own bound
        // (net.ipv4.tcp_mem), and the first to reach it would leave nothing for the host.
        Control {
            optional: true,
            ..plain(
                Limit::SocketMemory,
                Controller::Memory,
                "memory.kmem.tcp.limit_in_bytes",
                socket_memory(memory).to_string(),
            )
        },
        plain(Limit::CpuPeriod, Controller::Cpu, "cpu.cfs_period_us", PERIOD.to_string()),
        plain(Limit::Cpu, Controller::Cpu, "cpu.cfs_quota_us", quota.to_string()),
        plain(Limit::Processes, Controller::Pids, "pids.max", processes.to_string()),
    ];
    for (Io { read, write }, device) in
        io.iter().flat_map(|io| devices.iter().map(move |device| (io, device)))
    {
        for (file, rate) in
            [("blkio.throttle.read_bps_device", read), ("blkio.throttle.write_bps_device", write)]
        {
            let value = format!("{device} {}", rate.get());
            controls
                .push(Control { reads: Reads::AmongLines, ..plain(Limit::Io, Controller::Io, file, value) });
        }
    }
    controls
}

/// A quarter of the memory, on top of it, in whole pages.
fn socket_memory(memory: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    (memory / 4 / page).max(1) * page
}

/// Moves a process, as this process numbers it, into the group.
pub(super) fn attach(group: &Group, pid: u32) -> Result<(), CgroupError> {
    match group.write("cgroup.procs", &pid.to_string()) {
        Err(CgroupError::Write { path, source, .. })
            if source.raw_os_error() == Some(libc::EINVAL)
                && group.tree.controllers.contains(&Controller::Cpu) =>
        {
            Err(CgroupError::RealTime { pid, path, source })
        }
        result => result,
    }
}

/// A descriptor that becomes readable when the group runs out of memory: v1 kills one process and leaves the
/// rest in whatever state that puts them. It also does when the group is removed (kernel doc cgroup-v1/memory,
/// "OOM Control").
pub(super) fn oom_watch(group: &Group) -> Result<OwnedFd, CgroupError> {
    let control = group.file("memory.oom_control", OFlags::RDONLY)?;
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let event = rustix::event::eventfd(0, flags)
        .map_err(|errno| CgroupError::Open { path: "eventfd".into(), source: errno.into() })?;
    // The kernel takes references of its own, so `control` may be closed.
    group.write("cgroup.event_control", &format!("{} {}", event.as_raw_fd(), control.as_raw_fd()))?;
    Ok(event)
}

/// Waits until nobody is in the group; `false`: somebody still was at the deadline.
pub(super) fn wait_empty(group: &Group, deadline: Instant) -> Result<bool, CgroupError> {
    loop {
        let members = group.members()?;
        let Some(first) = members.first() else { return Ok(true) };
        if Instant::now() >= deadline {
            return Ok(false);
        }
        // v1 has no event for "empty", so the end of one member after the other is awaited.
        await_end(open(*first), deadline);
    }
}

/// A pidfd of this process, unless it is gone or in a PID namespace that this one cannot see.
pub(super) fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Returns when the process has ended, or at the deadline. Without a process it returns after a millisecond:
/// an exiting process leaves its pid before it leaves its group, and nothing tells of the second.
pub(super) fn await_end(process: Option<OwnedFd>, deadline: Instant) {
    let Some(process) = process else { return pause() };
    let left = deadline.saturating_duration_since(Instant::now());
    // An error (EINTR, ENOMEM) is an early return, and the caller looks at the group again in any case.
    let _ = rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&usage::timespec(left)));
}

/// A millisecond, for the moments in which the kernel tidies up without telling anybody.
pub(super) fn pause() {
    // Without descriptors nothing can happen but the end of the time, or a signal.
    let _ = rustix::event::poll(&mut [], Some(&usage::timespec(Duration::from_millis(1))));
}

/// What the agent used. A file that this kernel does not have leaves its value unknown.
pub(super) fn usage(group: &Group, usage: &mut Usage) {
    let number = |file| group.read(file).ok().and_then(|text| text.trim().parse().ok());
    let events = |file| group.read(file).map(|text| usage::flat(&text)).unwrap_or_default();
    for controller in &group.tree.controllers {
        match controller {
            Controller::Memory => {
                usage.memory_bytes = number("memory.usage_in_bytes");
                usage.memory_peak_bytes = number("memory.max_usage_in_bytes");
                usage.oom_kills = events("memory.oom_control").get("oom_kill").copied();
            }
            Controller::Cpu => {
                usage.cpu_throttled_micros =
                    events("cpu.stat").get("throttled_time").map(|nanos| nanos / 1000);
                // Only where cpuacct is mounted together with cpu; beside a v2 tree, that one counts.
                let total: Option<u64> = number("cpuacct.usage");
                usage.cpu_micros = usage.cpu_micros.or(total.map(|nanos| nanos / 1000));
            }
            Controller::Pids => {
                usage.processes_peak = number("pids.peak");
                usage.forks_refused = events("pids.events").get("max").copied();
            }
            Controller::Io => {
                let text = group.read("blkio.throttle.io_service_bytes").ok();
                let bytes = text.map(|text| usage::io_service_bytes(&text));
                (usage.io_read_bytes, usage.io_written_bytes) = bytes.unzip();
            }
            Controller::Freezer => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Bytes;

    #[test]
    fn memory_is_limited_before_memory_and_swap_together() {
        let amounts = Amounts { memory: 8192, quota: 1000, processes: 9 };
        let io = Some(Io { read: Bytes::mib(1), write: Bytes::mib(2) });
        let written: Vec<(&str, String)> = controls(amounts, io, &[Device { major: 254, minor: 0 }])
            .into_iter()
            .map(|control| (control.file, control.write))
            .collect();
        let wanted = [
            ("memory.limit_in_bytes", "8192"),
            ("memory.memsw.limit_in_bytes", "8192"),
            ("memory.kmem.tcp.limit_in_bytes", "4096"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "1000"),
            ("pids.max", "9"),
            ("blkio.throttle.read_bps_device", "254:0 1048576"),
            ("blkio.throttle.write_bps_device", "254:0 2097152"),
        ];
        assert_eq!(written, wanted.map(|(file, value)| (file, value.to_owned())));
    }
}
