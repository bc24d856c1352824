//! What the tests of the audit log have in common: a log of their own, small enough to take apart.
// Each test program is compiled with its own copy, and none uses all of it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stockade::audit::event::Event;
use stockade::audit::parts::{Act, Outcome};
use stockade::audit::text::Word;
use stockade::audit::verify::{Finding, Known, Report};
use stockade::audit::{Log, Options, verify};
use tempfile::TempDir;

/// A directory with a log in it.
pub struct Site {
    pub dir: TempDir,
}

impl Site {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    pub fn audit(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    /// Short segments, frequent checkpoints, no waiting.
    pub fn options(&self) -> Options {
        Options {
            segment_bytes: 4000,
            seal_records: 7,
            seal_after: Duration::from_secs(3600),
            retry: Duration::from_millis(20),
            ..Options::new(self.audit(), self.dir.path().join("audit.key"))
        }
    }

    pub fn open(&self) -> Log {
        Log::open(self.options()).expect("a log")
    }

    pub fn verify(&self) -> Report {
        verify(&self.audit(), &Known::default()).expect("a readable log")
    }

    /// A log of so many events, closed in order.
    pub fn with_events(count: u64) -> Self {
        let site = Self::new();
        let log = site.open();
        for number in 0..count {
            // One by one, so that segments end where they should.
            log.record(event(number)).wait().expect("written");
        }
        log.close();
        site
    }

    /// A copy of its directory, to be tampered with.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        copy_files(&self.audit(), &copy.audit());
        fs::copy(self.dir.path().join("audit.key"), copy.dir.path().join("audit.key")).expect("the key");
        copy
    }

    /// Every segment with its lines, line breaks included.
    pub fn lines(&self) -> Vec<(PathBuf, Vec<Vec<u8>>)> {
        let mut files: Vec<_> = fs::read_dir(self.audit())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        files.sort();
        let lines = |path: &PathBuf| {
            let bytes = fs::read(path).expect("a segment");
            bytes.split_inclusive(|c| *c == b'\n').map(<[u8]>::to_vec).collect()
        };
        files.iter().map(|path| (path.clone(), lines(path))).collect()
    }

    /// Writes all records anew into the files that they are in now, so many lines in each as before, the rest in the last.
    pub fn rewrite(&self, lines: &[Vec<u8>]) {
        let mut rest = lines;
        let files = self.lines();
        for (at, (path, old)) in files.iter().enumerate() {
            let count = if at + 1 == files.len() { rest.len() } else { old.len().min(rest.len()) };
            let (these, others) = rest.split_at(count);
            fs::write(path, these.concat()).expect("a segment");
            rest = others;
        }
    }
}

pub fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file");
    }
}

/// Something that happened; a different thing for each number.
pub fn event(number: u64) -> Event {
    match number % 3 {
        0 => Event::ServiceStopped { reason: Word::new("test") },
        1 => Event::Adopted { agent: format!("agent-{number}").parse().expect("an id"), running: true },
        _ => Event::Acted {
            intent: u64::MAX,
            agent: format!("agent-{number}").parse().expect("an id"),
            act: Act::Stop,
            outcome: Outcome::Done,
            reason: None,
        },
    }
}

/// Something that has to be on disk before it is done.
pub fn intent(number: u64) -> Event {
    Event::Intent {
        act: Act::Spawn,
        agent: format!("agent-{number}").parse().expect("an id"),
        tenant: None,
        who: None,
        request: None,
        policy: None,
        policy_hash: None,
        order: None,
    }
}

/// What is wrong with this log.
pub fn finding(site: &Site) -> Finding {
    let report = site.verify();
    assert!(!report.intact, "went unnoticed: {report:?}");
    report.finding.expect("a finding")
}

/// Numbers by chance, the same ones for the same seed (xorshift64*).
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        usize::try_from((number >> 16) % end as u64).expect("below a usize")
    }
}
