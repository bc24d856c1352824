//! The messages of every released version, as files: each must be understood for ever, and said as it was.
//! A directory holds what its version was the first to say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::launcher::Reason;
use super::order::{File, Home, Size, Workspace};
use super::shim::{Phase, Usage, Verdict};
use super::usage::{Carried, Metered};
use super::{Ended, FromLauncher, FromShim, NEWEST, Order, Refusal, ToLauncher, ToShim, Versions};

fn directory(version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/wire/service/golden/{version}"))
}

/// As the version said it that said it first.
fn golden(name: &str) -> Value {
    let mut paths = (1..=NEWEST).map(|version| directory(version).join(format!("{name}.json")));
    let path = paths.find(|path| path.exists()).unwrap_or_else(|| panic!("no version has {name}.json"));
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

fn refusal() -> Refusal {
    Refusal { reason: Reason::Exceeds, detail: "too much".into(), field: Some("memory".into()) }
}

fn usage() -> Usage {
    Usage {
        cpu_us: Some(1),
        memory: Some(2),
        memory_peak: Some(3),
        processes: Some(4),
        sent: Some(5),
        received: Some(6),
        refused: 7,
    }
}

fn ended() -> Ended {
    Ended {
        code: Some(7),
        signal: None,
        out_of_memory: false,
        stopped: true,
        killed: false,
        not_started: None,
        boot: "b".into(),
        at: 9,
        end: 10,
        usage: usage(),
        report: json!({ "denials": [] }),
        metered: None,
    }
}

fn metered() -> Metered {
    let carried = Carried { sent: 12, received: 13 };
    Metered {
        incarnation: "i".into(),
        number: 1,
        since: 2,
        at: 3,
        wall_ms: 4,
        is_final: true,
        complete: true,
        cpu_us: Some(5),
        memory_byte_seconds: Some(6),
        memory_byte_seconds_at_most: Some(7),
        memory: None,
        memory_peak: Some(8),
        io_read: Some(9),
        io_written: Some(10),
        egress: [("public".to_owned(), carried)].into(),
    }
}

fn order() -> Order {
    Order {
        id: "a".into(),
        tenant: "t".into(),
        policy: "shell".into(),
        command: vec!["sh".into()],
        arguments: vec!["-l".into()],
        workspace: Workspace::Directory { path: "/srv/work/w".into() },
        home: Home::Named { name: "h".into() },
        home_wait_ms: 0,
        environment: variables(),
        files: vec![File { path: "f".into(), content: "c".into(), ..File::default() }],
        memory: Some(1),
        millicpus: Some(2),
        processes: Some(3),
        allow: Some(vec!["example.org:443".into()]),
        size: size(),
        term: "xterm".into(),
        log_bytes: 1 << 20,
    }
}

fn variables() -> BTreeMap<String, String> {
    [("A".to_owned(), "b".to_owned())].into()
}

fn size() -> Size {
    Size { cols: 80, rows: 24 }
}

/// Every variant; a new one does not compile until it has a file.
fn to_launcher() -> Vec<(&'static str, ToLauncher)> {
    let id = || "a".to_owned();
    let all = [
        ToLauncher::Hello { versions: Versions { oldest: 1, newest: 1 } },
        ToLauncher::Launch { id: id() },
        ToLauncher::Relaunch { id: id() },
        ToLauncher::Kill { id: id() },
        ToLauncher::Remove { id: id(), workspace: true },
    ];
    let name = |message: &ToLauncher| match message {
        ToLauncher::Hello { .. } => "to-launcher.hello",
        ToLauncher::Launch { .. } => "to-launcher.launch",
        ToLauncher::Relaunch { .. } => "to-launcher.relaunch",
        ToLauncher::Kill { .. } => "to-launcher.kill",
        ToLauncher::Remove { .. } => "to-launcher.remove",
    };
    all.into_iter().map(|message| (name(&message), message)).collect()
}

fn from_launcher() -> Vec<(&'static str, FromLauncher)> {
    let all = [
        FromLauncher::Welcome { version: 1, program: "0.1.0".into(), boot: "b".into() },
        FromLauncher::Launched { pid: 7 },
        FromLauncher::Done,
        FromLauncher::Refused(refusal()),
    ];
    let name = |message: &FromLauncher| match message {
        FromLauncher::Welcome { .. } => "from-launcher.welcome",
        FromLauncher::Launched { .. } => "from-launcher.launched",
        FromLauncher::Done => "from-launcher.done",
        FromLauncher::Refused(_) => "from-launcher.refused",
    };
    all.into_iter().map(|message| (name(&message), message)).collect()
}

fn to_shim() -> Vec<(&'static str, ToShim)> {
    let all = [
        ToShim::Hello { versions: Versions { oldest: 1, newest: 1 } },
        ToShim::Resize(size()),
        ToShim::Signal { number: 15 },
        ToShim::Stop { grace_ms: 5000 },
        ToShim::Usage,
        ToShim::Exec { exec: 1, command: vec!["ls".into(), "-l".into()], environment: variables() },
        ToShim::EndExec { exec: 1 },
        ToShim::Dial { port: 1455 },
        ToShim::Secret { name: "n".into(), value: "v".into() },
    ];
    let name = |message: &ToShim| match message {
        ToShim::Hello { .. } => "to-shim.hello",
        ToShim::Resize(_) => "to-shim.resize",
        ToShim::Signal { .. } => "to-shim.signal",
        ToShim::Stop { .. } => "to-shim.stop",
        ToShim::Usage => "to-shim.usage",
        ToShim::Exec { .. } => "to-shim.exec",
        ToShim::EndExec { .. } => "to-shim.end-exec",
        ToShim::Dial { .. } => "to-shim.dial",
        ToShim::Secret { .. } => "to-shim.secret",
    };
    all.into_iter().map(|message| (name(&message), message)).collect()
}

fn from_shim() -> Vec<(&'static str, FromShim)> {
    let welcome = FromShim::Welcome {
        version: 1,
        id: "a".into(),
        pid: 7,
        boot: "b".into(),
        phase: Phase::Running,
        end: 8,
        taken: 9,
        size: size(),
    };
    let all = [
        welcome,
        FromShim::Running { since: 1 },
        FromShim::NotStarted(refusal()),
        FromShim::Output { end: 1 },
        FromShim::Taken { total: 1 },
        FromShim::Usage(usage()),
        FromShim::ExecEnded { exec: 1, code: Some(0), refused: None },
        FromShim::Refused(refusal()),
        FromShim::Verdict(Verdict {
            wall: "egress".into(),
            allowed: false,
            what: "example.org".into(),
            port: Some(443),
            why: Some("not-allowed".into()),
        }),
        FromShim::Ended(ended()),
    ];
    let name = |message: &FromShim| match message {
        FromShim::Welcome { .. } => "from-shim.welcome",
        FromShim::Running { .. } => "from-shim.running",
        FromShim::NotStarted(_) => "from-shim.not-started",
        FromShim::Output { .. } => "from-shim.output",
        FromShim::Taken { .. } => "from-shim.taken",
        FromShim::Usage(_) => "from-shim.usage",
        FromShim::ExecEnded { .. } => "from-shim.exec-ended",
        FromShim::Refused(_) => "from-shim.refused",
        FromShim::Verdict(_) => "from-shim.verdict",
        FromShim::Ended(_) => "from-shim.ended",
    };
    all.into_iter().map(|message| (name(&message), message)).collect()
}

/// Said as it was, understood as it was, and understood with what a later version adds.
fn check<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    let golden = golden(name);
    assert_eq!(serde_json::to_value(message).expect("JSON"), golden, "{name} is said differently");
    let understood: M = serde_json::from_value(golden.clone()).expect(name);
    assert_eq!(&understood, message, "{name} is understood differently");
    let mut later = golden;
    later["ofALaterVersion"] = json!({ "x": [1] });
    let understood: M = serde_json::from_value(later).expect(name);
    assert_eq!(&understood, message, "{name} with an unknown field");
}

