//! What the daemon itself remembers: one record per agent, a key, counters. No variable and no secret of a request is in
//! it; the text of a message is, until the agent has answered it.
//!
//! ```text
//!  var/lib/stockade/daemon/      0700
//!    key                         0600, 32 random bytes: digests of requests cannot be guessed without it
//!    events                      the first event number that no daemon has taken yet
//!    agents/<id>.json            one record
//!    agents/7~                   empty: the next record
//!    messages/<id>.json          what became of its latest messages
//!    screens/<id>                up to where the agent's queries are settled
//! ```
//! A file is replaced as a whole: written beside, renamed over, synced.

mod files;
mod record;
mod sync;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

pub(crate) use record::{Record, Verdict};

/// Length of the key, in bytes.
const KEY: usize = 32;

/// The daemon's own directory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    directory: PathBuf,
    key: Arc<[u8; KEY]>,
    records: files::Files,
    later: sync::Later,
    /// The directory is one daemon's at a time.
    _lock: Arc<Lock>,
}

impl Store {
    /// Opens the directory, and makes what is missing.
    pub(crate) fn open(directory: PathBuf) -> io::Result<Self> {
        let below = ["agents", "messages", "screens"].map(|name| directory.join(name));
        for made in std::iter::once(&directory).chain(&below) {
            DirBuilder::new().recursive(true).mode(0o700).create(made)?;
        }
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        let lock = Arc::new(Lock::of(&directory)?);
        let key = Arc::new(key(&directory)?);
        let records = files::Files::of(directory.join("agents"))?;
        let prepare = {
            let records = records.clone();
            move || records.prepare()
        };
        Ok(Self { directory, key, records, later: sync::Later::then(prepare), _lock: lock })
    }

    /// Syncs what was put and is not on disk yet. Blocks.
    pub(crate) fn flush(&self) {
        self.later.flush();
    }

    /// HMAC-SHA256 (RFC 2104) under the node's key, in hexadecimal.
    pub(crate) fn digest(&self, text: &[u8]) -> String {
        let pad = |with: u8| {
            let mut block = [with; 64];
            block.iter_mut().zip(self.key.iter()).for_each(|(byte, key)| *byte ^= key);
            block
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
        let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        outer.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Keeps a record: it outlives this process at once, and a power cut a little later. Nobody waits for the disk: what
    /// a power cut takes away it takes from the agents, too, and a record that is not whole is none.
    pub(crate) fn put(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record).expect("a record is always JSON");
        let path = self.record(&record.id);
        self.records.put(&path, &text)?;
        self.later.sync(path);
        Ok(())
    }

    /// The record of one agent.
    pub(crate) fn get(&self, id: &str) -> io::Result<Option<Record>> {
        match fs::read(self.record(id)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The ids of all that have a record.
    pub(crate) fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.directory.join("agents"))? {
            let name = entry?.file_name();
            ids.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
        }
        Ok(ids)
    }

    /// Forgets an agent.
    pub(crate) fn forget(&self, id: &str) -> io::Result<()> {
        for path in [self.record(id), self.screen(id), self.messages(id)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where one agent's terminal keeps up to where its queries are settled.
    pub(crate) fn screen(&self, id: &str) -> PathBuf {
        self.directory.join("screens").join(id)
    }

    /// Where it is kept what became of an agent's messages.
    pub(crate) fn messages(&self, id: &str) -> PathBuf {
        self.directory.join("messages").join(format!("{id}.json"))
    }

    /// Takes the next `count` event numbers: the first of them. A number is never taken twice.
    pub(crate) fn take_event_numbers(&self, count: u64) -> io::Result<u64> {
        let path = self.directory.join("events");
        let first = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error),
        };
        replace(&path, (first + count).to_string().as_bytes())?;
        Ok(first)
    }

    fn record(&self, id: &str) -> PathBuf {
        self.directory.join("agents").join(format!("{id}.json"))
    }
}

/// Of a directory, until it is dropped (flock(2)).
struct Lock(File);

impl Lock {
    fn of(directory: &Path) -> io::Result<Self> {
        let file = File::open(directory)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(io::Error::other("another stockaded works with it: stop that one first"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever was forked meanwhile has a copy of the descriptor until it executes something: closing ours gives nothing back.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn key(directory: &Path) -> io::Result<[u8; KEY]> {
    let path = directory.join("key");
    if !path.exists() {
        let mut key = [0; KEY];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        replace(&path, &key)?;
    }
    let bytes = fs::read(&path)?;
    bytes.try_into().map_err(|_| {
        io::Error::other(format!(
            "{} is not a key of {KEY} bytes: remove it, and a new one is made",
            path.display()
        ))
    })
}

/// Replaces a file as a whole: after a crash there is the old one or the new one, after a power cut, too.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    write_over(path, content)?;
    sync::now(path)
}

/// Replaces a file as a whole: after a crash of this process there is the old one or the new one.
pub(crate) fn write_over(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    // Not a name that an id could have together with `.json`.
    beside.push("~");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_hmac_sha256() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(directory.path().join("daemon")).expect("opened");
        // RFC 4231, case 1: a key of 20 bytes, which HMAC fills up with zeros.
        let mut key = [0; KEY];
        key[..20].fill(0x0b);
        store.key = Arc::new(key);
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(store.digest(b"Hi There"), expected);
    }

    #[test]
    fn the_key_stays_and_is_nobody_elses() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().join("daemon");
        let first = Store::open(at.clone()).expect("opened").digest(b"x");
        assert_eq!(Store::open(at.clone()).expect("opened").digest(b"x"), first);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&at), mode(&at.join("key"))), (0o700, 0o600));
    }

    #[test]
    fn a_directory_is_one_daemons_at_a_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Store::open(directory.path().join("daemon"));
        let first = open().expect("opened");
        let refused = open().err().expect("it is the first one's").to_string();
        assert!(refused.contains("stop that one first"), "{refused}");
        drop(first);
        assert!(open().is_ok());
    }

    #[test]
    fn no_event_number_is_taken_twice() {
        let directory = tempfile::tempdir().expect("a directory");
        let take = |_| {
            let store = Store::open(directory.path().join("daemon")).expect("opened");
            store.take_event_numbers(10).expect("taken")
        };
        assert_eq!([0, 1].map(take), [1, 11]);
    }
}
