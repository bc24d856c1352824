//! Holds what packages install to the source: units, directories, dashboard, scripts, the staged tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[test]
fn the_launchers_unit_keeps_exactly_the_capabilities_that_it_keeps_itself() {
    let unit = read("packaging/systemd/stockade-launcher.service");
    let line = |line: &&str| line.starts_with("CapabilityBoundingSet=");
    let given: BTreeSet<&str> = unit.lines().filter(line).flat_map(capabilities).collect();
    let (confine, host) = (read("src/launcher/confine.rs"), read("src/host/mod.rs"));
    let wanted: BTreeSet<&str> = [
        constant(&confine, "const USEFUL"),
        constant(&host, "pub const NEEDED:"),
        constant(&host, "pub const NEEDED_FOR_NETWORK"),
    ]
    .into_iter()
    .flat_map(capabilities)
    .collect();
    assert!(wanted.len() > 10, "{wanted:?}: this test reads nothing");
    assert_eq!(given, wanted);
}

#[test]
fn directories_are_made_before_the_first_start_as_the_launcher_makes_them() {
    let tree = read("src/launcher/tree.rs");
    let made = |place: &str| {
        let call = tree.lines().find(|line| line.contains(&format!("make(places.{place}(), 0o")));
        let call = call.unwrap_or_else(|| panic!("src/launcher/tree.rs makes no {place}"));
        let mode = call.split("0o").nth(1).and_then(|rest| rest.get(..3)).expect("a mode").to_owned();
        (mode, if call.contains("Whose::Daemon") { "stockade" } else { "root" })
    };
    let places = BTreeMap::from([
        ("/run/stockade", "run"),
        ("/run/stockade/doors", "doors"),
        ("/var/lib/stockade", "state"),
        ("/var/lib/stockade/agents", "agents"),
        ("/var/lib/stockade/homes", "homes"),
        ("/var/lib/stockade/workspaces", "workspaces"),
        ("/var/lib/stockade/daemon", "records"),
        ("/var/log/stockade/audit", "audit"),
    ]);
    let file = read("packaging/systemd/tmpfiles.conf");
    let mut seen = 0;
    for line in file.lines().filter(|line| line.starts_with("d ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let Some(place) = places.get(words[1]) else { continue };
        let (mode, owner) = made(place);
        assert_eq!(
            (words[2].trim_start_matches('0'), words[3], words[4]),
            (&*mode, owner, "stockade"),
            "{line}"
        );
        seen += 1;
    }
    assert_eq!(seen, places.len());
}

#[test]
fn the_units_start_programs_that_the_package_installs_and_name_the_account_that_it_makes() {
    let daemon = read("packaging/systemd/stockaded.service");
    assert!(daemon.contains("\nUser=stockade\n") && daemon.contains("\nCapabilityBoundingSet=\n"));
    assert!(read("packaging/systemd/sysusers.conf").starts_with("u stockade "));
    let launcher = read("packaging/systemd/stockade-launcher.service");
    for word in ["Delegate=yes", "KillMode=process", "OOMPolicy=continue"] {
        assert!(launcher.lines().any(|line| line == word), "{word}");
    }
    for unit in [daemon, launcher] {
        for line in unit.lines().filter(|line| line.starts_with("Exec")) {
            let program = line.split(['=', ' ', '-']).find(|word| word.starts_with('/')).expect("a program");
            assert!(
                program == "/bin/sh" || program.starts_with("/usr/lib/stockade/stockade"),
                "{line} starts {program}"
            );
        }
    }
}

#[test]
fn every_metric_of_the_dashboard_is_one_that_the_daemon_counts() {
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/stockade.json")).expect("JSON");
    let counted = read("src/daemon/operations/scrape.rs") + &read("src/daemon/operations/metrics.rs");
    let mut seen = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            seen.extend(metrics(target["expr"].as_str().expect("an expression")));
        }
    }
    assert!(seen.len() > 8, "{seen:?}: this test reads nothing");
    for name in seen {
        let plain = ["_total", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        assert!(
            counted.contains(&format!("\"{plain}\"")),
            "the dashboard shows stockade_{name}, which nobody counts"
        );
    }
}

#[test]
fn the_scripts_of_both_packages_are_shell_once_they_are_put_together() {
    for script in ["deb/postinst", "deb/prerm", "deb/postrm", "rpm/post", "rpm/preun", "rpm/postun"] {
        let path = format!("packaging/{script}");
        let output = run(Command::new(root().join("packaging/scripts/assemble.sh")).arg(&path));
        assert!(!output.contains("#include"), "{path} still includes");
        assert!(output.lines().count() > 10, "{path} has nothing in it");
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), output).expect("written");
        run(Command::new("sh").arg("-n").arg(file.path()));
    }
}

