//! `/proc` and `/sys`: what can be written, and what tells about the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{done, errno, failed, text};

/// Switches that change the host: name, path, why.
const SWITCHES: &[(&str, &str, &str)] = &[
    ("core_pattern", "/proc/sys/kernel/core_pattern", "core(5): a program run by the kernel"),
    ("modprobe_path", "/proc/sys/kernel/modprobe", "a program run by the kernel"),
    ("sysrq_trigger", "/proc/sysrq-trigger", "CVE-2025-52565"),
    ("sysrq", "/proc/sys/kernel/sysrq", "proc_sys_kernel(5)"),
    ("binfmt_register", "/proc/sys/fs/binfmt_misc/register", "binfmt_misc"),
    ("uevent_helper", "/sys/kernel/uevent_helper", "a program run by the kernel"),
    ("ns_last_pid", "/proc/sys/kernel/ns_last_pid", "proc_sys_kernel(5)"),
    ("randomize_va_space", "/proc/sys/kernel/randomize_va_space", "proc_sys_kernel(5)"),
    ("overcommit", "/proc/sys/vm/overcommit_memory", "proc_sys_vm(5)"),
    ("drop_caches", "/proc/sys/vm/drop_caches", "proc_sys_vm(5)"),
    ("ip_forward", "/proc/sys/net/ipv4/ip_forward", "a namespace's own switch"),
    ("domainname", "/proc/sys/kernel/domainname", "a namespace's own switch"),
    ("mtrr", "/proc/mtrr", "proc(5)"),
    ("irq_affinity", "/proc/irq/default_smp_affinity", "proc(5)"),
    ("cgroup_procs", "/sys/fs/cgroup/cgroup.procs", "CVE-2022-0492"),
    ("power_state", "/sys/power/state", "sysfs"),
    ("wake_lock", "/sys/power/disk", "sysfs"),
];

/// Files and directories that a sandbox hides: name, path, why.
const MASKED: &[(&str, &str, &str)] = &[
    ("kcore", "/proc/kcore", "CVE-2025-31133: masked paths"),
    ("timer_list", "/proc/timer_list", "masked paths"),
    ("sched_debug", "/proc/sched_debug", "masked paths"),
    ("latency_stats", "/proc/latency_stats", "masked paths"),
    ("interrupts", "/proc/interrupts", "CVE-2025-31133, masked paths"),
    ("kmsg", "/proc/kmsg", "kernel log"),
    ("kpagecount", "/proc/kpagecount", "rowhammer, page cache attacks"),
    ("kpageflags", "/proc/kpageflags", "rowhammer, page cache attacks"),
    ("kpagecgroup", "/proc/kpagecgroup", "page cache attacks"),
    ("slabinfo", "/proc/slabinfo", "heap layout"),
    ("vmallocinfo", "/proc/vmallocinfo", "heap layout"),
    ("modules", "/proc/modules", "kernel layout"),
    ("acpi", "/proc/acpi", "masked paths"),
    ("scsi", "/proc/scsi", "masked paths"),
    ("asound", "/proc/asound", "masked paths"),
    ("bus", "/proc/bus", "read-only paths"),
    ("driver", "/proc/driver", "masked paths"),
    ("tty_drivers", "/proc/tty/driver", "key press timing"),
    ("softirqs", "/proc/softirqs", "key press timing"),
    ("kernel_command_line", "/proc/cmdline", "secrets of the host's boot"),
    ("kernel_config", "/proc/config.gz", "kernel layout"),
    ("swaps", "/proc/swaps", "host's disks"),
    ("partitions", "/proc/partitions", "host's disks"),
    ("diskstats", "/proc/diskstats", "host's disks"),
    ("locks", "/proc/locks", "pids and inodes of the host"),
    ("sys_firmware", "/sys/firmware", "masked paths"),
    ("sys_debug", "/sys/kernel/debug", "debugfs"),
    ("sys_tracing", "/sys/kernel/tracing", "tracefs"),
    ("sys_security", "/sys/kernel/security", "securityfs"),
    ("sys_bpf", "/sys/fs/bpf", "pinned maps"),
    ("sys_pstore", "/sys/fs/pstore", "crash logs"),
    ("sys_powercap", "/sys/devices/virtual/powercap", "CVE-2020-8694 (PLATYPUS)"),
    ("sys_vmcoreinfo", "/sys/kernel/vmcoreinfo", "kernel layout"),
    ("sys_notes", "/sys/kernel/notes", "CVE-2024-26816: KASLR"),
    ("sys_slab", "/sys/kernel/slab", "heap layout"),
    ("sys_dmi", "/sys/class/dmi/id", "machine identity"),
    ("sys_block", "/sys/block", "host's disks"),
    ("sys_devices", "/sys/devices/virtual", "host's hardware"),
    ("sys_cgroup", "/sys/fs/cgroup", "host's groups"),
];

