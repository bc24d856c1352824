//! Every attempt, in every surrounding: bare, where it must get through, and in Stockade, where it must not.

use std::collections::BTreeSet;

use sandbox_tests::attempts;
use sandbox_tests::kernel::call;
use sandbox_tests::runner::start::{self, Outcome, Surroundings, binary};
use sandbox_tests::runner::summary::Summary;
use sandbox_tests::runner::{belt, leak, plant, stockade};

/// Attempts that get through a sandbox because they are meant to. This is the whole list for every policy.
const DOCUMENTED: &[(&str, &str)] = &[
    ("socketpair_unix", "a process may talk to itself"),
    ("alias_exec", "programs are allowed by what they are, not by what they are called"),
    ("unix_workspace", "whoever leaves a socket in the workspace offers it; paths know no namespaces"),
];

/// What a policy grants on top, in its own words: `tmp-exec`, and no hold on a repository that is not there yet.
const GRANTED: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("offline", &["loader_exec"]),
    ("shell", &["git_init", "git_file"]),
    ("claude", &["loader_exec"]),
    ("codex", &["loader_exec"]),
    ("gemini", &["loader_exec"]),
    ("aider", &["loader_exec"]),
];

/// What Landlock has learnt, and the ABI that it came with: on an older kernel each is a shortfall that `base` tolerates.
const LANDLOCK: &[(i64, &str)] =
    &[(3, "landlock-truncate"), (4, "landlock-tcp"), (5, "landlock-ioctl-dev"), (6, "landlock-scope")];
const SYS_LANDLOCK_CREATE_RULESET: i64 = 444;
/// `LANDLOCK_CREATE_RULESET_VERSION`: asks for the ABI.
const VERSION: usize = 1;

/// Makes every attempt in `surroundings`, which leave nothing behind.
fn summary_of(surroundings: &Surroundings) -> Summary {
    let planted = plant::all(&binary("probe")).expect("decoys can be planted");
    leak::none_after(|| {
        let mut summary = Summary::default();
        for attempt in attempts::all() {
            let outcome = start::attempt(&attempt, surroundings, &planted);
            summary.add(&attempt, outcome);
        }
        summary
    })
}

#[test]
fn every_attempt_gets_through_where_there_is_no_sandbox() {
    belt::inside("every_attempt_gets_through_where_there_is_no_sandbox", || {
        let planted = plant::all(&binary("probe")).expect("decoys can be planted");
        let (mut through, mut failures, mut excused) = (0, Vec::new(), Vec::new());
        for attempt in attempts::all() {
            match start::attempt(&attempt, &Surroundings::Bare, &planted) {
                Outcome::Through(_) => through += 1,
                Outcome::Stopped { errno, detail } => match attempt.excuse(errno) {
                    Some(because) => {
                        excused.push(format!("  excused  {:<26} {because} ({detail})", attempt.id))
                    }
                    None => {
                        failures.push(format!("{}: stopped without a wall: {detail} {errno:?}", attempt.id))
                    }
                },
                Outcome::Broken(reason) => failures.push(format!("{}: {reason}", attempt.id)),
            }
        }
        println!("\nno sandbox\n{}\n{through} through, {} excused", excused.join("\n"), excused.len());
        assert!(failures.is_empty(), "{} attempts prove nothing:\n{}", failures.len(), failures.join("\n"));
        assert!(through >= 76, "only {through} attempts are proved to work on this kernel");
    });
}

#[test]
fn the_probe_tells_a_weak_sandbox_from_none() {
    assert!(
        start::is_installed("/usr/bin/bwrap"),
        "this test compares with bubblewrap: apt-get install bubblewrap"
    );
    belt::inside("the_probe_tells_a_weak_sandbox_from_none", || {
        let summary = summary_of(&Surroundings::Bubblewrap);
        println!("{}", summary.table("bubblewrap, started by root, no capabilities", &[]));
        assert!(summary.broken().is_empty(), "{}", summary.broken().join("\n"));
        for (id, expected) in
            [("unshare_user", true), ("socket_vsock", true), ("tcp_loopback", false), ("signal_out", false)]
        {
            assert_eq!(summary.through().contains(&id), expected, "{id}");
        }
    });
}

