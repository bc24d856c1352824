//! Whoever changes a log is found out, and the place is named: by chance, at any place, in every way.

mod audit;

use std::fs;
use std::ops::RangeInclusive;

use audit::{Chance, Site, copy_files, finding};
use stockade::audit::digest::Digest;
use stockade::audit::seal::Seal;
use stockade::audit::verify::{Kind, Known, KnownKey};
use stockade::audit::{Key, Record, verify};

/// Attempts of each way; `AUDIT_TEST_ATTEMPTS` asks for another number.
const ATTEMPTS: usize = 60;
/// Records of the log that is tampered with; a few more are the log's own.
const EVENTS: u64 = 60;

fn attempts() -> usize {
    std::env::var("AUDIT_TEST_ATTEMPTS").ok().and_then(|count| count.parse().ok()).unwrap_or(ATTEMPTS)
}

/// The log of a real service in the directory `AUDIT_TEST_LOG`, or one that was made for this.
fn original() -> Site {
    let site = match std::env::var_os("AUDIT_TEST_LOG") {
        Some(directory) => {
            let site = Site::new();
            copy_files(std::path::Path::new(&directory), &site.audit());
            fs::write(site.dir.path().join("audit.key"), "").expect("nobody signs here");
            site
        }
        None => Site::with_events(EVENTS),
    };
    assert!(site.verify().intact);
    site
}

/// Tampers with copies of one log; `tamper` says which record the finding has to name, and how.
fn each_is_found(seed: u64, tamper: impl Fn(&Site, &mut Vec<Vec<u8>>, &mut Chance) -> (Kind, u64)) {
    let original = original();
    let all: Vec<Vec<u8>> = original.lines().into_iter().flat_map(|(_, lines)| lines).collect();
    let mut chance = Chance(seed);
    for attempt in 0..attempts() {
        let copy = original.copy();
        let mut lines = all.clone();
        let (kind, seq) = tamper(&copy, &mut lines, &mut chance);
        copy.rewrite(&lines);
        let found = finding(&copy);
        assert_eq!((found.kind, found.seq), (kind, seq), "attempt {attempt}: {found:?}");
    }
}

/// The record on line `at`, counted from 0.
fn seq(at: usize) -> u64 {
    at as u64 + 1
}

#[test]
fn a_changed_byte_is_found_where_it_is() {
    each_is_found(1, |_, lines, chance| {
        let at = chance.below(lines.len());
        let byte = chance.below(lines[at].len());
        lines[at][byte] ^= 1 << chance.below(7);
        (Kind::Altered, seq(at))
    });
}

#[test]
fn a_deleted_record_is_missed() {
    each_is_found(2, |_, lines, chance| {
        let at = chance.below(lines.len() - 1);
        lines.remove(at);
        (Kind::Deleted, seq(at))
    });
}

#[test]
fn several_deleted_records_are_missed_and_the_last_is_named_too() {
    let site = Site::with_events(EVENTS);
    let mut lines: Vec<_> = site.lines().into_iter().flat_map(|(_, lines)| lines).collect();
    lines.drain(10..20);
    site.rewrite(&lines);
    let found = finding(&site);
    assert_eq!((found.kind, found.seq, found.through), (Kind::Deleted, 11, Some(20)), "{found:?}");
}

#[test]
fn swapped_records_are_found() {
    each_is_found(3, |_, lines, chance| {
        let one = chance.below(lines.len() - 1);
        let other = one + 1 + chance.below(lines.len() - one - 1);
        lines.swap(one, other);
        (Kind::Reordered, seq(one))
    });
}

#[test]
fn a_record_that_stands_twice_is_found() {
    each_is_found(4, |_, lines, chance| {
        let one = chance.below(lines.len());
        let copy = lines[one].clone();
        let place = chance.below(lines.len() + 1);
        lines.insert(place, copy);
        (Kind::Duplicated, seq(one))
    });
}

#[test]
fn a_log_that_was_cut_off_anywhere_is_found_by_its_head() {
    each_is_found(5, |site, lines, chance| {
        let at = chance.below(lines.len());
        let keep = chance.below(lines[at].len());
        lines.truncate(at + 1);
        lines[at].truncate(keep);
        if keep == 0 {
            lines.pop();
        }
        // Segments that would be empty are gone.
        site.rewrite(lines);
        for (path, _) in site.lines().iter().filter(|(_, lines)| lines.is_empty()) {
            fs::remove_file(path).expect("a segment");
        }
        (Kind::Truncated, seq(at))
    });
}

