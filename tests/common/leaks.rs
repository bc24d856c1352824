//! What is there: processes, namespaces, mounts, cgroups and files, to be the same before a run and after it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long remains may take to vanish on a busy machine. Nobody waits longer than they do.
const SOON: Duration = Duration::from_secs(30);

/// Everything that a sandbox is made of, as lines to be compared.
#[derive(Debug, Clone)]
pub struct Census {
    places: Vec<PathBuf>,
    found: BTreeSet<String>,
}

impl Census {
    /// Counts this machine, and the files below `places`.
    pub fn take(places: &[&Path]) -> Self {
        let places: Vec<PathBuf> = places.iter().map(|place| place.to_path_buf()).collect();
        let found = count(&places);
        Self { places, found }
    }

    /// Waits until there is nothing that was not counted, and nothing counted is missing.
    pub fn assert_restored(&self, after: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let now = count(&self.places);
            if now == self.found {
                return;
            }
            if Instant::now() > deadline {
                let left: Vec<_> = now.difference(&self.found).collect();
                let gone: Vec<_> = self.found.difference(&now).collect();
                panic!("after {after}\nleft behind: {left:#?}\ngone: {gone:#?}");
            }
            pause();
        }
    }
}

/// Waits for `claim` to become true.
pub fn eventually(what: &str, mut claim: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !claim() {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        pause();
    }
}

/// Between two looks at something that nobody tells of.
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

fn count(places: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pid in pids() {
        // A process that ends meanwhile has no name any more, and does not count.
        if let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) {
            found.insert(format!("process {pid} {}", name.trim()));
        }
        for namespace in fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten() {
            if let Ok(target) = fs::read_link(namespace.path()) {
                found.insert(format!("namespace {}", target.display()));
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    found.extend(mounts.lines().map(|line| format!("mount {line}")));
    for hierarchy in hierarchies(&mounts) {
        walk(&hierarchy, &mut |path, is_directory, _| {
            if is_directory {
                found.insert(format!("cgroup {}", path.display()));
            }
        });
    }
    // The checkout, and what other tests do in it, may itself lie below /tmp.
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = ["/run", "/tmp", "/dev/shm"].map(Path::new);
    for place in shared.into_iter().chain(places.iter().map(PathBuf::as_path)) {
        walk(place, &mut |path, _, inode| {
            if !(shared.contains(&place) && path.starts_with(checkout)) {
                found.insert(format!("file {} {inode}", path.display()));
            }
        });
    }
    found
}

/// All processes of this machine.
pub fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Shows each cgroup of this machine, with its inode.
pub fn groups(see: &mut impl FnMut(&Path, u64)) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    for hierarchy in hierarchies(&mounts) {
        walk(&hierarchy, &mut |path, is_directory, inode| {
            if is_directory {
                see(path, inode);
            }
        });
    }
}

fn hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let of = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem.starts_with("cgroup").then(|| PathBuf::from(mount.split(' ').nth(4).expect("mount point")))
    };
    mountinfo.lines().filter_map(of).collect()
}

fn walk(directory: &Path, see: &mut impl FnMut(&Path, bool, u64)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        see(&entry.path(), is_directory, entry.ino());
        if is_directory {
            walk(&entry.path(), see);
        }
    }
}
