//! What is kept of an agent in its directory, and where its shim is to be found.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::wire::service::{Ended, Places};

/// Where a shim is, and what has to be ended with it: beside its socket, for root alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Whereabouts {
    /// Which boot.
    pub boot: String,
    /// The shim.
    pub shim: Process,
    /// Its keeper.
    pub keeper: Process,
    /// Its range of uids, by which the cgroups are named.
    pub range: u32,
}

/// Exactly one process, in one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// May be another's by now.
    pub pid: u32,
    /// In ticks since the boot (the 22nd field of /proc/PID/stat): of two with one pid only one has it.
    pub started: u64,
}

impl Process {
    /// The one that has this pid now; one that has ended and was not reaped yet is none.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name, in parentheses, and may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Whether it has not ended.
    pub fn is_there(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// The file of a shim's whereabouts.
pub fn whereabouts(places: &Places, id: &str) -> PathBuf {
    places.shims().join(format!("{id}.json"))
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Which boot this is.
///
/// # Errors
/// When /proc does not say.
pub fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Puts a document in its place at once: whoever reads it finds all of it, or what was there before.
///
/// # Errors
/// As write(2) and rename(2).
pub fn put(path: &Path, document: &impl Serialize, mode: u32, durable: bool) -> io::Result<()> {
    let mut text = serde_json::to_vec(document)?;
    text.push(b'\n');
    put_bytes(path, &text, mode, durable)
}

/// The same for what is text already.
///
/// # Errors
/// As [`put`].
pub fn put_bytes(path: &Path, text: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(mode).custom_flags(libc::O_NOFOLLOW).open(&new)?;
    file.write_all(text)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&new, path)?;
    if durable && let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Says how an agent ended.
///
/// # Errors
/// As [`put`].
pub fn put_exit(directory: &Path, ended: &Ended) -> io::Result<()> {
    put(&directory.join(crate::wire::service::places::EXIT), ended, 0o640, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_started() {
        let own = Process::of(std::process::id()).expect("this one");
        assert!(own.is_there());
        assert!(!Process { started: own.started + 1, ..own }.is_there());
        assert_eq!(Process::of(u32::MAX), None);
    }

    #[test]
    fn a_document_replaces_the_one_before_and_follows_no_link() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("exit.json");
        put(&path, &1, 0o640, false).expect("written");
        std::os::unix::fs::symlink("/nonexistent/x", directory.path().join("exit.json.new")).expect("linked");
        put(&path, &2, 0o640, true).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "2\n");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    }
}
