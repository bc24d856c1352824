//! What a crash leaves is told from tampering, and no record that was reported as written is lost.

mod audit;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use audit::{Chance, Site, event, intent};
use stockade::audit::verify::Known;
use stockade::audit::{Log, Options, Record, verify};

/// Where a child of this test writes its log; without it, this is the test itself.
const DIRECTORY: &str = "AUDIT_TEST_DIRECTORY";

/// For so long processes are killed; `AUDIT_TEST_KILLS` asks for a number of times instead.
const TIME: Duration = Duration::from_secs(15);

#[test]
fn a_power_cut_at_any_byte_of_the_last_batch_is_no_tampering_and_the_log_goes_on() {
    let site = Site::new();
    let options = Options { segment_bytes: 1 << 20, ..site.options() };
    let log = Log::open(options.clone()).expect("a log");
    let synced = (0..5).map(|number| log.record(event(number)).wait().expect("written")).max();
    // What is on disk for certain before the last batch: the head is written after what it speaks of.
    let head = fs::read(site.audit().join("head")).expect("a head");
    let path = site.lines()[0].0.clone();
    let before = fs::metadata(&path).expect("a segment").len() as usize;
    let tickets: Vec<_> = (5..9).map(|number| log.record(event(number))).collect();
    for ticket in tickets {
        ticket.wait().expect("written");
    }
    let whole = fs::read(&path).expect("a segment");
    drop(log);

    fs::write(site.audit().join("head"), &head).expect("written");
    for cut in before..=whole.len() {
        for filled in [false, true] {
            let mut bytes = whole[..cut].to_vec();
            if filled {
                // Blocks that were allocated and never written.
                bytes.resize(whole.len() + 100, 0);
            }
            fs::write(&path, &bytes).expect("written");
            let report = site.verify();
            assert!(report.intact, "cut at {cut}: {report:?}");
            assert!(report.last >= synced, "cut at {cut}: {report:?}");
            let ends_whole = bytes.ends_with(b"\n");
            assert_eq!(report.torn.is_none(), ends_whole, "cut at {cut}: {report:?}");
        }
        // Every byte is verified; going on is tried at some.
        if cut % 41 == 0 {
            fs::write(&path, &whole[..cut]).expect("written");
            let again = site.copy();
            let log = Log::open(Options { segment_bytes: 1 << 20, ..again.options() }).expect("it goes on");
            let next = log.record(event(1)).wait().expect("written");
            log.close();
            let report = again.verify();
            assert!(report.intact && report.last > Some(next) && report.torn.is_none(), "{report:?}");
        }
    }
}

#[test]
fn a_first_record_that_was_torn_is_written_again() {
    let site = Site::with_events(40);
    let files = site.lines();
    let (last, earlier) = (&files[files.len() - 1], &files[..files.len() - 1]);
    let count: usize = earlier.iter().map(|(_, lines)| lines.len()).sum();
    let torn = site.audit().join(format!("{:016}.jsonl", count + last.1.len() + 1));
    fs::write(&torn, b"{\"seq\":").expect("written");
    assert!(site.verify().intact);
    let log = site.open();
    log.record(event(1)).wait().expect("written");
    log.close();
    assert!(site.verify().intact, "{:?}", site.verify());
}

#[test]
fn an_intent_without_an_outcome_is_closed_by_the_next_start() {
    let site = Site::new();
    let log = site.open();
    let open = log.record(intent(1)).wait().expect("written");
    let closed = log.record(intent(2)).wait().expect("written");
    let outcome = stockade::audit::Event::NotStarted {
        intent: closed,
        agent: "agent-2".parse().expect("an id"),
        reason: stockade::audit::text::Word::new("test"),
        field: None,
    };
    log.record(outcome).wait().expect("written");
    // Far from the end, and in another segment.
    for number in 0..40 {
        log.record(event(number)).wait().expect("written");
    }
    log.close();
    for _ in 0..2 {
        site.open().close();
    }
    let abandoned: Vec<u64> = records(&site)
        .filter(|record| record.kind() == "abandoned")
        .map(|record| record.event["intent"].as_u64().expect("a number"))
        .collect();
    assert_eq!(abandoned, [open]);
}

/// Power cuts; `AUDIT_TEST_CUTS` asks for another number.
const CUTS: usize = 150;

/// What is on disk: the head first, for it speaks of the segments.
fn on_disk(site: &Site) -> Disk {
    let head = fs::read(site.audit().join("head")).expect("a head");
    let segments = site.lines().into_iter().map(|(path, lines)| (path, lines.concat())).collect();
    Disk { head, segments }
}

#[derive(Clone)]
struct Disk {
    head: Vec<u8>,
    segments: Vec<(std::path::PathBuf, Vec<u8>)>,
}

