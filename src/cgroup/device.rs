//! The disk behind a file: the kernel limits I/O per whole disk, by its number.

use std::os::fd::AsFd;
use std::{fmt, fs, io};

use serde::Serialize;

/// A whole disk, as the `io` controller knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Device {
    /// Names the driver.
    pub major: u32,
    /// Names the disk.
    pub minor: u32,
}

impl Device {
    /// The disk that holds an open file or directory; `None`: its filesystem is not on one disk (tmpfs, overlay,
    /// btrfs, network), so that its I/O cannot be limited here.
    ///
    /// # Errors
    /// When the file or sysfs cannot be read.
    pub fn behind(file: impl AsFd) -> io::Result<Option<Self>> {
        let device = rustix::fs::fstat(file)?.st_dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        // Major 0: a number that was made up for a filesystem without a device.
        if major == 0 { Ok(None) } else { Self { major, minor }.whole().map(Some) }
    }

    /// The disk of a partition: the kernel answers ENODEV to a limit on a partition.
    fn whole(self) -> io::Result<Self> {
        let own = format!("/sys/dev/block/{self}");
        if !fs::exists(format!("{own}/partition"))? {
            return Ok(self);
        }
        // The entry is a link to …/block/sda/sda1: its parent is the disk.
        let number = fs::read_to_string(format!("{own}/../dev"))?;
        let parsed = number
            .trim()
            .split_once(':')
            .and_then(|(major, minor)| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }));
        parsed.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_backed_file_is_on_no_disk() {
        let proc = fs::File::open("/proc").expect("/proc is mounted");
        assert_eq!(Device::behind(&proc).expect("/proc can be looked at"), None);
    }
}
