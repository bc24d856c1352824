//! Files of the host: reading, naming, changing them; leaving the workspace by a link.

use std::ffi::CStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::attempt::{Attempt, Class, Verdict};
use crate::decoys::{self, Decoys};
use crate::kernel::{call, done, failed, reached, succeeded};

const SYSTEM_FILE: &CStr = c"/usr/bin/true";
const AT_CWD: usize = libc::AT_FDCWD as usize;
const FS_IOC_SETFLAGS: usize = 0x4008_6602;
const FS_IMMUTABLE: i32 = 0x10;

/// Attempts on files.
pub fn attempts() -> Vec<Attempt> {
    let mut all = of_the_host();
    all.extend(decoys::BELONGINGS.map(|(id, name)| belonging(id, name)));
    all
}

/// A file in the home of the host's root, beside what a policy may show of it.
fn belonging(id: &str, name: &'static str) -> Attempt {
    let path = Path::new(decoys::HOME).join(name);
    let success = format!("{} is in view", path.display());
    Attempt::new(id, Class::Files, "mount_namespaces(7)", success, move |_| {
        done(&path.display().to_string(), fs::symlink_metadata(&path))
    })
}

fn of_the_host() -> Vec<Attempt> {
    let new = |id: &str, reference, success: &str, deed: fn(&Decoys) -> Verdict| {
        Attempt::new(id, Class::Files, reference, success, deed)
    };
    let changing = |id: &str, reference, success: &str, deed: fn(&Decoys) -> Verdict| {
        new(id, reference, success, deed).mutating()
    };
    vec![
        new("shadow_read", "kernel uid 0 in disguise", "/etc/shadow is readable", |_| {
            holds("/etc/shadow", ":")
        }),
        new("secret_read", "mount_namespaces(7)", "a file of the host is readable", |d| {
            holds(&d.secret, decoys::SECRET)
        }),
        new("secret_stat", "Landlock does not cover stat", "a file of the host has a name inside", |d| {
            done("stat", fs::symlink_metadata(&d.secret))
        }),
        new(
            "secret_by_init",
            "Ona, March 2026",
            "a file of the host is readable through pid 1's root",
            |d| holds(format!("/proc/1/root{}", d.secret.display()), decoys::SECRET),
        ),
        new(
            "secret_by_dots",
            "CVE-2024-21626",
            "a file of the host is readable above the working directory",
            |d| {
                holds(format!("/proc/self/cwd/../../../../../../../..{}", d.secret.display()), decoys::SECRET)
            },
        ),
        new("secret_by_link", "GHSA-pxhw-h44j-8pfx class", "a link in the workspace leads out of it", |_| {
            holds(decoys::ESCAPING_LINK, decoys::SECRET)
        }),
        changing("secret_by_hard_link", "link(2)", "a file of the host is linked into the workspace", |d| {
            let verdict = done("link", fs::hard_link(&d.secret, "hard-link"));
            let _ = fs::remove_file("hard-link");
            verdict
        }),
        new(
            "host_homes",
            "mount_namespaces(7)",
            "a belonging of the host is in view below /var or /srv",
            |_| {
                let found = ["/var/log", "/var/lib", "/var/spool", "/boot", "/lost+found"]
                    .into_iter()
                    .find(|p| Path::new(p).exists());
                found.map_or_else(|| Verdict::absent("none"), Verdict::through)
            },
        ),
        changing("write_usr", "read-only system", "a file is made in /usr", |_| {
            created("/usr/stockade-probe")
        }),
        changing("write_etc", "read-only system", "a file is made in /etc", |_| {
            created("/etc/stockade-probe")
        }),
        changing("write_root", "read-only system", "a file is made in /", |_| created("/stockade-probe")),
        changing(
            "overwrite_program",
            "read-only system",
            "a program of the system is opened for writing",
            |_| done("open", fs::OpenOptions::new().write(true).open(decoys::SETUID_SYSTEM)),
        ),
        changing("chmod_system", "Landlock does not cover chmod", "a system file's mode is set", |_| {
            done("chmod", fs::set_permissions("/usr/bin/true", fs::Permissions::from_mode(0o755)))
        }),
        changing("chown_system", "Landlock does not cover chown", "a system file's owner is set", |_| {
            let path = SYSTEM_FILE.as_ptr() as usize;
            succeeded("fchownat", call(libc::SYS_fchownat, &[AT_CWD, path, 0, 0, 0]))
        }),
        changing("times_system", "Landlock does not cover utime", "a system file's times are set", |_| {
            succeeded("utimensat", call(libc::SYS_utimensat, &[AT_CWD, SYSTEM_FILE.as_ptr() as usize, 0, 0]))
        }),
        changing(
            "xattr_system",
            "Landlock does not cover setxattr",
            "a system file gets an attribute",
            |_| {
                let (path, name) =
                    (SYSTEM_FILE.as_ptr() as usize, c"trusted.stockade-probe".as_ptr() as usize);
                succeeded("setxattr", call(libc::SYS_setxattr, &[path, name, name, 1, 0]))
            },
        )
        .unless(libc::EOPNOTSUPP, "this filesystem has no attributes"),
        changing(
            "xattr_user_system",
            "Landlock does not cover setxattr",
            "a system file gets a user attribute",
            |_| {
                let (path, name) = (SYSTEM_FILE.as_ptr() as usize, c"user.stockade-probe".as_ptr() as usize);
                succeeded("setxattr", call(libc::SYS_setxattr, &[path, name, name, 1, 0]))
            },
        )
        .unless(libc::EOPNOTSUPP, "this filesystem has no attributes"),
        changing("truncate_system", "Landlock below ABI 3", "a system file can be truncated", |_| {
            // Longer than the file: without a wall it grows by a hole, and only in the belt's own layer.
            let arguments = [decoys_system_path().as_ptr() as usize, 1 << 30];
            succeeded("truncate", call(libc::SYS_truncate, &arguments))
        }),
        changing("chown_workspace", "idmapped mounts", "a workspace file is given to another uid", |_| {
            let made = fs::write("given-away", "").is_ok();
            let path = c"given-away".as_ptr() as usize;
            let verdict = succeeded("fchownat", call(libc::SYS_fchownat, &[AT_CWD, path, 1, 1, 0]));
            let _ = fs::remove_file("given-away");
            if made { verdict } else { Verdict::absent("the workspace is read-only") }
        }),
        changing(
            "immutable",
            "CAP_LINUX_IMMUTABLE",
            "a workspace file is made undeletable for the host",
            |_| immutable(),
        ),
        changing("trusted_xattr", "xattr(7)", "a trusted attribute is left in the workspace", |_| {
            let (path, name) = (c".".as_ptr() as usize, c"trusted.overlay.opaque".as_ptr() as usize);
            succeeded("setxattr", call(libc::SYS_setxattr, &[path, name, c"y".as_ptr() as usize, 1, 0]))
        })
        .unless(libc::EOPNOTSUPP, "this filesystem has no attributes"),
        new("etc_environment", "machine identity", "/etc/machine-id names the host", |_| {
            holds("/etc/machine-id", "")
        })
        .unless(libc::ENOENT, "this machine has none"),
        new("resolve_beneath", "openat2(2)", "openat2 is there, whose mode no filter can see", |_| {
            let how = [0u64; 3];
            let arguments = [AT_CWD, c".".as_ptr() as usize, how.as_ptr() as usize, size_of_val(&how)];
            reached("openat2", call(libc::SYS_openat2, &arguments))
        })
        .unless(libc::ENOSYS, "openat2(2) came with Linux 5.6"),
    ]
}

fn decoys_system_path() -> &'static CStr {
    c"/usr/bin/stockade-setuid-probe"
}

/// Through if the file can be read and holds `text`.
fn holds(path: impl AsRef<Path>, text: &str) -> Verdict {
    let path = path.as_ref();
    match fs::read(path) {
        Ok(content) => {
            let content = String::from_utf8_lossy(&content).into_owned();
            Verdict::when(content.contains(text), format!("{} was read", path.display()))
        }
        Err(error) => failed(&path.display().to_string(), &error),
    }
}

fn created(path: &str) -> Verdict {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    if made.is_ok() {
        let _ = fs::remove_file(path);
    }
    done(path, made)
}

fn immutable() -> Verdict {
    let file = match fs::File::create("immutable") {
        Ok(file) => file,
        Err(error) => return failed("immutable", &error),
    };
    let set = |flags: i32| {
        call(libc::SYS_ioctl, &[file.as_raw_fd() as usize, FS_IOC_SETFLAGS, &raw const flags as usize])
    };
    let verdict = succeeded("FS_IOC_SETFLAGS", set(FS_IMMUTABLE));
    let _ = set(0);
    let _ = fs::remove_file("immutable");
    verdict
}
