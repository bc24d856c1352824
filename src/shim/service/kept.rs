//! What is kept of an agent in its directory, and where its shim is to be found.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};

use super::estate::Estate;
use crate::wire::service::{Ended, Places, places};

/// So much of the disk is kept free for how an agent ends. A report that is longer may be left out.
const RESERVED: u64 = 16 * 1024;

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
    /// Where its counters are; a shim of an earlier version does not say.
    #[serde(default)]
    pub estate: Option<Estate>,
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

/// The file where its bytes over the network are counted.
pub fn tally(places: &Places, id: &str) -> PathBuf {
    places.shims().join(format!("{id}.egress"))
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
    let new = beside(path);
    let written = blank(&new, mode).and_then(|file| place(file, &new, path, text, durable));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// The name that a file has until all of it is written. No name of an agent begins like that: what is half written is no
/// other's.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// The file of that name. One that is there, because it was made in advance or somebody was killed, is as good as another.
fn blank(new: &Path, mode: u32) -> io::Result<File> {
    match options(mode).open(new) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        _ => {
            let _ = fs::remove_file(new);
            options(mode).create_new(true).open(new)
        }
    }
}

fn options(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(mode).custom_flags(libc::O_NOFOLLOW);
    options
}

fn place(mut file: File, new: &Path, path: &Path, text: &[u8], durable: bool) -> io::Result<()> {
    file.write_all(text)?;
    file.set_len(text.len() as u64)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(new, path)?;
    if durable && let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Takes the room that it needs to say how an agent ended, before there is an agent: disks fill up meanwhile.
///
/// # Errors
/// When there is none.
pub fn reserve_exit(directory: &Path) -> io::Result<()> {
    let new = beside(&directory.join(places::EXIT));
    let _ = fs::remove_file(&new);
    let file = options(0o640).create_new(true).open(&new)?;
    match fallocate(&file, FallocateFlags::empty(), 0, RESERVED) {
        // A filesystem that promises nothing.
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        reserved => Ok(reserved?),
    }
}

/// Says how an agent ended, in the room that was reserved for it.
///
/// # Errors
/// As [`put`].
pub fn put_exit(directory: &Path, ended: &Ended) -> io::Result<()> {
    let path = directory.join(places::EXIT);
    let new = beside(&path);
    let put = |ended: &Ended| {
        let mut text = serde_json::to_vec(ended)?;
        text.push(b'\n');
        place(options(0o640).create(true).truncate(false).open(&new)?, &new, &path, &text, true)
    };
    match put(ended) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            let report = serde_json::json!({ "error": "the disk was full, and the report too long" });
            put(&Ended { report, ..ended.clone() })
        }
        put => put,
    }
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
        std::os::unix::fs::symlink("/nonexistent/x", directory.path().join(".exit.json.new"))
            .expect("linked");
        put(&path, &2, 0o640, true).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "2\n");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_file_that_was_made_in_advance_becomes_the_document_and_nothing_of_it_stays() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.json");
        fs::write(beside(&path), "longer than what comes, of a process that was killed").expect("written");
        let inode = fs::metadata(beside(&path)).expect("there").ino();
        put(&path, &1, 0o640, false).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "1\n");
        assert_eq!(fs::metadata(&path).expect("there").ino(), inode);
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_disk_that_is_full_by_then_has_room_for_how_an_agent_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_path_buf();
        // In a mount namespace of this thread's own, so that nothing of it is left.
        let thread = std::thread::spawn(move || {
            use nix::mount::{MsFlags, mount};
            let flags = nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS;
            nix::sched::unshare(flags).expect("a mount namespace: these tests run as root");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=256k")).expect("mounted");
            let fill = || {
                let mut file = options(0o600).create(true).open(path.join("filler")).expect("opened");
                while file.write_all(&[0; 4096]).is_ok() {}
            };
            for (report, kept) in [("short".to_owned(), true), ("long".repeat(16 * 1024), false)] {
                let _ = fs::remove_file(path.join("filler"));
                reserve_exit(&path).expect("there is room yet");
                fill();
                let golden = include_bytes!("../../wire/service/golden/1/ended.json");
                let ended: Ended = serde_json::from_slice(golden).expect("one");
                let ended = Ended { report: report.into(), ..ended };
                put_exit(&path, &ended).expect("written");
                let text = fs::read(path.join(places::EXIT)).expect("read");
                let found: Ended = serde_json::from_slice(&text).expect("whole");
                assert_eq!((found.code, found.report == ended.report), (ended.code, kept));
            }
            fill();
            reserve_exit(&path).expect_err("the next is not even started");
        });
        thread.join().expect("it holds");
    }
}
