//! What a run leaves behind: a picture before, a picture after, and no difference.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Namespaces and cgroups are taken apart by kernel workers after the last process is gone; there is nothing to wait on.
const TEARDOWN: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// Groups above this depth are the machine's own.
const CGROUP_DEPTH: u32 = 6;

/// Everything of which a sandbox makes some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picture {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    runtime: BTreeSet<String>,
    temporary: BTreeSet<String>,
}

impl Picture {
    /// Looks.
    pub fn take() -> Self {
        let mut picture = Self::default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid.bytes().all(|digit| digit.is_ascii_digit()) {
                picture.add_process(&pid);
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        picture.mounts = mounts.lines().map(str::to_owned).collect();
        find_cgroups(Path::new("/sys/fs/cgroup"), CGROUP_DEPTH, &mut picture.cgroups);
        picture.runtime = names("/run").into_iter().chain(names("/run/stockade")).collect();
        picture.temporary = names("/tmp").into_iter().chain(names("/dev/shm")).collect();
        picture
    }

    fn add_process(&mut self, pid: &str) {
        let Ok(command) = fs::read_to_string(format!("/proc/{pid}/comm")) else { return };
        self.processes.insert(format!("{pid} {}", command.trim()));
        for namespace in fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten() {
            if let Ok(target) = fs::read_link(namespace.path()) {
                self.namespaces.insert(target.to_string_lossy().into_owned());
            }
        }
    }

    /// What `self` has that `before` had not, or the other way round.
    fn difference(&self, before: &Self) -> Vec<String> {
        let parts = [
            ("process", &self.processes, &before.processes),
            ("mount", &self.mounts, &before.mounts),
            ("namespace", &self.namespaces, &before.namespaces),
            ("runtime file", &self.runtime, &before.runtime),
            ("temporary file", &self.temporary, &before.temporary),
        ];
        let changed = parts.iter().flat_map(|(what, now, then)| {
            let left = now.difference(then).map(move |name| format!("left behind: {what} {name}"));
            left.chain(then.difference(now).map(move |name| format!("gone: {what} {name}")))
        });
        // Groups are the machine's, and others make some too; only what appeared can be ours.
        let groups =
            self.cgroups.difference(&before.cgroups).map(|name| format!("left behind: cgroup {name}"));
        changed.chain(groups).collect()
    }
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().to_string_lossy().into_owned()).collect()
}

fn find_cgroups(directory: &Path, depth: u32, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if path.to_string_lossy().contains("stockade") {
            found.insert(path.to_string_lossy().into_owned());
        }
        if depth > 0 {
            find_cgroups(&path, depth - 1, found);
        }
    }
}

/// Runs `deed` and gives back what it returned.
///
/// # Panics
/// If it left something behind.
pub fn none_after<T>(deed: impl FnOnce() -> T) -> T {
    let before = Picture::take();
    let result = deed();
    let deadline = Instant::now() + TEARDOWN;
    loop {
        let difference = Picture::take().difference(&before);
        if difference.is_empty() {
            return result;
        }
        assert!(Instant::now() < deadline, "{}", difference.join("\n"));
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_left_in_tmp_is_a_leak() {
        let name = format!("/tmp/stockade-leak-test-{}", std::process::id());
        let before = Picture::take();
        fs::write(&name, "").expect("/tmp is writable");
        let after = Picture::take();
        fs::remove_file(&name).expect("just made");
        assert!(after.difference(&before).iter().any(|line| line.contains(&name)));
    }
}
