//! Devices, by node and by number.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{call, done, failed, succeeded};

/// Nodes that no agent needs: through if they are in view, for what opening them takes differs from machine to machine.
const NODES: &[(&str, &str, &str)] = &[
    ("kmsg", "/dev/kmsg", "kernel log"),
    ("mem", "/dev/mem", "physical memory"),
    ("port", "/dev/port", "I/O ports"),
    ("fuse", "/dev/fuse", "CVE-2022-0492 exploits"),
    ("kvm", "/dev/kvm", "CVE-2021-22543"),
    ("tun", "/dev/net/tun", "CVE-2023-3812"),
    ("loop_control", "/dev/loop-control", "disks from files"),
    ("userfaultfd", "/dev/userfaultfd", "userfaultfd(2)"),
    ("msr", "/dev/cpu/0/msr", "model-specific registers"),
    ("console", "/dev/console", "CVE-2025-52565"),
    ("tty0", "/dev/tty0", "the machine's own console"),
    ("hwrng", "/dev/hwrng", "hardware"),
    ("autofs", "/dev/autofs", "mounts on demand"),
    ("btrfs_control", "/dev/btrfs-control", "disks"),
    ("cpu_dma_latency", "/dev/cpu_dma_latency", "power"),
    ("vhost_net", "/dev/vhost-net", "CVE-2019-14835"),
    ("vhost_vsock", "/dev/vhost-vsock", "CVE-2022-1158 class"),
    ("ppp", "/dev/ppp", "CVE-2020-8597 class"),
    ("rtc", "/dev/rtc0", "the clock"),
];

/// All that a minimal `/dev` has, besides what lies in `pts`.
const MINIMAL: &[&str] = &["null", "zero", "full", "random", "urandom", "tty", "ptmx"];

/// Attempts on devices.
pub fn attempts() -> Vec<Attempt> {
    let mut all: Vec<_> = NODES
        .iter()
        .map(|&(name, path, reference)| {
            Attempt::new(
                format!("device_{name}"),
                Class::Devices,
                reference,
                format!("{path} is in view"),
                move |_| node(path),
            )
            .unless(libc::ENOENT, "this machine has no such device")
        })
        .collect();
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Devices, reference, success, move |_| deed())
    };
    all.extend([
        new("device_extra", "a minimal /dev", "a character device beyond the minimum is in view", || {
            let extra: Vec<_> =
                nodes(|kind| kind.is_char_device()).into_iter().filter(|path| !is_minimal(path)).collect();
            Verdict::when(
                !extra.is_empty(),
                format!("{} more: {:?}", extra.len(), extra.iter().take(4).collect::<Vec<_>>()),
            )
        }),
        new("device_block", "debugfs(8) on the host's disk", "a block device is in view", || {
            let disks = nodes(|kind| kind.is_block_device());
            Verdict::when(!disks.is_empty(), format!("{disks:?}"))
        })
        .unless_absent("this machine has none"),
        new("device_raw_disk", "debugfs(8) on the host's disk", "a disk is readable", || {
            let disks = nodes(|kind| kind.is_block_device());
            let opened = disks.iter().find(|disk| fs::File::open(disk).is_ok());
            opened.map_or_else(
                || Verdict::absent("no disk opens"),
                |disk| Verdict::through(disk.display().to_string()),
            )
        })
        .unless_absent("this machine has none"),
        new(
            "mknod_character",
            "CVE-2015-1328 class; mknod(2)",
            "a character device is made in the workspace",
            || make(c"made-device", libc::S_IFCHR, libc::makedev(1, 1)),
        )
        .mutating(),
        new("mknod_block", "mknod(2)", "a block device is made in the workspace", || {
            make(c"made-device", libc::S_IFBLK, libc::makedev(7, 0))
        })
        .mutating(),
        new("mknod_tmp", "mknod(2), nodev", "a device is made in /tmp and opens", || {
            let made = make_at(c"/tmp/made-device", libc::S_IFCHR, libc::makedev(1, 3));
            let verdict = match made {
                Ok(_) => done("open", fs::File::open("/tmp/made-device")),
                Err(_) => succeeded("mknod", made),
            };
            let _ = fs::remove_file("/tmp/made-device");
            verdict
        })
        .mutating(),
        new(
            "whiteout",
            "overlayfs, mknod(2)",
            "device 0:0, which anybody may make, hides a lower file",
            || make(c"made-device", libc::S_IFCHR, 0),
        )
        .mutating(),
        new("write_dev", "a read-only /dev", "a file is made in /dev", || {
            let made = fs::OpenOptions::new().write(true).create_new(true).open("/dev/stockade-probe");
            let _ = fs::remove_file("/dev/stockade-probe");
            done("/dev/stockade-probe", made)
        })
        .mutating(),
    ]);
    all
}

fn node(path: &str) -> Verdict {
    match fs::metadata(path) {
        Ok(about) if about.file_type().is_char_device() => {
            // Inside, /dev/console may be the sandbox's own pseudo-terminal (devpts has majors 136 to 143).
            let is_pty = (136..=143).contains(&libc::major(about.rdev()));
            let opened = fs::File::open(path).map_or_else(|error| error.to_string(), |_| "opens".into());
            Verdict::when(
                !is_pty,
                format!("{}:{}, {opened}", libc::major(about.rdev()), libc::minor(about.rdev())),
            )
        }
        Ok(_) => Verdict::absent("no device"),
        Err(error) => failed(path, &error),
    }
}

fn nodes(is_wanted: fn(&fs::FileType) -> bool) -> Vec<PathBuf> {
    let (mut pending, mut found) = (vec![PathBuf::from("/dev")], Vec::new());
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                Ok(kind) if is_wanted(&kind) => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

fn is_minimal(path: &Path) -> bool {
    let is_pty = fs::metadata(path).is_ok_and(|about| (136..=143).contains(&libc::major(about.rdev())));
    is_pty
        || MINIMAL.iter().any(|name| path == Path::new("/dev").join(name))
        || path == Path::new("/dev/pts/ptmx")
}

fn make_at(path: &std::ffi::CStr, kind: u32, device: u64) -> Result<i64, i32> {
    let mode = (kind | 0o600) as usize;
    call(libc::SYS_mknodat, &[libc::AT_FDCWD as usize, path.as_ptr() as usize, mode, device as usize])
}

fn make(path: &std::ffi::CStr, kind: u32, device: u64) -> Verdict {
    let verdict = succeeded("mknod", make_at(path, kind, device));
    let _ = fs::remove_file(path.to_string_lossy().as_ref());
    verdict
}
