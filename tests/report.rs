//! The report and what people are told at the end: real runs on this host, held to `docs/report.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use stockade::shim::audit::Refusal;
use stockade::shim::denials::Denial;
use stockade::shim::egress::Account;
use stockade::wire::egress::{Protocol, Reason, Record, Verdict};

/// Objects whose keys are the kernel's own: documented as one.
const OPEN: [&str; 3] = ["attestation.namespaces", "attestation.capabilities", "attestation.rlimits"];

/// Runs `script` under `policy`; what came of it, and the report.
fn run(policy: &str, script: &str) -> (Output, Value) {
    let directory = tempfile::tempdir().expect("a directory");
    let report = directory.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["run", "--policy", policy, "--report"])
        .arg(&report)
        .args(["--", "sh", "-c", script])
        .output()
        .expect("stockade starts");
    let text = fs::read_to_string(&report)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output, serde_json::from_str(&text).expect("JSON"))
}

fn told(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter_map(|line| line.strip_prefix("stockade: ")).map(str::to_owned).collect()
}

/// The names of all values below `value`, `[]` for a list of objects and `*` for keys that are not ours.
fn names(name: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = if OPEN.contains(&name) { "*" } else { key };
                let dot = if name.is_empty() { "" } else { "." };
                names(&format!("{name}{dot}{key}"), value, into);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.iter().for_each(|value| names(&format!("{name}[]"), value, into));
        }
        _ => {
            into.insert(name.to_owned());
        }
    }
}

/// The first column of every table in the document.
fn documented() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.md");
    let text = fs::read_to_string(path).expect("the document");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// A connection that was let through, an attempt that was not, and a gateway that ended: with all that can be said of them.
fn account() -> Account {
    let allowed = Verdict::Allowed { rule: "a.example:443".into(), trouble: Some("cut".into()) };
    let refused = Verdict::Refused { reason: Reason::Sni, detail: "another name".into(), remedy: None };
    let mut account = Account::default();
    for verdict in [allowed, refused] {
        account.add(Record {
            protocol: Protocol::Tcp,
            name: Some("a.example".into()),
            address: Some([192, 0, 2, 1].into()),
            port: 443,
            sent: 1,
            received: 2,
            duration: 3,
            count: 1,
            verdict,
        });
    }
    account.restarted("signal 9");
    account
}

#[test]
fn every_key_of_a_report_is_documented_and_every_documented_key_is_in_a_report() {
    let (_, mut report) = run("shell", "unshare --user true; kill -9 $$");
    // What this host's audit may not tell: the form of an entry is the same for every wall.
    let refusal = |path: Option<&str>, port| Refusal { right: "x".into(), path: path.map(Into::into), port };
    let denials = report["denials"].as_array_mut().expect("a list");
    for refusal in [refusal(Some("/x"), None), refusal(None, Some(80))] {
        denials.push(serde_json::to_value(Denial::by_landlock(&refusal, 1)).expect("JSON"));
    }
    // A run without a gateway has nothing of the kind.
    let (traffic, refused) = account().close();
    report["network"] = serde_json::to_value(traffic).expect("JSON");
    let denials = report["denials"].as_array_mut().expect("a list");
    denials.extend(refused.iter().map(|denial| serde_json::to_value(denial).expect("JSON")));
    let mut found = BTreeSet::new();
    names("", &report, &mut found);
    assert_eq!(found, documented());
}

#[test]
fn a_refused_call_is_reported_with_wall_cause_and_remedy() {
    let (output, report) = run("shell", "unshare --user true; exit 3");
    let denials = report["denials"].as_array().expect("a list");
    let unshare = denials.iter().find(|denial| denial["call"] == "unshare").expect("unshare was refused");
    assert_eq!(unshare["wall"], "seccomp");
    assert_eq!(unshare["count"], 1);
    assert!(
        unshare["cause"].as_str().is_some_and(|cause| cause.starts_with("not on the allow-list")),
        "{unshare}"
    );
    assert_eq!(unshare["remedy"], "[syscalls] nested-namespaces = true");
    assert_eq!(
        told(&output),
        [
            "refused system call unshare; to allow it: [syscalls] nested-namespaces = true",
            "to learn why: stockade policy explain shell unshare",
        ]
    );
}