impl Disk {
    /// On the way from this to `next`: so many bytes of what came on top have reached the disk, and of the head only what is
    /// written once all of them have.
    fn cut(&self, next: &Self, chance: &mut Chance) -> Self {
        let before =
            |path: &Path| self.segments.iter().find(|(old, _)| old == path).map_or(0, |(_, old)| old.len());
        let more: usize = next.segments.iter().map(|(path, bytes)| bytes.len() - before(path)).sum();
        let mut left = chance.below(more + 1);
        let (mut segments, mut is_whole) = (Vec::new(), true);
        for (path, bytes) in &next.segments {
            let old = before(path);
            let reached = (bytes.len() - old).min(left);
            left -= reached;
            let is_next = is_whole;
            is_whole &= old + reached == bytes.len();
            // A file is made once the one before is synced, and before anything is in it.
            if old + reached > 0 || is_next && chance.below(2) == 0 {
                segments.push((path.clone(), bytes[..old + reached].to_vec()));
            }
        }
        let mut head = self.head.clone();
        if is_whole && next.head.len() == head.len() {
            let written = chance.below(head.len() + 1);
            head[..written].copy_from_slice(&next.head[..written]);
        }
        Self { head, segments }
    }

    fn put(&self) -> Site {
        let site = Site::new();
        fs::create_dir_all(site.audit()).expect("made");
        fs::write(site.audit().join("head"), &self.head).expect("written");
        for (path, bytes) in &self.segments {
            fs::write(site.audit().join(path.file_name().expect("a name")), bytes).expect("written");
        }
        site
    }
}

#[test]
fn power_cuts_at_any_byte_of_any_batch_are_never_tampering_and_lose_nothing_that_was_synced() {
    let wanted = std::env::var("AUDIT_TEST_CUTS").ok().and_then(|count| count.parse().ok()).unwrap_or(CUTS);
    let site = Site::new();
    let log = site.open();
    let mut synced = Vec::new();
    for number in 0..120 {
        // One record or several, so that batches end anywhere: files end and begin among them.
        let tickets: Vec<_> = (0..=number % 4).map(|more| log.record(event(number + more))).collect();
        let last = tickets.into_iter().map(|ticket| ticket.wait().expect("written")).max();
        synced.push((last, on_disk(&site)));
    }
    let mut chance = Chance(0xc07);
    for attempt in 0..wanted {
        let batch = chance.below(synced.len() - 1);
        let (last, before) = &synced[batch];
        let cut = before.cut(&synced[batch + 1].1, &mut chance).put();
        let report = cut.verify();
        assert!(report.intact, "attempt {attempt}, batch {batch}: {report:?}");
        assert!(report.last >= *last, "attempt {attempt}, batch {batch}: {last:?} is lost: {report:?}");
        fs::copy(site.dir.path().join("audit.key"), cut.dir.path().join("audit.key")).expect("the key");
        let log = cut.open();
        log.record(event(1)).wait().expect("it goes on");
        log.close();
        let report = cut.verify();
        assert!(report.intact && report.last > *last, "attempt {attempt}, batch {batch}: {report:?}");
    }
    println!("power was cut {wanted} times");
    log.close();
}

#[test]
fn a_killed_writer_loses_no_record_that_it_reported_and_is_never_called_a_tamperer() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return write_until_killed(Path::new(&directory));
    }
    let wanted: Option<u32> = std::env::var("AUDIT_TEST_KILLS").ok().and_then(|count| count.parse().ok());
    let (begun, mut kills, mut chance) = (Instant::now(), 0, Chance(0x5eed));
    while wanted.map_or(begun.elapsed() < TIME, |wanted| kills < wanted) {
        let site = Site::new();
        // One log through several crashes.
        for _ in 0..8 {
            let mut child = writer(site.dir.path());
            let output = BufReader::new(child.stderr.take().expect("its output"));
            let mut lines = output.lines();
            let first = lines.next().expect("a record").expect("a line");
            // A moment by chance, counted in records: busy machines are slow.
            let moment = chance.below(40);
            let mut last = lines.by_ref().take(moment).last().map_or(first, |line| line.expect("a line"));
            child.kill().expect("killed");
            child.wait().expect("ended");
            // It has reported these before it was killed; the last line may be half a one.
            let rest: Vec<String> = lines.map_while(Result::ok).collect();
            if let Some(line) = rest.iter().rev().find(|line| line.ends_with('.')) {
                last.clone_from(line);
            }
            let synced: u64 = last.trim_end_matches('.').parse().expect("a number");
            let report = site.verify();
            assert!(report.intact, "after {kills} kills: {report:?}");
            assert!(report.last >= Some(synced), "record {synced} is lost: {report:?}");
            kills += 1;
        }
    }
    println!("killed {kills} times");
    assert!(kills >= wanted.unwrap_or(8), "only {kills} kills");
}

fn writer(directory: &Path) -> Child {
    let name = "a_killed_writer_loses_no_record_that_it_reported_and_is_never_called_a_tamperer";
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture", "--quiet"])
        .env(DIRECTORY, directory)
        // The harness speaks on standard output.
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process")
}

fn write_until_killed(directory: &Path) {
    let options = Options {
        segment_bytes: 3000,
        seal_records: 5,
        ..Options::new(directory.join("audit"), directory.join("audit.key"))
    };
    let log = Log::open(options).expect("a log");
    let mut out = std::io::stderr();
    for number in 0.. {
        let tickets: Vec<_> = (0..3).map(|more| log.record(event(number + more))).collect();
        for ticket in tickets {
            let seq = ticket.wait().expect("written");
            writeln!(out, "{seq}.").expect("the parent reads");
        }
    }
}