#[test]
fn the_staged_tree_has_what_a_package_installs_and_nothing_of_this_machine() {
    let directory = tempfile::tempdir().expect("a directory");
    let (binaries, tree) = (directory.path().join("bin"), directory.path().join("tree"));
    fs::create_dir(&binaries).expect("made");
    for program in
        ["stockade", "stockade-client", "stockade-egress", "stockade-launcher", "stockade-shim", "stockaded"]
    {
        let built = Path::new(env!("CARGO_BIN_EXE_stockade")).with_file_name(program);
        std::os::unix::fs::symlink(&built, binaries.join(program)).expect("linked");
    }
    run(Command::new(root().join("packaging/stage.sh"))
        .args([&binaries, &tree])
        .env("SOURCE_DATE_EPOCH", "1"));
    for file in [
        "etc/stockade/stockaded.toml",
        "usr/bin/stockade",
        "usr/lib/stockade/policies/agents/claude.toml",
        "usr/lib/systemd/system/stockaded.service",
        "usr/share/bash-completion/completions/stockade",
        "usr/share/zsh/vendor-completions/_stockade",
        "usr/share/fish/vendor_completions.d/stockade.fish",
        "usr/share/man/man1/stockade.1.gz",
        "usr/share/man/man5/stockaded.toml.5.gz",
        "usr/share/man/man8/stockade-launcher.8.gz",
        "usr/share/doc/stockade/sbom.cdx.json",
    ] {
        let found = fs::metadata(tree.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(found.len() > 100, "{file} is empty");
    }
    let found =
        Command::new("grep").args(["-rIlF", "--"]).args([&root(), &tree]).output().expect("grep starts");
    assert_eq!(
        (found.status.code(), &found.stdout[..]),
        (Some(1), &b""[..]),
        "these name where they were built"
    );
    let bill: Value = serde_json::from_str(
        &fs::read_to_string(tree.join("usr/share/doc/stockade/sbom.cdx.json")).expect("a bill"),
    )
    .expect("JSON");
    let parts = bill["components"].as_array().expect("components");
    assert!(parts.iter().any(|part| part["name"] == "rustls" && part["hashes"][0]["content"].is_string()));
    assert!(
        parts.iter().all(|part| part["licenses"][0]["expression"].is_string()),
        "a part without a licence"
    );
    assert!(parts.iter().all(|part| part["name"] != "proptest"), "what only tests need is in no program");
}

#[test]
fn a_suite_that_passed_on_a_machine_runs_again_once_a_file_has_changed_or_it_is_asked_for() {
    let scratch = tempfile::tempdir().expect("a directory");
    let script = r#"
        . "$SUITES" && cd "$SCRATCH" && git init -q tree && echo one >tree/source && echo one >program
        seen() { checksum tree program; }
        suite_runs() { suite 6.1 "$1" sh -c "echo ran; $2"; }
        suite_runs passes true; suite_runs passes true
        echo two >tree/source; suite_runs passes true
        echo two >program; suite_runs passes true
        chmod +x program; suite_runs passes true
        STOCKADE_VM_AGAIN=1 suite_runs passes true
        suite_runs changes 'echo three >program'; suite_runs changes true; suite_runs changes true
        suite_runs fails false; suite_runs fails false; all_suites || echo bad"#;
    let mut bash = Command::new("bash");
    let said = run(bash
        .args(["-c", script])
        .env("SUITES", root().join("sandbox-tests/vm/suites.sh"))
        .env("XDG_CACHE_HOME", scratch.path())
        .env("SCRATCH", scratch.path())
        .env_remove("STOCKADE_VM_AGAIN"));
    let what: Vec<_> = said
        .lines()
        .filter(|line| !line.starts_with("== ") || line.contains("very same files"))
        .map(|line| if line.starts_with("== ") { "not again" } else { line })
        .collect();
    let again = ["ran", "not again", "ran", "ran", "ran", "ran"];
    let changed = ["ran", "ran", "not again"];
    let expected = [&again[..], &changed, &["ran", "ran", "failed: fails", "failed: fails", "bad"]].concat();
    assert_eq!(what, expected, "{said}");
}

/// The names after `stockade_` in an expression.
fn metrics(expression: &str) -> Vec<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    expression.split("stockade_").skip(1).map(name).collect()
}

/// Every word that names a capability.
fn capabilities(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("CAP_"))
        .collect()
}

/// A constant's own text.
fn constant<'t>(text: &'t str, head: &str) -> &'t str {
    let at = text.find(head).unwrap_or_else(|| panic!("no {head} in the source"));
    &text[at..at + text[at..].find("];").expect("its end")]
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().expect("a program that can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {}{said}", String::from_utf8_lossy(&output.stderr));
    said
}
