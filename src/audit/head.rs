//! How far the log reaches: a seal beside the segments, renewed after every batch. What is missing at the end shows by it.
//!
//! Two slots of one sector each, written in turn: whichever write a power cut tears, the other slot is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::seal::Seal;

const SLOT: usize = 512;

/// The head, open and locked: one service writes a log.
pub struct Head {
    file: File,
    next: u64,
}

impl Head {
    /// Opens it, makes it if need be.
    ///
    /// # Errors
    /// When it cannot be made, or another process holds it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => io::Error::other("another process writes this log"),
            errno => errno.into(),
        })?;
        Ok(Self { file, next: 0 })
    }

    /// Renews it. It may take a while until it survives a power cut: an older head than the log is no harm.
    ///
    /// # Errors
    /// As pwrite(2).
    pub fn renew(&mut self, seal: &Seal) -> io::Result<()> {
        let mut slot = serde_json::to_vec(seal).expect("a seal is always JSON");
        slot.resize(SLOT - 1, b' ');
        slot.push(b'\n');
        self.file.write_all_at(&slot, self.next * SLOT as u64)?;
        self.next ^= 1;
        Ok(())
    }

    /// Makes it survive a power cut.
    ///
    /// # Errors
    /// As fdatasync(2).
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether this is still the file there.
    pub fn is_at(&self, path: &Path) -> bool {
        is_at(&self.file, path)
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        // Whoever was forked meanwhile has a copy of the descriptor until it executes something: closing ours gives nothing back.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Whether this open file is still the one that is there.
pub fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// The newest whole seal in a head that `counts` accepts.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path, counts: impl Fn(&Seal) -> bool) -> io::Result<Option<Seal>> {
    Ok(read_all(path)?.into_iter().filter(counts).max_by_key(|seal| seal.seq))
}

/// Whatever whole seals are in a head.
///
/// # Errors
/// When it cannot be read.
pub fn read_all(path: &Path) -> io::Result<Vec<Seal>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(2 * SLOT as u64).read_to_end(&mut bytes)?;
    Ok(bytes.chunks(SLOT).filter_map(|slot| serde_json::from_slice(slot).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_closed_can_be_opened_though_a_child_has_a_copy_of_its_descriptor() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("head");
        let head = Head::open(&path).expect("opened");
        let _copy = head.file.try_clone().expect("a copy, as fork(2) makes one");
        assert!(Head::open(&path).is_err(), "one service writes a log");
        drop(head);
        Head::open(&path).expect("it was given back");
    }
}
