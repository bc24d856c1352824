//! What the audit log costs beside the plainest thing that keeps a promise: append a line, fdatasync, next.
//!
//! `cargo bench --no-default-features --features audit --bench audit`. Rounds are interleaved; compare ratios, not times.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use stockade::audit::parts::{Act, Outcome};
use stockade::audit::verify::Known;
use stockade::audit::{Event, Log, Options, verify};

/// One after the other, per round.
const SINGLE: usize = 300;
/// Who wait at the same time, and how often each.
const THREADS: usize = 64;
const EACH: usize = 300;
/// Without waiting for each, and how many are on their way at most.
const STREAM: usize = 200_000;
const ON_THEIR_WAY: usize = 8192;
const ROUNDS: usize = 5;

fn main() {
    let below = std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| "target".into());
    let dir = Path::new(&below).join(format!("audit-bench-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let (mut plain, mut single, mut grouped, mut streamed) = (Vec::new(), Vec::new(), 0.0_f64, 0.0_f64);
    for round in 0..ROUNDS {
        plain.extend(appends(&dir.join(format!("plain-{round}"))));
        let log = open(&dir, round);
        single.extend((0..SINGLE).map(|number| timed(|| drop(log.record(intent(number)).wait()))));
        grouped = grouped.max(together(&log));
        streamed = streamed.max(in_a_stream(&log));
        log.close();
    }
    let (plain, single) = (median(plain), median(single));
    println!("append and fdatasync, one after the other   {plain:8.1?} each");
    let ratio = single.as_secs_f64() / plain.as_secs_f64();
    println!("an intent, one after the other              {single:8.1?} each   {ratio:.2} x");
    println!("intents, {THREADS} at the same time                {grouped:8.0} /s (best of {ROUNDS} rounds)");
    println!("events, nobody waits                        {streamed:8.0} /s (best of {ROUNDS} rounds)");
    let begun = Instant::now();
    let report = verify(&dir.join("audit-0"), &Known::default()).expect("readable");
    assert!(report.intact, "{report:?}");
    let wanted = SINGLE + THREADS * EACH + STREAM;
    assert!(report.records >= wanted as u64, "records are lost: {report:?}");
    println!(
        "verified                                    {:8.0} /s",
        report.records as f64 / begun.elapsed().as_secs_f64()
    );
    fs::remove_dir_all(&dir).expect("removed");
}

fn open(dir: &Path, round: usize) -> Log {
    let options = Options::new(dir.join(format!("audit-{round}")), dir.join(format!("audit-{round}.key")));
    Log::open(options).expect("a log")
}

/// Lines as long as ours.
fn appends(path: &Path) -> Vec<Duration> {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
    let line = [b'x'; 400];
    let one = |_| {
        timed(|| {
            file.write_all(&line).expect("written");
            file.sync_data().expect("synced");
        })
    };
    (0..SINGLE).map(one).collect()
}

fn together(log: &Log) -> f64 {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = log.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    log.record(intent(thread * EACH + number)).wait().expect("written");
                }
            });
        }
    });
    (THREADS * EACH) as f64 / begun.elapsed().as_secs_f64()
}

fn in_a_stream(log: &Log) -> f64 {
    let begun = Instant::now();
    let mut waiting = VecDeque::new();
    for number in 0..STREAM {
        waiting.push_back(log.record(outcome(number)));
        if waiting.len() == ON_THEIR_WAY {
            waiting.pop_front().expect("some wait").wait().expect("written");
        }
    }
    waiting.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok(), "one was lost"));
    STREAM as f64 / begun.elapsed().as_secs_f64()
}

fn intent(number: usize) -> Event {
    Event::Intent {
        act: Act::Stop,
        agent: format!("agent-{}", number % 512).parse().expect("an id"),
        tenant: "research".parse().ok(),
        who: None,
        request: None,
        policy: "claude".parse().ok(),
        policy_hash: None,
        order: None,
    }
}

fn outcome(number: usize) -> Event {
    let agent = format!("agent-{}", number % 512).parse().expect("an id");
    Event::Acted { intent: number as u64, agent, act: Act::Stop, outcome: Outcome::Done, reason: None }
}

fn timed(deed: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    deed();
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
