//! `stockade audit verify`: what scripts rely on.

mod audit;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use audit::Site;
use stockade::audit::Key;

#[test]
fn an_intact_log_is_0_a_tampered_one_8_and_no_log_1() {
    let site = Site::with_events(30);
    let intact = run(&[&site.audit()], &[]);
    assert_eq!(intact.status.code(), Some(0), "{intact:?}");
    assert!(text(&intact).starts_with("intact: records 1 to "), "{intact:?}");

    let (path, mut lines) = site.lines().swap_remove(1);
    let at = 3;
    lines[at][40] ^= 1;
    fs::write(&path, lines.concat()).expect("written");
    let tampered = run(&[&site.audit()], &[]);
    assert_eq!(tampered.status.code(), Some(8), "{tampered:?}");
    let line = format!("{}:{}: ", path.display(), at + 1);
    assert!(text(&tampered).starts_with("tampered: altered: record ") && text(&tampered).contains(&line));

    let json = run(&[&site.audit()], &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one document");
    assert_eq!((&report["intact"], &report["finding"]["kind"]), (&false.into(), &"altered".into()));
    assert_eq!(report["finding"]["seq"].as_u64(), Some(site.lines()[0].1.len() as u64 + at as u64 + 1));

    let empty = tempfile::tempdir().expect("a directory");
    for nothing in [empty.path(), Path::new("/nonexistent")] {
        assert_eq!(run(&[nothing], &[]).status.code(), Some(1));
    }
}

#[test]
fn the_key_is_named_by_its_id_its_digits_or_its_file() {
    let site = Site::with_events(20);
    let key = Key::load(&site.dir.path().join("audit.key")).expect("a key").public();
    let pem = site.dir.path().join("audit.pub");
    fs::write(&pem, key.pem()).expect("written");
    for known in [key.id(), key.0.to_string(), pem.display().to_string()] {
        assert_eq!(run(&[&site.audit()], &["--signed-by", &known]).status.code(), Some(0), "{known}");
    }
    let other = run(&[&site.audit()], &["--signed-by", "0123456789abcdef"]);
    assert_eq!(other.status.code(), Some(8));
    assert!(text(&other).contains("forged checkpoint"), "{other:?}");
}

#[test]
fn a_head_that_was_kept_shows_that_a_log_was_rolled_back() {
    let once = Site::with_events(20);
    let site = once.copy();
    let log = site.open();
    log.record(audit::event(1)).wait().expect("written");
    log.close();
    let kept = site.dir.path().join("kept");
    fs::copy(site.audit().join("head"), &kept).expect("a copy");
    let against = ["--against", kept.to_str().expect("text")];
    assert_eq!(run(&[&site.audit()], &against).status.code(), Some(0));
    let rolled_back = run(&[&once.audit()], &against);
    assert_eq!(rolled_back.status.code(), Some(8));
    assert!(text(&rolled_back).contains("rolled back"), "{rolled_back:?}");
}

#[test]
fn a_signature_in_the_log_can_be_checked_with_openssl() {
    let site = Site::with_events(20);
    let dir = site.dir.path();
    let seal = stockade::audit::Seal::parse(&fs::read(site.audit().join("head")).expect("a head"));
    let seal = seal.expect("a seal");
    let signature = stockade::audit::digest::from_hex(&seal.signature).expect("digits");
    fs::write(dir.join("message"), seal.message()).expect("written");
    fs::write(dir.join("signature"), signature).expect("written");
    let key = Key::load(&dir.join("audit.key")).expect("a key").public();
    fs::write(dir.join("audit.pub"), key.pem()).expect("written");
    let verified = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-inkey", "audit.pub", "-rawin"])
        .args(["-in", "message", "-sigfile", "signature"])
        .current_dir(dir)
        .output()
        .expect("openssl");
    assert!(verified.status.success(), "{verified:?}");
}

fn run(paths: &[&Path], options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(["audit", "verify"]).args(paths).args(options).output().expect("stockade")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
