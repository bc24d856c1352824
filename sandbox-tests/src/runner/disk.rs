//! Where the belt's workspaces lie: on a filesystem of its own that can be idmapped, in memory.
//!
//! That is a tmpfs, or before Linux 6.3, which cannot idmap one, an ext4 in a file of the belt's tmpfs. Not a directory of
//! the machine's disk: whoever holds one open reaches every other by its handle (open_by_handle_at(2)).

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use crate::kernel::{call, describe, own, text};

/// What the largest workspace holds many times over; only what is written takes memory.
const SIZE: u64 = 256 << 20;
const SYS_MOUNT_SETATTR: i64 = 442;
/// `MOUNT_ATTR_IDMAP` of mount_setattr(2).
const IDMAP: u64 = 0x0010_0000;

/// Turns the tmpfs mounted at `place` into one that can be idmapped: `image` is where its ext4 would lie.
pub fn make_idmappable(place: &str, image: &str) -> Result<(), String> {
    let namespace = user_namespace().map_err(|error| format!("no user namespace: {error}"))?;
    match idmap(place, &namespace) {
        Ok(()) => return Ok(()),
        Err(libc::EINVAL) => (),
        Err(errno) => return Err(format!("idmapping {place}: {}", describe(errno))),
    }
    File::create(image).and_then(|file| file.set_len(SIZE)).map_err(|error| format!("{image}: {error}"))?;
    // Neither a journal nor inodes for more than a handful of workspaces: both would be written to memory.
    run("/sbin/mke2fs", &["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-N", "8192", image])?;
    // The loop device goes with its last mount.
    run("/bin/mount", &["-t", "ext4", "-o", "loop,discard", image, place])?;
    fs::remove_dir(format!("{place}/lost+found")).map_err(|error| format!("{place}/lost+found: {error}"))?;
    idmap(place, &namespace).map_err(|errno| format!("idmapping an ext4 on {place}: {}", describe(errno)))
}

/// A user namespace to map ids by; nobody is left in it.
fn user_namespace() -> std::io::Result<File> {
    let mut child = Command::new("/usr/bin/unshare")
        .args(["--user", "--map-root-user", "/bin/sh", "-c", "echo; read _"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut String::new())?;
    let namespace = File::open(format!("/proc/{}/ns/user", child.id()));
    drop(child.stdin.take());
    child.wait()?;
    namespace
}

/// Whether a mount of what is at `place` can be idmapped; the mount is gone again at once.
fn idmap(place: &str, namespace: &File) -> Result<(), i32> {
    let place = text(place);
    let flags = (libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC) as usize;
    let tree: OwnedFd =
        call(libc::SYS_open_tree, &[libc::AT_FDCWD as usize, place.as_ptr() as usize, flags]).map(own)?;
    let attributes = [IDMAP, 0, 0, namespace.as_raw_fd() as u64];
    let (here, size) = (c"".as_ptr() as usize, size_of_val(&attributes));
    let arguments =
        [tree.as_raw_fd() as usize, here, libc::AT_EMPTY_PATH as usize, attributes.as_ptr() as usize, size];
    call(SYS_MOUNT_SETATTR, &arguments).map(drop)
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program} {arguments:?}: {} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
