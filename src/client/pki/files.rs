//! The CA's files: made once, never overwritten; the CRL is replaced at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::{PkiError, Result};

/// For keys.
pub const SECRET: u32 = 0o600;
/// For what everybody may read.
pub const PUBLIC: u32 = 0o644;

/// Makes a directory, and those above it, unless it is there.
pub fn make_directory(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.map_err(|source| PkiError::File { what: "create", path: dir.into(), source })
}

/// The whole of a file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| PkiError::File { what: "read", path: path.into(), source })
}

/// Makes a file that was not there.
pub fn create(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists { path: path.into() },
        _ => PkiError::File { what: "write", path: path.into(), source },
    })
}

/// Replaces a file by another one: whoever reads it sees the old one or the new one.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let draft = path.with_extension("new");
    let replaced = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all());
    replaced.map_err(|source| PkiError::File { what: "replace", path: path.into(), source })
}