#[test]
fn missing_bytes_are_found_where_they_are_missing() {
    each_is_found(6, |_, lines, chance| {
        let at = chance.below(lines.len() - 3);
        // Something of the record itself: from one line break to another, whole records would be missing.
        let from = 1 + chance.below(lines[at].len() - 2);
        let mut joined = lines[at..at + 3].concat();
        let end = (from + 1 + chance.below(600)).min(joined.len() - 1);
        joined.drain(from..end);
        lines.splice(at..at + 3, [joined]);
        (Kind::Altered, seq(at))
    });
}

#[test]
fn a_record_that_was_written_anew_with_a_right_hash_is_found() {
    each_is_found(7, |_, lines, chance| {
        let at = 1 + chance.below(lines.len() - 3);
        lines[at] = forge(&lines[at], None);
        (Kind::Altered, seq(at))
    });
}

#[test]
fn a_chain_that_was_written_anew_to_its_end_does_not_match_what_was_signed() {
    let original = original();
    let all: Vec<Vec<u8>> = original.lines().into_iter().flat_map(|(_, lines)| lines).collect();
    let mut chance = Chance(8);
    for _ in 0..attempts() {
        let copy = original.copy();
        let at = 1 + chance.below(all.len() - 1);
        copy.rewrite(&rechained(&all, at));
        let found = finding(&copy);
        let range: RangeInclusive<u64> = found.seq..=found.through.unwrap_or(found.seq);
        assert_eq!(found.kind, Kind::Altered, "{found:?}");
        assert!(range.contains(&seq(at)), "record {} was forged: {found:?}", seq(at));
    }
}

#[test]
fn a_log_that_was_signed_with_another_key_is_not_this_log() {
    let site = Site::with_events(EVENTS);
    let other = Site::with_events(EVENTS);
    let key = |site: &Site| Key::load(&site.dir.path().join("audit.key")).expect("a key").public();
    // Whole in itself: only who knows the key notices.
    let known = |key| Known { key: Some(KnownKey::Key(key)), against: None };
    assert!(verify(&other.audit(), &known(key(&other))).expect("readable").intact);
    let found = verify(&other.audit(), &known(key(&site))).expect("readable").finding.expect("a finding");
    assert_eq!(found.kind, Kind::ForgedCheckpoint);

    // A head of another log's beside these segments.
    fs::copy(other.audit().join("head"), site.audit().join("head")).expect("a head");
    assert_eq!(finding(&site).kind, Kind::ForgedCheckpoint);
}

#[test]
fn a_missing_segment_is_missed_wherever_it_was() {
    let original = Site::with_events(EVENTS);
    let files = original.lines();
    assert!(files.len() > 3, "only {} segments", files.len());
    let mut first = 1;
    for (at, (path, lines)) in files.iter().enumerate() {
        let copy = original.copy();
        fs::remove_file(copy.audit().join(path.file_name().expect("a name"))).expect("a segment");
        let found = finding(&copy);
        let kind = if at + 1 == files.len() { Kind::Truncated } else { Kind::Deleted };
        assert_eq!((found.kind, found.seq), (kind, first), "{found:?}");
        first += lines.len() as u64;
    }
}

#[test]
fn segments_that_changed_places_are_found() {
    let site = Site::with_events(EVENTS);
    let files = site.lines();
    let (one, other, aside) = (&files[1].0, &files[2].0, site.audit().join("aside"));
    fs::rename(one, &aside).expect("renamed");
    fs::rename(other, one).expect("renamed");
    fs::rename(&aside, other).expect("renamed");
    let found = finding(&site);
    assert_eq!((found.kind, found.seq), (Kind::Reordered, seq(files[0].1.len())), "{found:?}");
}