#[test]
fn no_attempt_gets_through_stockade_under_base() {
    belt::inside("no_attempt_gets_through_stockade_under_base", || nothing_gets_through("base"));
}

#[test]
fn no_attempt_gets_through_stockade_under_shell() {
    belt::inside("no_attempt_gets_through_stockade_under_shell", || nothing_gets_through("shell"));
}

#[test]
fn no_attempt_gets_through_stockade_under_the_policy_of_an_agent() {
    belt::inside("no_attempt_gets_through_stockade_under_the_policy_of_an_agent", || {
        let planted = plant::all(&binary("probe")).expect("decoys can be planted");
        // shell and these extend offline, so it is among them rather than tried a third time at full length.
        for policy in ["offline", "claude", "codex", "gemini", "aider"] {
            let surroundings = Surroundings::Stockade { policy: policy.into() };
            let all = attempts::all();
            let outcomes = leak::none_after(|| start::sweep(&all, &surroundings, &planted));
            let mut summary = Summary::default();
            all.iter().zip(outcomes).for_each(|(attempt, outcome)| summary.add(attempt, outcome));
            judge(policy, &summary);
        }
    });
}

#[test]
fn the_walls_that_this_kernels_landlock_lacks_are_named_and_no_others() {
    belt::inside("the_walls_that_this_kernels_landlock_lacks_are_named_and_no_others", || {
        let abi = call(SYS_LANDLOCK_CREATE_RULESET, &[0, 0, VERSION]).expect("this kernel has Landlock");
        let lacking: BTreeSet<_> =
            LANDLOCK.iter().filter(|(since, _)| abi < *since).map(|(_, name)| *name).collect();
        let report = stockade::directory("report").join("report.json");
        let run = leak::none_after(|| {
            let report = report.to_str().expect("a plain path");
            stockade::run(["--policy", "base", "--report", report, "--", "true"])
        });
        assert_eq!(run.code(), 0, "{run:?}");
        let report = std::fs::read(&report).expect("the report");
        let report: serde_json::Value = serde_json::from_slice(&report).expect("a document");
        let named = report["attestation"]["shortfalls"].as_array().expect("a list").iter();
        let named: BTreeSet<_> =
            named.filter_map(|name| name.as_str()).filter(|name| name.starts_with("landlock")).collect();
        println!("\nLandlock ABI {abi}, tolerated by base: {named:?}");
        assert_eq!(named, lacking);
    });
}

#[test]
fn every_policy_that_is_shipped_is_judged() {
    let policies = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    for entry in std::fs::read_dir(policies).expect("the policies of this repository").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(policy) = name.strip_suffix(".toml") {
            assert!(GRANTED.iter().any(|(judged, _)| *judged == policy), "{policy} is tried by no test");
        }
    }
}

#[test]
fn what_is_let_through_is_documented() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/escape-attempts.md");
    let page = std::fs::read_to_string(page).expect("the page about attempts");
    let granted = GRANTED.iter().flat_map(|(_, ids)| ids.iter());
    for id in DOCUMENTED.iter().map(|(id, _)| id).chain(granted) {
        assert!(
            page.contains(&format!("`{id}`")),
            "docs/escape-attempts.md does not say why {id} is let through"
        );
    }
    let count = format!("{} attempts", attempts::all().len());
    assert!(page.contains(&count), "docs/escape-attempts.md is about another number than {count}");
}

fn nothing_gets_through(policy: &str) {
    judge(policy, &summary_of(&Surroundings::Stockade { policy: policy.into() }));
}

fn judge(policy: &str, summary: &Summary) {
    let granted =
        GRANTED.iter().find(|(name, _)| *name == policy).map(|(_, ids)| *ids).expect("a policy in the table");
    let documented: Vec<&str> = DOCUMENTED.iter().map(|(id, _)| *id).chain(granted.iter().copied()).collect();
    println!("{}", summary.table(&format!("stockade run --policy {policy}"), &documented));
    assert!(summary.broken().is_empty(), "could not be made:\n{}", summary.broken().join("\n"));
    let escaped: Vec<_> = summary.through().into_iter().filter(|id| !documented.contains(id)).collect();
    assert!(escaped.is_empty(), "got through {policy}: {escaped:?}");
    assert!(DOCUMENTED.len() <= 3, "at most three ways out may be documented");
}
