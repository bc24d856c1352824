//! One walk along the chain, from the first record to the last.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::finding::{Finding, Kind};
use super::lines::{Line, Lines};
use super::pruned::Statement;
use super::trace::{self, Expected};
use super::{Known, KnownKey, Report, Torn, VerifyError, ends};
use crate::audit::digest::Digest;
use crate::audit::event::Event;
use crate::audit::key::PublicKey;
use crate::audit::record::{Broken, Record};
use crate::audit::seal::{self, Seal};

/// What came of a line.
pub enum Step {
    /// It follows.
    On,
    /// The log breaks off here, as a power cut leaves it.
    Torn(Torn),
    /// It does not.
    Found(Finding),
}

/// The head of a directory.
pub struct HeadFile {
    pub path: PathBuf,
    /// What is in it; none: it is missing.
    pub seals: Option<Vec<Seal>>,
}

/// Where the walk is.
pub struct Walk<'a> {
    pub(super) known: &'a Known,
    /// Of a directory.
    pub(super) head: Option<HeadFile>,
    pub(super) report: Report,
    pub(super) seq: u64,
    hash: Digest,
    pub(super) log: Option<String>,
    /// Keys of the log, each vouched for by the one before.
    pub(super) keys: Vec<PublicKey>,
    /// Whether the key that is known from elsewhere has signed anything.
    pub(super) known_key_signed: bool,
    /// The last checkpoint's record, and the one before that.
    pub(super) checkpoint: u64,
    pub(super) checkpoint_before: u64,
    /// Hashes of records that seals from outside speak of.
    pub(super) wanted: BTreeMap<u64, Option<Digest>>,
    /// What it says of records that are missing at its beginning.
    pub(super) pruned: Option<Statement>,
}

impl<'a> Walk<'a> {
    /// Along one file, of which nobody knows how long it was.
    pub fn of_file(known: &'a Known) -> Self {
        Self::new(known, None)
    }

    /// Along all segments of a log.
    pub fn of_directory(
        known: &'a Known,
        path: PathBuf,
        seals: Option<Vec<Seal>>,
        pruned: Option<Statement>,
    ) -> Self {
        Self { pruned, ..Self::new(known, Some(HeadFile { path, seals })) }
    }

    fn new(known: &'a Known, head: Option<HeadFile>) -> Self {
        let seals = head.iter().flat_map(|head| head.seals.iter().flatten()).chain(&known.against);
        let wanted = seals.map(|seal| (seal.seq, None)).collect();
        let keys = match (&known.key, &head) {
            // A file need not begin with a record that names the key.
            (Some(KnownKey::Key(key)), None) => vec![*key],
            _ => Vec::new(),
        };
        let report = Report {
            intact: false,
            finding: None,
            log: None,
            first: None,
            pruned: None,
            last: None,
            records: 0,
            segments: 0,
            checkpoints: 0,
            keys: Vec::new(),
            head: None,
            unsealed: 0,
            torn: None,
        };
        Self {
            known,
            head,
            report,
            seq: 0,
            hash: Digest::NONE,
            log: None,
            keys,
            known_key_signed: false,
            checkpoint: 0,
            checkpoint_before: 0,
            wanted,
            pruned: None,
        }
    }

    /// Takes one line.
    pub fn step(&mut self, line: &Line, lines: &mut Lines) -> Result<Step, VerifyError> {
        let parsed = Record::parse(&line.bytes);
        let record = match parsed {
            Ok(record) if line.ended => record,
            Ok(_) => return self.broken(line, lines, &Broken::Cut),
            Err(broken) => return self.broken(line, lines, &broken),
        };
        let expected = self.expected(&record);
        if record.seq != expected.seq || record.prev != expected.prev {
            return trace::explain(&expected, &record, line, lines).map(Step::Found);
        }
        self.report.first.get_or_insert(record.seq);
        if let Err((kind, seq, through, detail)) = self.meaning(&record, line, lines) {
            let file = lines.path(line.segment);
            return Ok(Step::Found(Finding { kind, seq, through, file, line: line.number, detail }));
        }
        (self.seq, self.hash) = (record.seq, record.hash);
        self.report.last = Some(record.seq);
        self.report.records += 1;
        if let Some(wanted) = self.wanted.get_mut(&record.seq) {
            *wanted = Some(record.hash);
        }
        Ok(Step::On)
    }

    fn expected(&self, record: &Record) -> Expected {
        let (seq, prev) = (self.seq + 1, self.hash);
        if self.report.first.is_some() {
            return Expected { seq, prev, is_first: false };
        }
        // Where a file begins, nobody can know. A log begins with 1, or behind what a checkpoint from elsewhere vouches for.
        let vouched = |seal: &Seal| seal.seq + 1 == record.seq && seal.hash == record.prev;
        let removed = |statement: Statement| statement.through + 1 >= record.seq;
        let may_begin_later = self.head.is_none()
            || self.known.against.as_ref().is_some_and(vouched)
            || self.pruned.is_some_and(removed);
        match may_begin_later {
            true if record.seq > 1 => Expected { seq: record.seq, prev: record.prev, is_first: true },
            _ => Expected { seq, prev, is_first: true },
        }
    }

    /// The record that should stand in this line: for a file's first one, what the line says.
    fn place(&self, line: &Line) -> u64 {
        match self.report.first {
            None if self.head.is_none() => Record::seq_of(&line.bytes).unwrap_or(1),
            _ => self.seq + 1,
        }
    }

