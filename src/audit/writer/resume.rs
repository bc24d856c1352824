//! Opens a log: begins one, or goes on where another process left it, whether in order or not.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::time::Instant;

use super::Options;
use super::queue::{Entry, now};
use super::store::{self, OpenSegment, Store, StoreError, head_path, io_error};
use crate::audit::chain::Chain;
use crate::audit::digest::Digest;
use crate::audit::event::Event;
use crate::audit::head::{self, Head};
use crate::audit::key::{Key, KeyError, PublicKey};
use crate::audit::record::Record;
use crate::audit::seal::{Seal, new_log};
use crate::audit::segment::{self, Segment};
use crate::audit::verify::is_torn;

/// Opens it. What was begun and not finished is closed by records that say so.
pub fn open(options: &Options) -> Result<Store, StoreError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&options.dir)
        .map_err(io_error("make", &options.dir))?;
    let head_path = head_path(options);
    let was_there = head_path.exists();
    let head = Head::open(&head_path).map_err(io_error("open", &head_path))?;
    let mut segments = segment::list(&options.dir).map_err(io_error("list", &options.dir))?;
    match segments.pop() {
        None => begin(options, head, was_there),
        Some(last) => go_on(options, head, segments, last),
    }
}

fn begin(options: &Options, mut head: Head, was_there: bool) -> Result<Store, StoreError> {
    let head_path = head_path(options);
    let key = Key::load_or_make(&options.key)?;
    if was_there {
        let counts = |seal: &Seal| seal.is_signed_by(&key.public());
        let seal = head::read(&head_path, counts).map_err(io_error("read", &head_path))?;
        if let Some(seal) = seal.filter(|seal| seal.seq > 0) {
            return Err(tampered(options, format!("all of its {} records are gone", seal.seq)));
        }
    }
    let log = new_log().ok_or(KeyError::Random)?;
    let mut chain = Chain::new(log, key.public());
    // Before the first record: where there are records, there is a head.
    let none = Seal::sign(&key, &chain.log, 0, Digest::NONE, &now());
    store::write_whole_head(&mut head, &none).map_err(io_error("write", &head_path))?;
    let segment = store::begin(&options.dir, &mut chain)?;
    let mut store =
        Store { key, chain, segment, head, head_path, unsealed: 1, sealed: Instant::now(), broken: false };
    store.renew_head()?;
    Ok(store)
}

fn go_on(
    options: &Options,
    head: Head,
    mut earlier: Vec<Segment>,
    mut last: Segment,
) -> Result<Store, StoreError> {
    let mut scan = Scan::of(options, &last)?;
    let mut torn = scan.torn;
    if scan.chain.is_none() {
        // A power cut tore the first record of a new segment.
        let Some(before) = earlier.pop() else {
            fs::remove_file(&last.path).map_err(io_error("remove", &last.path))?;
            return begin(options, head, true);
        };
        fs::remove_file(&last.path).map_err(io_error("remove", &last.path))?;
        last = before;
        scan = Scan::of(options, &last)?;
        torn += scan.torn;
    }
    let Some(chain) = scan.chain.take() else {
        return Err(tampered(options, format!("{} holds no record", last.path.display())));
    };
    scan.compare_with_head(options, &chain)?;
    let key = key_of(options, &chain.public)?;
    let file = OpenOptions::new().append(true).open(&last.path).map_err(io_error("open", &last.path))?;
    file.set_len(scan.length).map_err(io_error("truncate", &last.path))?;
    let segment = OpenSegment { file, path: last.path, length: scan.length, since: scan.since };
    let open = chain.open.clone();
    let head_path = head_path(options);
    let mut store =
        Store { key, chain, segment, head, head_path, unsealed: 1, sealed: Instant::now(), broken: false };
    let recovered = (torn > 0).then_some(Event::Recovered { torn_bytes: torn });
    let abandoned = open.into_iter().map(|intent| Event::Abandoned { intent });
    let entries: Vec<Entry> = recovered.into_iter().chain(abandoned).map(Entry::now).collect();
    store.commit(&entries, options)?;
    store.renew_head()?;
    Ok(store)
}

