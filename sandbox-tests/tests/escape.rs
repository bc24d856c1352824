//! Every attempt, in every surrounding.

use sandbox_tests::attempts;
use sandbox_tests::runner::start::{self, Outcome, Surroundings, binary};
use sandbox_tests::runner::summary::Summary;
use sandbox_tests::runner::{belt, plant};

/// Attempts that get through a sandbox, each because it is meant to: the whole list, for every policy.
const DOCUMENTED: &[(&str, &str)] = &[
    ("socketpair_unix", "a process may talk to itself"),
    ("alias_exec", "programs are allowed by what they are, not by what they are called"),
];

fn summary_of(surroundings: &Surroundings) -> Summary {
    let planted = plant::all(&binary("probe")).expect("decoys can be planted");
    let mut summary = Summary::default();
    for attempt in attempts::all() {
        let outcome = start::attempt(&attempt, surroundings, &planted);
        summary.add(&attempt, outcome);
    }
    summary
}

#[test]
fn every_attempt_gets_through_where_there_is_no_sandbox() {
    belt::inside("every_attempt_gets_through_where_there_is_no_sandbox", || {
        let planted = plant::all(&binary("probe")).expect("decoys can be planted");
        let (mut summary, mut failures, mut excused) = (Summary::default(), Vec::new(), Vec::new());
        for attempt in attempts::all() {
            let outcome = start::attempt(&attempt, &Surroundings::Bare, &planted);
            match &outcome {
                Outcome::Through(_) => {}
                Outcome::Stopped { errno, detail } => match attempt.excuse(*errno) {
                    Some(because) => excused.push(format!("  excused  {:<26} {because} ({detail})", attempt.id)),
                    None => failures.push(format!("{}: stopped without a wall: {detail} {errno:?}", attempt.id)),
                },
                Outcome::Broken(reason) => failures.push(format!("{}: {reason}", attempt.id)),
            }
            summary.add(&attempt, outcome);
        }
        let through = summary.through().len();
        println!("\nno sandbox\n{}\n{through} through, {} excused", excused.join("\n"), excused.len());
        assert!(failures.is_empty(), "{} attempts prove nothing:\n{}", failures.len(), failures.join("\n"));
        assert!(through >= 76, "only {through} attempts are proved to work on this kernel");
    });
}

#[test]
fn the_probe_tells_a_weak_sandbox_from_none() {
    assert!(start::is_installed("/usr/bin/bwrap"), "this test compares with bubblewrap: apt-get install bubblewrap");
    belt::inside("the_probe_tells_a_weak_sandbox_from_none", || {
        let summary = summary_of(&Surroundings::Bubblewrap);
        println!("{}", summary.table("bubblewrap, started by root, no capabilities"));
        assert!(summary.broken().is_empty(), "{}", summary.broken().join("\n"));
        for through in ["unshare_user", "socket_vsock", "secret_by_link"] {
            let expected = through != "secret_by_link";
            assert_eq!(summary.through().contains(&through), expected, "{through}");
        }
    });
}