    /// A line that is no record.
    fn broken(&mut self, line: &Line, lines: &mut Lines, broken: &Broken) -> Result<Step, VerifyError> {
        let seq = self.place(line);
        let rest = if lines.is_in_last(line) { lines.rest()? } else { Vec::new() };
        let cut = lines.is_in_last(line) && !line.ended && rest.is_empty() && *broken == Broken::Cut;
        let unwritten = lines.is_in_last(line) && (line.bytes.contains(&0) || rest.contains(&0));
        let is_whole = |line: &[u8]| Record::parse(line).is_ok();
        let promised = match &self.head {
            Some(_) => ends::promised(self) >= seq,
            // Of a file nobody knows how long it was; but what has records behind it was no end.
            None => rest.split(|c| *c == b'\n').any(is_whole),
        };
        if (cut || unwritten) && !promised {
            let bytes = (line.bytes.len() + usize::from(line.ended) + rest.len()) as u64;
            let file = lines.path(line.segment);
            return Ok(Step::Torn(Torn { file, line: line.number, bytes }));
        }
        let (kind, through) = match cut {
            true => (Kind::Truncated, Some(ends::promised(self)).filter(|last| *last > seq)),
            false => (Kind::Altered, None),
        };
        let detail = match cut {
            true => format!("record {seq} breaks off, and the head knows of it"),
            false => format!("where record {seq} belongs stands something else: {broken}"),
        };
        let file = lines.path(line.segment);
        Ok(Step::Found(Finding { kind, seq, through, file, line: line.number, detail }))
    }

    /// What a record says of the log itself.
    fn meaning(&mut self, record: &Record, line: &Line, lines: &Lines) -> Result<(), Told> {
        let opens = record.kind() == "segmentOpened";
        if self.head.is_some()
            && (opens != (line.number == 1) || (opens && !lines.is_named(line, record.seq)))
        {
            let detail = format!("record {} does not stand where its segment begins", record.seq);
            return Err((Kind::Reordered, record.seq, None, detail));
        }
        if !matches!(record.kind(), "segmentOpened" | "checkpoint" | "keyRotated") {
            return Ok(());
        }
        match serde_json::from_value(record.event.clone()) {
            Ok(Event::SegmentOpened { log, public_key, .. }) => self.opened(record, log, public_key),
            Ok(Event::Checkpoint { seal }) => self.sealed(record, &seal),
            Ok(Event::KeyRotated { public_key, signature, .. }) => {
                self.rotated(record, public_key, &signature)
            }
            _ => Err(forged(record.seq, "it has another form than such a record has")),
        }
    }

    fn opened(&mut self, record: &Record, log: String, key: PublicKey) -> Result<(), Told> {
        if self.log.as_ref().is_some_and(|known| *known != log) {
            return Err(forged(record.seq, "it opens a segment of another log"));
        }
        if self.keys.is_empty() {
            self.keys.push(key);
        }
        if self.keys.last() != Some(&key) {
            return Err(forged(record.seq, "it names another key than the log has"));
        }
        self.report.log = Some(log.clone());
        self.log = Some(log);
        Ok(())
    }

    fn sealed(&mut self, record: &Record, seal: &Seal) -> Result<(), Told> {
        let Some(key) = self.keys.last().copied() else { return Ok(()) };
        if !seal.is_signed_by(&key) || self.log.as_ref().is_some_and(|log| *log != seal.log) {
            return Err(forged(record.seq, "it is not signed by the log's key"));
        }
        if (seal.seq, seal.hash) != (record.seq - 1, record.prev) {
            // A checkpoint vouches for what is before it, not for itself.
            let first = self.checkpoint.max(self.report.first.unwrap_or(1)).min(record.seq - 1);
            let last = record.seq - 1;
            let detail = format!(
                "what is signed in record {} is another record {}: one of {first} to {last} was changed, and all hashes after it",
                record.seq, seal.seq
            );
            return Err((Kind::Altered, first, (last > first).then_some(last), detail));
        }
        (self.checkpoint_before, self.checkpoint) = (self.checkpoint, record.seq);
        self.report.checkpoints += 1;
        self.signed_by(&key);
        Ok(())
    }

    fn rotated(&mut self, record: &Record, next: PublicKey, signature: &str) -> Result<(), Told> {
        if let (Some(key), Some(log)) = (self.keys.last().copied(), &self.log) {
            if !key.has_signed(&seal::rotation(log, &next), signature) {
                return Err(forged(record.seq, "the log's key did not hand over to this one"));
            }
            self.signed_by(&key);
        }
        self.keys.push(next);
        Ok(())
    }

    pub(super) fn signed_by(&mut self, key: &PublicKey) {
        self.known_key_signed |= self.known.key.as_ref().is_some_and(|known| known.is(key));
    }

    /// After the last line: what should be there, too?
    pub fn end(&mut self, lines: &Lines) -> Result<Option<Finding>, VerifyError> {
        self.report.keys = self.keys.iter().map(PublicKey::id).collect();
        Ok(ends::end(self, lines))
    }
}

type Told = (Kind, u64, Option<u64>, String);

fn forged(seq: u64, why: &str) -> Told {
    (Kind::ForgedCheckpoint, seq, None, format!("record {seq}: {why}"))
}