/// The last segment, read.
struct Scan {
    chain: Option<Chain>,
    /// Bytes of whole records.
    length: u64,
    /// Bytes behind them.
    torn: u64,
    since: jiff::Timestamp,
    first: u64,
    hashes: Vec<Digest>,
    keys: Vec<PublicKey>,
}

impl Scan {
    fn of(options: &Options, segment: &Segment) -> Result<Self, StoreError> {
        let bytes = fs::read(&segment.path).map_err(io_error("read", &segment.path))?;
        let mut scan = Self {
            chain: None,
            length: 0,
            torn: 0,
            since: jiff::Timestamp::now(),
            first: segment.first,
            hashes: Vec::new(),
            keys: Vec::new(),
        };
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|c| *c == b'\n') {
            let Ok(record) = Record::parse(&rest[..end]) else { break };
            if !scan.take(&record) {
                let what = format!("record {} does not follow the one before it", record.seq);
                return Err(tampered(options, what));
            }
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() && !is_torn(rest) {
            let next = segment.first + scan.hashes.len() as u64;
            return Err(tampered(options, format!("record {next} is not as it was written")));
        }
        scan.torn = rest.len() as u64;
        scan.length = bytes.len() as u64 - scan.torn;
        Ok(scan)
    }

    fn take(&mut self, record: &Record) -> bool {
        match &mut self.chain {
            None => {
                let Ok(Event::SegmentOpened { log, public_key, .. }) =
                    serde_json::from_value(record.event.clone())
                else {
                    return false;
                };
                let mut chain = Chain::new(log, public_key);
                if record.seq != self.first {
                    return false;
                }
                (chain.seq, chain.hash) = (record.seq - 1, record.prev);
                chain.follow(record);
                self.since = record.at.parse().unwrap_or(self.since);
                self.keys.push(public_key);
                self.chain = Some(chain);
            }
            Some(chain) => {
                if !chain.follow(record) {
                    return false;
                }
                if self.keys.last() != Some(&chain.public) {
                    self.keys.push(chain.public);
                }
            }
        }
        self.hashes.push(record.hash);
        true
    }

    /// The head was signed after what it speaks of was synced: it can be behind, never ahead.
    fn compare_with_head(&self, options: &Options, chain: &Chain) -> Result<(), StoreError> {
        let path = head_path(options);
        let counts = |seal: &Seal| self.keys.iter().any(|key| seal.is_signed_by(key));
        let head = head::read(&path, counts).map_err(io_error("read", &path))?;
        let Some(head) = head else {
            return Err(tampered(options, "its head is not signed by its key".into()));
        };
        if head.seq > chain.seq || head.log != chain.log {
            let what = format!("it ends with record {}, and had {}", chain.seq, head.seq);
            return Err(tampered(options, what));
        }
        let at = head.seq.checked_sub(self.first).and_then(|at| self.hashes.get(usize::try_from(at).ok()?));
        if at.is_some_and(|hash| *hash != head.hash) {
            return Err(tampered(options, format!("record {} is another one than it was", head.seq)));
        }
        Ok(())
    }
}

/// The key that the log expects; if the service ended while it rotated, that is the next one.
fn key_of(options: &Options, public: &PublicKey) -> Result<Key, StoreError> {
    let key = match Key::load(&options.key) {
        Ok(key) if key.public() == *public => return Ok(key),
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Ok(key) => Some(key),
        Err(error) => return Err(error.into()),
    };
    let next = options.key.with_extension("next");
    if let Ok(key) = Key::load(&next)
        && key.public() == *public
    {
        fs::rename(&next, &options.key).map_err(io_error("rename", &next))?;
        return Ok(key);
    }
    let has = key.map_or_else(|| "is missing".into(), |key| format!("is {}", key.public().id()));
    let detail = format!("it is signed by {}, and the key in {} {has}", public.id(), options.key.display());
    Err(tampered(options, detail))
}

fn tampered(options: &Options, detail: String) -> StoreError {
    StoreError::Tampered { dir: options.dir.clone(), detail }
}
