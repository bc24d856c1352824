//! Set-id bits and file capabilities: used inside, or left behind in the workspace for the host.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::attempt::{Attempt, Class, Verdict};
use crate::decoys;
use crate::kernel::{call, describe, failed, own, succeeded};

const AT_CWD: usize = libc::AT_FDCWD as usize;
const SETUID_MODE: usize = 0o4755;
const SYS_FCHMODAT2: i64 = 452;
const WRITE_CREATE: usize = (libc::O_WRONLY | libc::O_CREAT) as usize;

/// Attempts on set-id bits.
pub fn attempts() -> Vec<Attempt> {
    let left = |id: &str, success: &str, deed: fn(usize) -> Result<i64, i32>| {
        Attempt::new(id, Class::SetId, "a root shell for the host's other users", success, move |_| {
            leave(deed)
        })
        .mutating()
    };
    let mut all = vec![
        left("setuid_chmod", "chmod sets the bit", |file| {
            create(file)?;
            call(libc::SYS_chmod, &[file, SETUID_MODE])
        }),
        left("setgid_chmod", "chmod sets the group's bit", |file| {
            create(file)?;
            call(libc::SYS_chmod, &[file, 0o2755])
        }),
        left("setuid_chmod_high_bits", "chmod with high bits sets the bit", |file| {
            create(file)?;
            call(libc::SYS_chmod, &[file, (1 << 32) | SETUID_MODE])
        }),
        left("setuid_fchmod", "fchmod sets the bit", |file| {
            let opened = call(libc::SYS_openat, &[AT_CWD, file, WRITE_CREATE, 0o644]).map(own)?;
            call(libc::SYS_fchmod, &[opened.as_raw_fd() as usize, SETUID_MODE])
        }),
        left("setuid_fchmodat", "fchmodat sets the bit", |file| {
            create(file)?;
            call(libc::SYS_fchmodat, &[AT_CWD, file, SETUID_MODE])
        }),
        left("setuid_fchmodat2", "fchmodat2 sets the bit", |file| {
            create(file)?;
            call(SYS_FCHMODAT2, &[AT_CWD, file, SETUID_MODE, 0])
        })
        .unless(libc::ENOSYS, "fchmodat2(2) came with Linux 6.6"),
        left("setuid_creat", "creat makes a file with the bit", |file| {
            call(libc::SYS_creat, &[file, SETUID_MODE])
        }),
        left("setuid_open", "open makes a file with the bit", |file| {
            call(libc::SYS_open, &[file, WRITE_CREATE, SETUID_MODE])
        }),
        left("setuid_openat", "openat makes a file with the bit", |file| {
            call(libc::SYS_openat, &[AT_CWD, file, WRITE_CREATE, SETUID_MODE])
        }),
        left("setuid_openat2", "openat2 makes a file with the bit", |file| {
            let how = [WRITE_CREATE as u64, SETUID_MODE as u64, 0];
            call(libc::SYS_openat2, &[AT_CWD, file, how.as_ptr() as usize, size_of_val(&how)])
        }),
        left("setuid_mknod", "mknod makes a file with the bit", |file| {
            call(libc::SYS_mknod, &[file, libc::S_IFREG as usize | SETUID_MODE, 0])
        }),
        left("setuid_mknodat", "mknodat makes a file with the bit", |file| {
            call(libc::SYS_mknodat, &[AT_CWD, file, libc::S_IFREG as usize | SETUID_MODE, 0])
        }),
        left("setgid_mkdir", "a directory hands its group on", |file| {
            call(libc::SYS_mkdir, &[file, 0o755])?;
            call(libc::SYS_chmod, &[file, 0o2755])
        }),
    ];
    all.extend([
        Attempt::new(
            "file_capabilities",
            Class::SetId,
            "capabilities(7)",
            "a file gets capabilities",
            |_| file_capabilities(),
        )
        .mutating(),
        Attempt::new(
            "setuid_use_workspace",
            Class::SetId,
            "nosuid",
            "a set-uid program of the workspace changes the uid",
            |_| use_setuid(&format!("./{}", decoys::SETUID_PROBE)),
        ),
        Attempt::new(
            "setuid_use_system",
            Class::SetId,
            "nosuid",
            "a set-uid program of the system changes the uid",
            |_| use_setuid(decoys::SETUID_SYSTEM),
        ),
    ]);
    all
}

fn create(file: usize) -> Result<(), i32> {
    call(libc::SYS_openat, &[AT_CWD, file, WRITE_CREATE, 0o644]).map(|file| drop(own(file)))
}

/// Through if `deed` leaves something in the workspace that carries a set-id bit.
fn leave(deed: fn(usize) -> Result<i64, i32>) -> Verdict {
    let name = "left-behind";
    // SAFETY: umask(2) always succeeds.
    unsafe { libc::umask(0) };
    let result = deed(c"left-behind".as_ptr() as usize);
    let mode = fs::symlink_metadata(name).map(|left| left.mode()).unwrap_or(0);
    let _ = if Path::new(name).is_dir() { fs::remove_dir(name) } else { fs::remove_file(name) };
    match result {
        _ if mode & 0o6000 != 0 => Verdict::through(format!("mode {mode:o}")),
        Err(errno) => Verdict::refused(errno, describe(errno)),
        Ok(_) => Verdict::absent(format!("the call succeeded, the bit is not there: mode {mode:o}")),
    }
}

fn file_capabilities() -> Verdict {
    let name = "with-capabilities";
    if let Err(error) = fs::write(name, "") {
        return failed(name, &error);
    }
    // Version 2, effective, every capability (linux/capability.h, vfs_cap_data).
    let value: [u32; 5] = [0x0200_0001, u32::MAX, 0, 0xff, 0];
    let arguments = [
        c"with-capabilities".as_ptr() as usize,
        c"security.capability".as_ptr() as usize,
        value.as_ptr() as usize,
        size_of_val(&value),
        0,
    ];
    let verdict = succeeded("setxattr", call(libc::SYS_setxattr, &arguments));
    let _ = fs::remove_file(name);
    verdict
}

/// Becomes nobody where that is possible, then runs a set-uid copy of this program and looks at who it is.
fn use_setuid(program: &str) -> Verdict {
    const NOBODY: u32 = 65_534;
    // SAFETY: ends with this process; failure is fine, for then we are somebody without rights already.
    let uid = unsafe {
        libc::setresuid(NOBODY, NOBODY, NOBODY);
        libc::geteuid()
    };
    let mode = fs::metadata(program).map(|file| file.permissions().mode()).unwrap_or(0);
    match Command::new(program).arg("euid").output() {
        Ok(output) => {
            let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            match answer.parse::<u32>() {
                Ok(euid) => Verdict::when(euid != uid, format!("uid {uid} became {euid}, mode {mode:o}")),
                Err(_) => Verdict::Broken(format!("{program} answered {answer:?}")),
            }
        }
        Err(error) => failed(program, &error),
    }
}