#[test]
fn every_message_is_said_and_understood_as_it_was() {
    to_launcher().iter().for_each(|(name, message)| check(name, message));
    from_launcher().iter().for_each(|(name, message)| check(name, message));
    to_shim().iter().for_each(|(name, message)| check(name, message));
    from_shim().iter().for_each(|(name, message)| check(name, message));
    check("order.all", &order());
    check("order.waits", &Order { home_wait_ms: 5000, ..order() });
    check("ended", &ended());
    check("ended.metered", &Ended { metered: Some(Box::new(metered())), ..ended() });
    check("metered", &metered());
}

#[test]
fn an_order_that_says_the_least_is_understood() {
    let least: Order = serde_json::from_value(golden("order.least")).expect("an order");
    let nothing = Order {
        command: Vec::new(),
        arguments: Vec::new(),
        workspace: Workspace::None,
        home: Home::Ephemeral,
        environment: BTreeMap::new(),
        files: Vec::new(),
        memory: None,
        millicpus: None,
        processes: None,
        allow: None,
        term: "xterm-256color".into(),
        ..order()
    };
    assert_eq!(least, nothing);
}

#[test]
fn what_a_later_version_says_is_not_mistaken() {
    let phase: Phase = serde_json::from_value(json!("hibernating")).expect("a phase");
    assert_eq!(phase, Phase::Other);
    let reason: Reason = serde_json::from_value(json!("weather")).expect("a reason");
    assert_eq!(reason, Reason::Other);
    let busy: Reason = serde_json::from_value(json!("busy")).expect("a reason of version 2");
    assert_eq!(busy, Reason::Busy);
    serde_json::from_value::<ToShim>(json!({ "type": "dance" })).expect_err("no message of this version");
}

#[test]
fn no_file_is_left_unread() {
    let mut names: Vec<&str> =
        vec!["order.all", "order.waits", "order.least", "ended", "ended.metered", "metered"];
    names.extend(to_launcher().iter().map(|(name, _)| *name));
    names.extend(from_launcher().iter().map(|(name, _)| *name));
    names.extend(to_shim().iter().map(|(name, _)| *name));
    names.extend(from_shim().iter().map(|(name, _)| *name));
    let all = (1..=NEWEST).flat_map(|version| fs::read_dir(directory(version)).expect("listed"));
    for entry in all.flatten() {
        let name = entry.file_name().into_string().expect("plain");
        let stem = name.strip_suffix(".json").expect("JSON");
        assert!(names.contains(&stem), "{name} is read by no test");
    }
}
