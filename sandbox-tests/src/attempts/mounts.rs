//! Mounts, by the old interface and the new one.

use std::os::unix::fs::MetadataExt;
use std::{env, fs};

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{NOWHERE, call, describe, errno, failed, reached, succeeded};

const SYS_MOUNT_SETATTR: i64 = 442;
const SYS_STATMOUNT: i64 = 457;
const SYS_LISTMOUNT: i64 = 458;
const OPEN_TREE_CLONE: usize = 1;
const MOUNT_ATTR_RDONLY: u64 = 1;
const TMPFS_MAGIC: i64 = 0x0102_1994;
const AT_CWD: usize = libc::AT_FDCWD as usize;
const NO_FD: usize = usize::MAX;
/// Its number is fixed (`PROC_CGROUP_INIT_INO`).
const FIRST_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

/// Attempts on mounts.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Mounts, reference, success, move |_| deed()).mutating()
    };
    vec![
        new("mount_tmpfs", "mount(2)", "a tmpfs is mounted", || mount(c"tmpfs", c"/tmp", c"tmpfs", 0)),
        new("mount_proc", "CVE-2022-0492 class", "a fresh, unmasked procfs is mounted", || {
            mount(c"proc", c"/tmp", c"proc", 0)
        }),
        new("mount_sysfs", "mount(2)", "a fresh sysfs is mounted", || mount(c"sysfs", c"/tmp", c"sysfs", 0)),
        new("mount_cgroup", "CVE-2022-0492", "a cgroup hierarchy is mounted", mount_cgroup),
        new("mount_devpts", "mount(2)", "a devpts is mounted", || mount(c"devpts", c"/tmp", c"devpts", 0)),
        new("mount_bind", "mount(2)", "a directory is bound elsewhere", || {
            mount(c"/usr", c"/tmp", c"", libc::MS_BIND)
        }),
        new("mount_remount", "CVE-2023-0461 class; mount(2)", "the root is remounted writable", || {
            mount(c"", c"/", c"", libc::MS_REMOUNT | libc::MS_BIND)
        }),
        new("mount_propagation", "mount_namespaces(7)", "propagation to the host is switched on", || {
            mount(c"", c"/", c"", libc::MS_SHARED | libc::MS_REC)
        }),
        new("mount_move", "mount(2)", "a mount is moved away", || {
            mount(c"/proc", c"/tmp", c"", libc::MS_MOVE)
        }),
        new(
            "umount",
            "umount(2), masked paths",
            "/proc is unmounted, and with it what hides parts of it",
            || {
                succeeded(
                    "umount2",
                    call(libc::SYS_umount2, &[c"/proc".as_ptr() as usize, libc::MNT_DETACH as usize]),
                )
            },
        ),
        new("fsopen", "CVE-2022-0185", "a filesystem context is opened", || {
            succeeded("fsopen", call(libc::SYS_fsopen, &[c"tmpfs".as_ptr() as usize, 0]))
        }),
        new("fspick", "fspick(2)", "an existing filesystem is picked for reconfiguration", || {
            succeeded("fspick", call(libc::SYS_fspick, &[AT_CWD, c"/".as_ptr() as usize, 0]))
        })
        .unless(libc::EINVAL, "the root is not the root of its filesystem"),
        new("fsconfig", "CVE-2022-0185", "fsconfig looks at its arguments", || {
            reached("fsconfig", call(libc::SYS_fsconfig, &[NO_FD, 0, 0, 0, 0]))
        }),
        new("fsmount", "fsmount(2)", "fsmount looks at its arguments", || {
            reached("fsmount", call(libc::SYS_fsmount, &[NO_FD, 0, 0]))
        }),
        new("open_tree", "open_tree(2)", "a mount is cloned", || {
            succeeded(
                "open_tree",
                call(libc::SYS_open_tree, &[AT_CWD, c"/".as_ptr() as usize, OPEN_TREE_CLONE]),
            )
        }),
        new("move_mount", "move_mount(2)", "move_mount looks at its arguments", || {
            reached("move_mount", call(libc::SYS_move_mount, &[NO_FD, NOWHERE, NO_FD, NOWHERE, 0]))
        }),
        new("mount_setattr", "mount_setattr(2)", "read-only is taken off a mount", || {
            let attributes = [0u64, MOUNT_ATTR_RDONLY, 0, 0];
            let arguments =
                [AT_CWD, c"/".as_ptr() as usize, 0, attributes.as_ptr() as usize, size_of_val(&attributes)];
            succeeded("mount_setattr", call(SYS_MOUNT_SETATTR, &arguments))
        }),
        new("listmount", "listmount(2)", "mounts are listed past /proc", || {
            let request = [24u64, u64::MAX, 0];
            let mut ids = [0u64; 64];
            let arguments = [request.as_ptr() as usize, ids.as_mut_ptr() as usize, ids.len(), 0];
            succeeded("listmount", call(SYS_LISTMOUNT, &arguments))
        })
        .unless(libc::ENOSYS, "listmount(2) came with Linux 6.8"),
        new("statmount", "statmount(2)", "statmount looks at its arguments", || {
            reached("statmount", call(SYS_STATMOUNT, &[NOWHERE, NOWHERE, 0, 0]))
        })
        .unless(libc::ENOSYS, "statmount(2) came with Linux 6.8"),
        new("pivot_root", "pivot_root(2)", "pivot_root looks at its arguments", || {
            reached("pivot_root", call(libc::SYS_pivot_root, &[NOWHERE, NOWHERE]))
        }),
        new("chroot", "chroot(2)", "chroot is permitted", || {
            succeeded("chroot", call(libc::SYS_chroot, &[c"/".as_ptr() as usize]))
        }),
        new(
            "chroot_escape",
            "chroot(2), \"escape\"",
            "a second root is left through a directory kept open",
            chroot_escape,
        ),
        new(
            "root_is_disk",
            "pivot_root(2)",
            "the root is a disk's filesystem, not one made for the sandbox",
            root_is_disk,
        ),
    ]
}