/// Attempts on `/proc` and `/sys`.
pub fn attempts() -> Vec<Attempt> {
    let mut all: Vec<_> = SWITCHES.iter().map(|&switch| write(switch)).collect();
    all.extend(MASKED.iter().map(|&masked| read(masked)));
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Procfs, reference, success, move |_| deed())
    };
    all.extend([
        new("kallsyms", "kptr_restrict", "kernel addresses are readable", kallsyms)
            .unless(libc::ENOENT, "CONFIG_KALLSYMS is off"),
        new("iomem", "physical layout", "physical addresses are readable", || addresses("/proc/iomem"))
            .unless(libc::ENOENT, "this kernel has no such file")
            .unless_absent("the addresses are zero for everybody"),
        new("ioports", "physical layout", "port addresses are readable", || addresses("/proc/ioports"))
            .unless(libc::ENOENT, "this kernel has no such file")
            .unless_absent("the addresses are zero for everybody"),
        new("proc_sys_writable", "proc_sys(5)", "something below /proc/sys is writable", || {
            sweep("/proc/sys")
        }),
        new("sys_writable", "sysfs(5)", "something below /sys is writable", || sweep("/sys")),
        new("proc_top_writable", "proc(5)", "something directly below /proc is writable", || {
            first_writable(fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()))
        }),
        new("release_agent", "CVE-2022-0492", "a release_agent can be written", || {
            let groups = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
            first_writable(groups.map(|group| group.path().join("release_agent")))
        })
        .unless_absent("this machine has no v1 hierarchy"),
        new("cgroup_make", "CVE-2022-0492", "a directory of the cgroup tree can be written", || {
            let groups =
                fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|group| group.path());
            let groups = std::iter::once("/sys/fs/cgroup".into()).chain(groups);
            first_writable(groups)
        }),
        new("cgroup_path", "cgroup_namespaces(7)", "a path of the host's cgroup tree is readable", || {
            match fs::read_to_string("/proc/self/cgroup") {
                Ok(groups) => {
                    Verdict::when(groups.lines().any(|line| !line.ends_with(":/")), groups.replace('\n', " "))
                }
                Err(error) => failed("/proc/self/cgroup", &error),
            }
        })
        .unless_absent("the runner sits in the root of every hierarchy"),
        new("see_other_processes", "pid_namespaces(7)", "processes beyond this sandbox are listed", || {
            match fs::metadata("/proc/self/status") {
                Ok(_) => pids_of_others(),
                Err(error) => failed("/proc", &error),
            }
        }),
    ]);
    all
}

