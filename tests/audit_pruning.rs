//! A log whose oldest records are kept no longer says so itself, signed; and whoever removes more, or something else, is
//! found all the same.

mod audit;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::{Site, event};
use stockade::audit::segment::{self, Segment};
use stockade::audit::verify::Kind;
use stockade::audit::writer::Keep;
use stockade::audit::{Log, Options};

/// A log of about ten segments, of which the last few are kept.
fn pruned() -> Site {
    let site = Site::new();
    let keep = Arc::new(Keep::default());
    keep.set(Some(12_000), None);
    let log = Log::open(Options { keep, ..site.options() }).expect("a log");
    for number in 0..200 {
        log.record(event(number)).wait().expect("written");
    }
    log.close();
    site
}

fn segments(site: &Site) -> Vec<Segment> {
    segment::list(&site.audit()).expect("listed")
}

#[test]
fn what_is_kept_no_longer_is_removed_and_what_is_left_is_intact() {
    let site = pruned();
    let left = segments(&site);
    let bytes: u64 = left.iter().map(|one| fs::metadata(&one.path).expect("there").len()).sum();
    assert!(left[0].first > 1 && bytes < 12_000 + 2 * 4000, "{left:?}: {bytes} bytes");
    let report = site.verify();
    assert!(report.intact, "{:?}", report.finding);
    assert_eq!((report.first, report.pruned), (Some(left[0].first), Some(left[0].first - 1)));
    // And it goes on.
    let log = site.open();
    log.record(event(1000)).wait().expect("written");
    log.close();
    assert!(site.verify().intact);
}

#[test]
fn a_limit_that_is_set_while_the_log_is_written_holds_at_once() {
    let site = Site::with_events(200);
    let keep = Arc::new(Keep::default());
    let log =
        Log::open(Options { keep: keep.clone(), segment_bytes: 1 << 20, ..site.options() }).expect("a log");
    assert_eq!(segments(&site)[0].first, 1);
    keep.set(Some(5000), Some(Duration::from_secs(3600)));
    let deadline = Instant::now() + Duration::from_secs(60);
    while segments(&site)[0].first == 1 {
        log.record(event(1)).wait().expect("written");
        assert!(Instant::now() < deadline, "nothing was removed");
    }
    log.close();
    assert!(site.verify().intact);
}

#[test]
fn whoever_removes_more_than_was_said_or_without_a_word_is_found() {
    let site = pruned();
    // The next segment, too.
    let more = site.copy();
    let gone = segments(&more);
    fs::remove_file(&gone[0].path).expect("removed");
    let (report, next) = (more.verify(), gone[1].first);
    let through = report.finding.as_ref().map(|finding| (finding.kind, finding.seq, finding.through));
    // Unless the log itself said so before it ended; then another copy of the statement must cover it.
    match report.pruned {
        Some(last) => assert_eq!(last, next - 1),
        None => assert_eq!(through, Some((Kind::Deleted, 1, Some(next - 1)))),
    }
    let all_but_the_last = site.copy();
    let gone = segments(&all_but_the_last);
    for segment in &gone[..gone.len() - 1] {
        fs::remove_file(&segment.path).expect("removed");
    }
    let report = all_but_the_last.verify();
    assert!(!report.intact && report.finding.is_some_and(|finding| finding.kind == Kind::Deleted));
    // Of a log that never said a word.
    let silent = Site::with_events(200);
    fs::remove_file(&segments(&silent)[0].path).expect("removed");
    assert_eq!(silent.verify().finding.map(|finding| (finding.kind, finding.seq)), Some((Kind::Deleted, 1)));
}

#[test]
fn a_statement_that_nobody_has_signed_excuses_nothing() {
    use std::io::Write;
    let site = Site::with_events(200);
    let all = segments(&site);
    let last = all.last().expect("a segment");
    // Whoever can write there can make hashes, but no signature.
    let text = fs::read_to_string(&last.path).expect("read");
    let line: serde_json::Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let (seq, prev) = (line["seq"].as_u64().expect("a number") + 1, line["hash"].as_str().expect("a hash"));
    let through = all[1].first - 1;
    let event = format!(r#"{{"type":"pruned","through":{through},"hash":"{prev}","segments":1,"bytes":1}}"#);
    let record =
        format!(r#"{{"seq":{seq},"at":"2026-11-26T16:00:00.000000Z","prev":"{prev}","event":{event}"#);
    let hash = stockade::audit::Digest::of(record.as_bytes());
    let mut file = fs::OpenOptions::new().append(true).open(&last.path).expect("opened");
    writeln!(file, r#"{record},"hash":"{hash}"}}"#).expect("written");
    fs::remove_file(&all[0].path).expect("removed");
    let finding = site.verify().finding.expect("it is found");
    assert_eq!(
        (finding.kind, finding.seq, finding.through),
        (Kind::Deleted, 1, Some(through)),
        "{finding:?}"
    );
    assert!(finding.detail.contains("nobody has signed"), "{}", finding.detail);
}
