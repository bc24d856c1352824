//! The host's cgroup mounts, and whether any mount has come or gone since they were read.

use std::fs::File;
use std::io::{self, Read};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::CgroupError;
use super::mountinfo::{self, Mounted};

const PATH: &str = "/proc/self/mountinfo";

/// The cgroup mounts of this process's mount namespace, in the order in which one should try them.
#[derive(Debug)]
pub struct Mounts {
    /// From before they were read, so that a change meanwhile is one since.
    file: File,
    found: Vec<Mounted>,
}

impl Mounts {
    /// Reads them.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn read() -> Result<Self, CgroupError> {
        read().map_err(|source| CgroupError::Mounts { path: PATH, source })
    }

    /// Whether the same would be read now: the kernel says when the namespace has changed (proc_pid_mountinfo(5)). Once it was
    /// said, it is not said again.
    pub fn are_current(&self) -> bool {
        let mut change = [PollFd::new(&self.file, PollFlags::PRI)];
        matches!(poll(&mut change, Some(&Timespec::default())), Ok(0))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Mounted> {
        self.found.iter()
    }
}

/// In few reads: the kernel starts the list anew when a mount comes or goes between two of them.
fn read() -> io::Result<Mounts> {
    let mut file = File::open(PATH)?;
    let mut text = Vec::with_capacity(64 << 10);
    file.read_to_end(&mut text)?;
    Ok(Mounts { file, found: mountinfo::parse(&text) })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_known_of_the_mounts_holds_until_one_comes_or_goes() {
        let inner = "cgroup::mounts::tests::inner_mounts_come_and_go";
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .arg(std::env::current_exe().expect("/proc is mounted"))
            .args(["--exact", "--ignored", inner])
            .output()
            .expect("unshare(1) is there");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
    }

    #[test]
    #[ignore = "run by what_is_known_of_the_mounts_holds_until_one_comes_or_goes"]
    fn inner_mounts_come_and_go() {
        let change = |program: &str, arguments: &[&str]| {
            let status = Command::new(program).args(arguments).status().expect("mount(8)");
            assert!(status.success(), "{program} {arguments:?}");
        };
        let known = Mounts::read().expect("readable");
        assert!(known.are_current(), "nothing has happened");
        assert!(known.are_current(), "to ask changes nothing");
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().to_str().expect("UTF-8");
        change("mount", &["-t", "tmpfs", "stockade-test", place]);
        assert!(!known.are_current(), "a mount has come");
        let known = Mounts::read().expect("readable");
        change("umount", &[place]);
        assert!(!known.are_current(), "a mount has gone");
    }
}
