//! The disks behind the host directories that an agent may write: where `limits.io` has to hold.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::cgroup::Device;
use crate::plan::{Bind, Mount, Source};

/// Whole disks, and whether they are all there is.
#[derive(Debug, Default)]
pub struct Disks {
    /// Each once.
    pub found: Vec<Device>,
    /// Whether something that the agent may write is on no single disk (overlay, btrfs, network): no limit holds there.
    pub incomplete: bool,
}

/// A directory whose disk cannot be found out.
#[derive(Debug, thiserror::Error)]
#[error("cannot find the disk behind {}, for limits.io: {source}", path.display())]
pub struct DiskError {
    path: PathBuf,
    source: io::Error,
}

impl Disks {
    /// Looks behind every writable mount that comes from the host.
    ///
    /// # Errors
    /// When the directory or sysfs cannot be read.
    pub fn behind(mounts: &[Mount]) -> Result<Self, DiskError> {
        let mut found = BTreeSet::new();
        let mut incomplete = false;
        for mount in mounts {
            let Mount::Bind(Bind { source: Source::Path { path }, writable: true, .. }) = mount else {
                continue;
            };
            let disk = File::open(path).and_then(Device::behind);
            match disk.map_err(|source| DiskError { path: path.clone(), source })? {
                Some(disk) => {
                    found.insert(disk);
                }
                None => incomplete = true,
            }
        }
        Ok(Self { found: found.into_iter().collect(), incomplete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &str, writable: bool) -> Mount {
        let source = Source::Path { path: path.into() };
        Mount::Bind(Bind { source, target: path.into(), writable, exec: true, owner: None })
    }

    #[test]
    fn a_writable_directory_without_a_disk_is_noticed_and_a_read_only_one_does_not_matter() {
        let source = env!("CARGO_MANIFEST_DIR");
        let disks =
            Disks::behind(&[bind("/proc", false), bind(source, true), bind("/", false)]).expect("both exist");
        assert!(!disks.incomplete);

        let disks = Disks::behind(&[bind(source, true), bind("/proc", true)]).expect("both exist");
        assert!(disks.incomplete, "/proc is on no disk");
    }

    #[test]
    fn a_disk_is_listed_once() {
        let source = env!("CARGO_MANIFEST_DIR");
        let disks = Disks::behind(&[bind(source, true), bind(source, true)]).expect("it exists");
        assert!(disks.found.len() <= 1, "{disks:?}");
        assert_eq!(
            disks.found.is_empty(),
            disks.incomplete,
            "run this where the source is on a disk, or is not"
        );
    }
}