#[test]
fn a_head_that_was_changed_or_removed_is_found() {
    let site = Site::with_events(EVENTS);
    let head = site.audit().join("head");
    let text = fs::read_to_string(&head).expect("a head");
    fs::remove_file(&head).expect("removed");
    assert_eq!(finding(&site).kind, Kind::Truncated);
    // It would promise less than there is.
    fs::write(&head, text.replace("\"seq\":", "\"seq\":1")).expect("written");
    assert_eq!(finding(&site).kind, Kind::ForgedCheckpoint);
    fs::write(&head, "").expect("written");
    assert_eq!(finding(&site).kind, Kind::ForgedCheckpoint);
    fs::write(&head, text).expect("written");
    assert!(site.verify().intact);
}

#[test]
fn a_log_as_it_was_once_is_found_by_a_checkpoint_that_was_kept_elsewhere() {
    let site = Site::with_events(EVENTS);
    let once = Site::new();
    copy_files(&site.audit(), &once.audit());
    let log = site.open();
    for number in 0..10 {
        log.record(audit::event(number)).wait().expect("written");
    }
    log.close();
    let kept = Seal::parse(&fs::read(site.audit().join("head")).expect("a head"));
    let known = Known { key: None, against: Some(kept.expect("a seal")) };
    assert!(verify(&site.audit(), &known).expect("readable").intact);

    // By itself it looks whole.
    assert!(once.verify().intact);
    let report = verify(&once.audit(), &known).expect("readable");
    let found = report.finding.expect("a finding");
    assert_eq!((found.kind, found.seq), (Kind::RolledBack, report.last.expect("records") + 1), "{found:?}");
}

#[test]
fn an_old_head_beside_a_newer_log_is_found() {
    let site = Site::with_events(EVENTS);
    let old = fs::read(site.audit().join("head")).expect("a head");
    let log = site.open();
    for number in 0..40 {
        log.record(audit::event(number)).wait().expect("written");
    }
    log.close();
    fs::write(site.audit().join("head"), old).expect("written");
    assert_eq!(finding(&site).kind, Kind::RolledBack);
}

#[test]
fn a_service_does_not_go_on_with_a_log_that_was_tampered_with() {
    for cut in [1, 200] {
        let site = Site::with_events(EVENTS);
        let (path, lines) = site.lines().pop().expect("a segment");
        let bytes = lines.concat();
        fs::write(&path, &bytes[..bytes.len() - cut]).expect("written");
        let refused = stockade::audit::Log::open(site.options()).err().expect("a refusal");
        assert!(refused.reason.contains("tampered"), "{refused}");
        assert_eq!(finding(&site).kind, Kind::Truncated);
    }
}

#[test]
fn one_file_of_a_log_can_be_verified_by_itself() {
    let site = Site::with_events(EVENTS);
    let mut first = 1;
    for (path, mut lines) in site.lines() {
        let report = verify(&path, &Known::default()).expect("readable");
        assert!(report.intact, "{report:?}");
        assert_eq!((report.first, report.records), (Some(first), lines.len() as u64));
        first += lines.len() as u64;
        if lines.len() < 3 {
            continue;
        }
        lines.remove(1);
        fs::write(&path, lines.concat()).expect("written");
        let found = verify(&path, &Known::default()).expect("readable").finding.expect("a finding");
        assert_eq!((found.kind, found.line), (Kind::Deleted, 2));
    }
}

/// The same record with another agent in it and a hash that fits; `prev`: on top of another record.
fn forge(line: &[u8], prev: Option<Digest>) -> Vec<u8> {
    let text = std::str::from_utf8(line).expect("text");
    let record = Record::parse(text.trim_end().as_bytes()).expect("a record");
    let (body, _) = text.rsplit_once(",\"hash\":\"").expect("a hash");
    let body = match prev {
        Some(prev) => body.replacen(&record.prev.to_string(), &prev.to_string(), 1),
        None => body.replacen("\"at\":\"2", "\"at\":\"3", 1),
    };
    format!("{body},\"hash\":\"{}\"}}\n", Digest::of(body.as_bytes())).into_bytes()
}

/// All records, the one at `at` forged, and those after it on top of it.
fn rechained(all: &[Vec<u8>], at: usize) -> Vec<Vec<u8>> {
    let mut lines = all[..at].to_vec();
    lines.push(forge(&all[at], None));
    for line in &all[at + 1..] {
        let before = lines.last().expect("the one before");
        let prev = Record::parse(before.trim_ascii_end()).expect("a record").hash;
        lines.push(forge(line, Some(prev)));
    }
    lines
}