fn mount(source: &std::ffi::CStr, target: &std::ffi::CStr, kind: &std::ffi::CStr, flags: u64) -> Verdict {
    let arguments = [source, target, kind].map(|text| text.as_ptr() as usize);
    succeeded("mount", call(libc::SYS_mount, &[arguments[0], arguments[1], arguments[2], flags as usize, 0]))
}

/// There is one cgroup2 on a machine, and whoever mounts it from the first cgroup namespace sets the options of all its
/// mounts anew (`apply_cgroup_root_flags` in kernel/cgroup/cgroup.c). So this is tried from another one.
fn mount_cgroup() -> Verdict {
    let own = fs::read_link("/proc/self/ns/cgroup").unwrap_or_default();
    if own.as_os_str() == FIRST_CGROUP_NAMESPACE
        && let Err(errno) = call(libc::SYS_unshare, &[libc::CLONE_NEWCGROUP as usize])
    {
        return Verdict::Broken(format!("it would change the machine: unshare: {}", describe(errno)));
    }
    mount(c"cgroup2", c"/tmp", c"cgroup2", 0)
}

/// Enters a subdirectory as root while standing outside of it, then climbs.
fn chroot_escape() -> Verdict {
    let identity = |path: &str| fs::metadata(path).map(|place| (place.dev(), place.ino()));
    let outside = match identity("/") {
        Ok(outside) => outside,
        Err(error) => return failed("/", &error),
    };
    if let Err(errno) = call(libc::SYS_chroot, &[c"/usr".as_ptr() as usize]) {
        return Verdict::refused(errno, format!("chroot: {}", describe(errno)));
    }
    for _ in 0..64 {
        if env::set_current_dir("..").is_err() {
            break;
        }
    }
    Verdict::when(identity(".").is_ok_and(|place| place == outside), "stood in the old root again")
}

fn root_is_disk() -> Verdict {
    // SAFETY: statfs is plain data; all zeroes is a value of it.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string and `about` lives through the call.
    if unsafe { libc::statfs(c"/".as_ptr(), &raw mut about) } != 0 {
        return Verdict::refused(errno(), "statfs");
    }
    Verdict::when(about.f_type != TMPFS_MAGIC, format!("filesystem type {:#x}", about.f_type))
}