fn records(site: &Site) -> impl Iterator<Item = Record> {
    let lines = site.lines().into_iter().flat_map(|(_, lines)| lines);
    lines.map(|line| Record::parse(line.trim_ascii_end()).expect("a record"))
}

#[test]
fn many_threads_write_one_log_without_a_gap() {
    let site = Site::new();
    let log = Log::open(Options { segment_bytes: 100_000, ..site.options() }).expect("a log");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = log.clone();
            scope.spawn(move || {
                let tickets: Vec<_> =
                    (0..200).map(|number| log.record(event(thread * 1000 + number))).collect();
                let seqs: Vec<u64> = tickets.iter().map(|ticket| ticket.wait().expect("written")).collect();
                assert!(seqs.is_sorted(), "one thread's records are in its order");
            });
        }
    });
    log.close();
    let report = verify(&site.audit(), &Known::default()).expect("readable");
    assert!(report.intact && report.records >= 1600 && report.unsealed == 0, "{report:?}");
}

#[test]
fn a_key_that_was_rotated_is_vouched_for_by_the_one_before() {
    let site = Site::new();
    let log = site.open();
    let (mut seen, key) = (Vec::new(), site.dir.path().join("audit.key"));
    for number in 0..3 {
        seen.push(stockade::audit::Key::load(&key).expect("a key").public());
        log.record(event(number)).wait().expect("written");
        log.rotate_key().wait().expect("rotated");
    }
    log.close();
    site.open().close();
    let report = site.verify();
    assert!(report.intact && report.keys.len() == 4, "{report:?}");
    for key in seen {
        let key = Some(stockade::audit::verify::KnownKey::Key(key));
        assert!(verify(&site.audit(), &Known { key, against: None }).expect("readable").intact);
    }
}

#[test]
fn a_rotation_that_was_announced_and_not_finished_is_not_lost_by_the_next() {
    let site = Site::new();
    let log = site.open();
    let (key, aside) = (site.dir.path().join("audit.key"), site.dir.path().join("aside"));
    log.record(event(0)).wait().expect("written");
    // The new key cannot take its place.
    fs::rename(&key, &aside).expect("moved");
    fs::create_dir(&key).expect("made");
    log.rotate_key().wait().expect_err("it is announced, and waits beside the old one");
    fs::remove_dir(&key).expect("removed");
    fs::rename(&aside, &key).expect("moved back");
    // And the one after that cannot even be made.
    fs::create_dir(key.with_extension("part")).expect("made");
    log.rotate_key().wait().expect_err("there is no third key");
    fs::remove_dir(key.with_extension("part")).expect("removed");
    drop(log);
    let log = site.open();
    log.record(event(1)).wait().expect("the log goes on with the key that it announced");
    log.close();
    assert!(site.verify().intact);
}

/// The same for the test below.
const FULL: &str = "AUDIT_TEST_FULL";

#[test]
fn a_full_disk_refuses_intents_keeps_the_rest_and_recovers_by_itself() {
    if let Some(directory) = std::env::var_os(FULL) {
        return fill_the_disk(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let test = "a_full_disk_refuses_intents_keeps_the_rest_and_recovers_by_itself";
    // A file system of its own, which ends with the process.
    let script = "mount -t tmpfs -o size=256k,mode=700 audit-test \"$AUDIT_TEST_FULL\" && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(FULL, directory.path())
        .output()
        .expect("unshare");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn fill_the_disk(directory: &Path) {
    let options = Options {
        retry: Duration::from_millis(10),
        ..Options::new(directory.join("audit"), directory.join("audit.key"))
    };
    let log = Log::open(options.clone()).expect("a log");
    let filler = directory.join("filler");
    let mut file = fs::File::create(&filler).expect("a file");
    while file.write_all(&[1; 1024]).is_ok() {}
    drop(file);
    // What is left of the last block of the segment is used up first.
    let refused = (0..10_000).find_map(|number| log.record(intent(number)).wait().err()).expect("it is full");
    assert!(refused.reason.contains("No space left") || refused.reason.contains("os error 28"), "{refused}");
    assert_eq!(log.state(), Err(refused));
    let waiting = log.record(event(7));
    let (told, key) = (log.record(intent(1)).wait(), log.rotate_key().wait());
    assert!(told.is_err() && key.is_err(), "{told:?} {key:?}");
    assert!(verify(&options.dir, &Known::default()).expect("readable").intact);

    fs::remove_file(&filler).expect("removed");
    let kept = waiting.wait().expect("it was kept until there was room");
    log.record(intent(2)).wait().expect("written");
    log.close();
    let report = verify(&options.dir, &Known::default()).expect("readable");
    assert!(report.intact && report.last > Some(kept), "{report:?}");
    let text = fs::read_to_string(options.dir.join("0000000000000001.jsonl")).expect("a segment");
    assert!(text.contains("\"type\":\"resumed\"") && text.contains("disk-full"), "{text}");
}
