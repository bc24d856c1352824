//! A kernel that lacks something: the start is refused, the thing named, nothing left.

use std::process::Command;

use sandbox_tests::hide;
use sandbox_tests::runner::start::{Run, binary};
use sandbox_tests::runner::{belt, leak, stockade};

/// Features that a wall is made of: what `hide` takes away, and words of which the refusal has to say one.
const NEEDED: &[(&str, &[&str])] = &[
    ("landlock", &["landlock"]),
    ("mount-setattr", &["mount_setattr"]),
    ("mount-api", &["fsopen"]),
    ("open-tree", &["open_tree"]),
    ("move-mount", &["move_mount"]),
    ("fsopen", &["fsopen"]),
    ("fsmount", &["fsmount"]),
    ("openat2", &["openat2"]),
    ("clone3", &["clone3"]),
    ("pidfd", &["pidfd_open"]),
    ("pidfd-open", &["pidfd_open"]),
    ("pidfd-send-signal", &["pidfd_send_signal"]),
    ("seccomp", &["seccomp"]),
    ("pivot-root", &["pivot_root"]),
    ("close-range", &["close_range"]),
    ("setns", &["setns"]),
];

fn start_without(features: &[&str]) -> Run {
    let mut command = Command::new(binary("hide"));
    command.args(features).arg("--").arg(binary("stockade"));
    command.args(["run", "--policy", "base", "--", "/bin/echo", "the command ran"]);
    leak::none_after(|| stockade::finish(&mut command))
}

#[test]
fn a_kernel_that_lacks_nothing_starts_the_command() {
    belt::inside("a_kernel_that_lacks_nothing_starts_the_command", || {
        let run = start_without(&[]);
        assert_eq!((run.code(), run.stdout.as_str()), (0, "the command ran\n"), "{run:?}");
    });
}

#[test]
fn a_start_is_refused_for_each_feature_that_the_kernel_lacks() {
    belt::inside("a_start_is_refused_for_each_feature_that_the_kernel_lacks", || {
        let mut wrong = Vec::new();
        for (feature, words) in NEEDED {
            let run = start_without(&[feature]);
            if !run.stdout.is_empty() {
                wrong.push(format!("{feature}: the command ran without it"));
                continue;
            }
            if run.code() != stockade::REFUSED {
                wrong.push(format!("{feature}: not seen before the start: {run:?}"));
            }
            wrong.extend(run.refusal(words).err().map(|why| format!("{feature}: {why}")));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn every_feature_in_the_table_can_be_hidden() {
    for (feature, _) in NEEDED {
        assert!(hide::FEATURES.iter().any(|(name, _)| name == feature), "{feature}");
    }
}
