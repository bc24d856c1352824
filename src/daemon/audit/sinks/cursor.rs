//! How far a sink has got, on disk.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// One sink's.
pub(super) struct Cursor {
    path: PathBuf,
    at: u64,
}

impl Cursor {
    /// Where it was; a sink that is new begins with the log.
    pub(super) fn open(directory: &Path, name: &str) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(name);
        let at = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { path, at })
    }

    /// The last record that has arrived.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// It has got this far. A power cut may set it back: then what it has is sent again.
    pub(super) fn advance(&mut self, to: u64) -> io::Result<()> {
        if to == self.at {
            return Ok(());
        }
        // No name of a sink ends like that.
        let beside = self.path.with_extension("new~");
        fs::write(&beside, format!("{to}\n"))?;
        fs::rename(beside, &self.path)?;
        self.at = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_goes_on_where_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Cursor::open(&directory.path().join("sinks"), "siem").expect("opened");
        assert_eq!(open().at(), 0);
        open().advance(7).expect("kept");
        assert_eq!(open().at(), 7);
        open().advance(3).expect("kept");
        assert_eq!(open().at(), 3);
    }
}