/// Opened, never written to: the right to write is what counts.
fn write((name, path, reference): (&'static str, &'static str, &'static str)) -> Attempt {
    Attempt::new(
        format!("write_{name}"),
        Class::Procfs,
        reference,
        format!("{path} opens for writing"),
        move |_| done(path, fs::OpenOptions::new().write(true).open(path)),
    )
    .unless(libc::ENOENT, "this kernel has no such switch")
}

fn read((name, path, reference): (&'static str, &'static str, &'static str)) -> Attempt {
    Attempt::new(
        format!("see_{name}"),
        Class::Procfs,
        reference,
        format!("{path} shows something"),
        move |_| shown(Path::new(path)),
    )
    .unless(libc::ENOENT, "this kernel has no such file")
    .unless(libc::EPERM, "kernel lockdown")
    .unless_absent("there is nothing in it on this machine")
}

fn shown(path: &Path) -> Verdict {
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) => return failed("stat", &error),
    };
    if about.file_type().is_char_device() {
        return Verdict::absent("a device stands in its place");
    }
    if about.is_dir() {
        return match fs::read_dir(path) {
            Ok(entries) => {
                let count = entries.count();
                Verdict::when(count > 0, format!("a directory with {count} entries"))
            }
            Err(error) => failed("list", &error),
        };
    }
    // One byte without waiting: /proc/kmsg blocks when it is empty, /proc/kcore has no end.
    let opened = {
        use std::os::unix::fs::OpenOptionsExt;
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
    };
    let mut byte = [0u8; 8];
    match opened.and_then(|mut file| std::io::Read::read(&mut file, &mut byte)) {
        Ok(length) => Verdict::when(length > 0, format!("{length} bytes were read")),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
            Verdict::through("readable, though it holds nothing")
        }
        Err(error) => failed("read", &error),
    }
}

fn kallsyms() -> Verdict {
    match fs::read_to_string("/proc/kallsyms") {
        Ok(symbols) => {
            let real = symbols
                .lines()
                .find(|line| line.bytes().take_while(u8::is_ascii_hexdigit).any(|digit| digit != b'0'));
            Verdict::when(real.is_some(), format!("{real:?}"))
        }
        Err(error) => failed("/proc/kallsyms", &error),
    }
}

/// Without the right to see them, the kernel shows the ranges as zeroes.
fn addresses(path: &str) -> Verdict {
    match fs::read_to_string(path) {
        Ok(table) => {
            let is_shown = |line: &&str| {
                line.split(':')
                    .next()
                    .is_some_and(|range| range.contains(|c: char| c.is_ascii_hexdigit() && c != '0'))
            };
            let real = table.lines().find(is_shown);
            Verdict::when(real.is_some(), format!("{real:?}"))
        }
        Err(error) => failed(path, &error),
    }
}

fn is_writable(path: &Path) -> Result<(), i32> {
    // SAFETY: the path is a C string that lives through the call.
    let granted = unsafe {
        libc::faccessat(libc::AT_FDCWD, text(&path.to_string_lossy()).as_ptr(), libc::W_OK, libc::AT_EACCESS)
    };
    if granted == 0 { Ok(()) } else { Err(errno()) }
}

fn first_writable(paths: impl Iterator<Item = std::path::PathBuf>) -> Verdict {
    let mut looked_at = 0;
    for path in paths {
        looked_at += 1;
        // Links lead to other places, and a process's own directory is its own business.
        let is_own =
            path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|c| c.is_ascii_digit()));
        if !path.is_symlink() && !is_own && path.exists() && is_writable(&path).is_ok() && !is_null(&path) {
            return Verdict::through(format!("{} is writable", path.display()));
        }
    }
    Verdict::absent(format!("none of {looked_at} is writable"))
}

/// `/dev/null` bound over a file hides it, and writing to it changes nothing.
fn is_null(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|file| file.file_type().is_char_device() && file.rdev() == libc::makedev(1, 3))
}

fn sweep(top: &str) -> Verdict {
    let mut pending = vec![std::path::PathBuf::from(top)];
    let mut looked_at = 0;
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            looked_at += 1;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() && is_writable(&entry.path()).is_ok() {
                return Verdict::through(format!("{} is writable", entry.path().display()));
            }
        }
    }
    Verdict::absent(format!("none of {looked_at} files below {top} is writable"))
}

/// More processes in `/proc` than this sandbox has: the procfs belongs to another pid namespace.
fn pids_of_others() -> Verdict {
    // SAFETY: getpid(2) and getppid(2) always succeed.
    let own = unsafe { [1, libc::getpid(), libc::getppid()] };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let others: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| !own.contains(pid))
        .collect();
    Verdict::when(!others.is_empty(), format!("besides {own:?}: {others:?}"))
}
