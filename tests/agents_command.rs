//! `stockade agents …` as its users see it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

fn agents(arguments: &[&str]) -> Output {
    let mut command = Command::new(STOCKADE);
    command.arg("agents").args(arguments).stdin(Stdio::null());
    command.output().expect("stockade starts")
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a document on each line")).collect()
}

fn recording(name: &str) -> String {
    format!("{}/tests/recordings/{name}.cast", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_replay_tells_each_change_on_a_line_of_its_own() {
    let told = lines(&agents(&["replay", "--type", "codex", &recording("codex-device-80x24"), "--json"]));
    assert_eq!((&told[0]["t"], &told[0]["state"]), (&0.0.into(), &"starting".into()));
    let code = told.iter().find(|line| !line["userCode"].is_null()).expect("a code");
    assert_eq!(code["state"], "login-required");
    assert_eq!(code["userCode"], "LAB1-CODE2");
    assert_eq!(code["loginUrl"], "https://auth.openai.com/codex/device");
    assert!(code["evidence"].as_str().is_some_and(|evidence| !evidence.is_empty()));
    let times: Vec<f64> = told.iter().map(|line| line["t"].as_f64().expect("a time")).collect();
    assert!(times.is_sorted(), "{times:?}");
    let left = code["expiresAt"].as_f64().expect("an end") - code["t"].as_f64().expect("a time");
    assert!((880.0..=900.0).contains(&left), "{left}");
}

#[test]
fn version_three_of_a_recording_says_the_same() {
    let two = fs::read_to_string(recording("codex-device-80x24")).expect("a recording");
    let mut before = 0.0;
    let mut three = String::from("{\"version\":3,\"term\":{\"cols\":80,\"rows\":24}}\n");
    for line in two.lines().skip(1) {
        let (time, code, text): (f64, String, String) = serde_json::from_str(line).expect("an event");
        three.push_str(&format!("{}\n", serde_json::json!([time - before, code, text])));
        before = time;
    }
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("three.cast");
    fs::write(&file, three).expect("written");
    let told = |file: &str| {
        let told = lines(&agents(&["replay", "--json", "--type", "codex", file]));
        told.iter().map(|line| (line["state"].clone(), line["loginUrl"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(told(file.to_str().expect("UTF-8")), told(&recording("codex-device-80x24")));
}

#[test]
fn what_cannot_be_replayed_is_told_with_its_place() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("bad.cast");
    fs::write(&file, "{\"version\":2,\"width\":80,\"height\":24}\n[0.1,\"o\",\"a\"]\nnonsense\n")
        .expect("written");
    let path = file.to_str().expect("UTF-8");
    let output = agents(&["replay", "--type", "claude", path]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(path) && told.contains("line 3"), "{told}");
    let output = agents(&["replay", "--type", "cluade", path]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean \"claude\"?"));
}

fn check(content: &str) -> (i32, String) {
    let directory = TempDir::new().expect("a directory");
    let file: PathBuf = directory.path().join("site.toml");
    fs::write(&file, content).expect("written");
    let output = agents(&["check", file.to_str().expect("UTF-8")]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("an exit code"), told)
}

#[test]
fn a_file_is_checked_to_its_line_and_column() {
    let shipped = String::from_utf8(agents(&["show", "claude"]).stdout).expect("UTF-8");
    assert_eq!(check(&shipped).0, 0);
    let (code, told) = check(&shipped.replace("evidence", "evidense"));
    assert_eq!(code, 1);
    assert!(told.contains("site.toml:") && told.contains("did you mean \"evidence\"?"), "{told}");
    let alone = "description = 'x'\n\n[[screen]]\nname = 'a'\nstate = 'ready'\nevidence = 'b'\nall = [{ text = 'c' }]\n";
    let (code, told) = check(alone);
    assert_eq!(code, 1);
    assert!(told.contains("site.toml:3:1: ") && told.contains("one marker"), "{told}");
    let (_, told) = check(
        &alone.replace("{ text = 'c' }", "{ text = 'c', last = 1 }, { line = 'd' }").replace("ready", "redy"),
    );
    assert!(told.contains("did you mean \"ready\"?"), "{told}");
}

#[test]
fn every_shipped_kind_is_listed_and_sound() {
    let told = lines(&agents(&["check", "--json"]));
    let kinds = told[0].as_array().expect("a list");
    assert!(kinds.iter().all(|kind| kind["ok"] == true), "{kinds:?}");
    let names: Vec<&str> = kinds.iter().filter_map(|kind| kind["name"].as_str()).collect();
    for name in ["aider", "claude", "codex", "custom", "gemini", "shell"] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
}