#[test]
fn an_agent_that_failed_by_itself_or_did_not_fail_is_told_nothing() {
    let (output, report) = run("shell", "exit 3");
    assert_eq!((told(&output), report["exit"]["code"].as_u64()), (vec![], Some(3)));
    let (output, report) = run("shell", "unshare --user true; exit 0");
    assert_eq!((told(&output), report["exit"]["code"].as_u64()), (vec![], Some(0)));
    assert_ne!(report["denials"], serde_json::json!([]), "what was refused is in the report all the same");
}

#[test]
fn what_landlock_refuses_is_reported_where_audit_tells_and_said_to_be_unknown_where_not() {
    let connect = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 9))'";
    let (output, report) = run("offline", connect);
    let text = String::from_utf8_lossy(&output.stderr);
    // Before ABI 4 it knows nothing of TCP: then nobody listens there.
    let knows_tcp = report["attestation"]["landlock"]["abi"].as_u64() >= Some(4);
    let closed = if knows_tcp { "Permission denied" } else { "Connection refused" };
    assert!(text.contains(closed), "the way must have been closed by Landlock: {text}");
    let audit = report["landlockAudit"].as_str().expect("a string");
    let denials = report["denials"].as_array().expect("a list");
    let tcp = denials.iter().find(|denial| denial["right"] == "net.connect_tcp");
    match audit.split(':').next() {
        Some("complete") => {
            let tcp = tcp.expect("audit told of it");
            assert_eq!((&tcp["wall"], &tcp["port"]), (&"landlock".into(), &9.into()));
            assert_eq!(tcp["remedy"], "[network] loopback = true");
        }
        Some("unavailable") => assert_eq!(tcp, None),
        _ => panic!("{audit}"),
    }
}

/// What `stockade policy explain` says in JSON.
fn explain(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["--json", "policy", "explain"])
        .args(arguments)
        .output()
        .expect("stockade starts");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn what_explain_says_of_a_path_is_what_an_agent_finds() {
    let directory = tempfile::tempdir().expect("a directory");
    let workspace = directory.path().join("work");
    fs::create_dir_all(workspace.join(".git")).expect("a repository of sorts");
    let workspace = workspace.to_str().expect("a plain path");
    for (path, verdict) in [
        ("/usr/bin/env", "read-only"),
        ("/etc/shadow", "absent"),
        ("/etc/passwd", "generated"),
        ("/etc/os-release", "read-only"),
        ("/tmp", "private"),
        ("/proc/kcore", "masked"),
        (workspace, "writable"),
        (&format!("{workspace}/.git/hooks"), "protected"),
    ] {
        let said = explain(&["base", path, "--workspace", workspace]);
        assert_eq!(said["verdict"], verdict, "{said}");
        let found = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["run", "--policy", "base", "--workspace", workspace, "--", "sh", "-c"])
            .arg(format!(
                "test -e {path} || exit 10; test -w {path} && exit 11; test -s {path} || exit 12; exit 13"
            ))
            .output()
            .expect("stockade starts");
        let expected: &[i32] = match verdict {
            "absent" => &[10],
            "writable" | "private" => &[11],
            "masked" => &[10, 12], // a kernel without it has nothing to cover
            _ => &[13],
        };
        let code = found.status.code().expect("an exit code");
        assert!(expected.contains(&code), "{path} is said to be {verdict}, but: {code}");
    }
}

#[test]
fn explain_answers_for_calls_and_tcp_and_refuses_what_is_neither() {
    assert_eq!(explain(&["base", "ptrace"])["remedy"], r#"[syscalls] allow = ["ptrace"]"#);
    assert_eq!(explain(&["base", "read"])["verdict"], "allowed");
    assert_eq!(explain(&["shell", "tcp"])["decidedBy"]["policy"], "shell");
    assert_eq!(explain(&["base", "tcp"])["decidedBy"]["policy"], Value::Null);
    let error = explain(&["base", "ptrac"])["error"].as_str().expect("an error").to_owned();
    assert!(error.contains(r#"did you mean "ptrace"?"#), "{error}");
}
