//! The whole service in the foreground, worked with by the commands: one test per promise.

#[path = "common/dev.rs"]
#[allow(dead_code)]
mod dev;
#[path = "common/pty.rs"]
#[allow(dead_code)]
mod pty;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use dev::{Dev, STOCKADE};
use pty::Session;
use serde_json::Value;

#[test]
fn an_agent_is_started_seen_typed_to_waited_for_and_removed() {
    let dev = Dev::start();
    dev.shell("a", "echo hello; read x; echo \"got $x\"; exit 7");
    dev.until(&["logs", "a"], |log| log == "hello\n");
    assert!(dev.ok(&["ls"]).contains("a   shell"), "{}", dev.ok(&["ls"]));
    let agent: Value = serde_json::from_str(&dev.ok(&["--json", "get", "a"])).expect("a document");
    assert_eq!((agent["id"].as_str(), agent["tenant"].as_str()), (Some("a"), Some("dev")));
    assert_eq!(agent["owner"], "spiffe://stockade.dev/admin");

    let output = dev.run(&["exec", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(
        (output.status.code(), &output.stdout[..], &output.stderr[..]),
        (Some(3), &b"out\n"[..], &b"err\n"[..])
    );
    let late = dev.run(&["exec", "a", "--timeout", "500ms", "--", "sh", "-c", "sleep 4321 & sleep 4321"]);
    assert_eq!(late.status.code(), Some(6), "{late:?}");
    dev.until(&["exec", "a", "--", "ps", "-A", "-o", "args"], |seen| !seen.contains("sleep 4321"));
    assert!(dev.ok(&["stats"]).lines().any(|line| line.starts_with("a ")));

    dev.ok(&["send", "a", "hi"]);
    assert_eq!(dev.ok(&["wait", "a", "--timeout", "30s"]), "a exited (exit code 7)\n");
    assert_eq!(dev.ok(&["logs", "a"]), "hello\nhi\ngot hi\n");
    assert_eq!(dev.ok(&["logs", "a", "--tail", "1"]), "got hi\n");
    assert_eq!(dev.ok(&["screen", "a"]), "hello\nhi\ngot hi\n");
    assert_eq!(dev.ok(&["logs", "a", "--raw"]), "hello\r\nhi\r\ngot hi\r\n");
    let recording = dev.ok(&["recording", "a"]);
    let head: Value = serde_json::from_str(recording.lines().next().expect("a head")).expect("a document");
    assert_eq!((&head["version"], &head["width"]), (&2.into(), &120.into()));
    assert!(dev.ok(&["events"]).contains("a exited (exit code 7)"));

    assert_eq!(dev.ok(&["rm", "a"]), "a\n");
    assert_eq!(dev.run(&["get", "a"]).status.code(), Some(3));
}

#[test]
fn what_a_role_or_a_name_forbids_is_told_by_the_exit_code() {
    let dev = Dev::start();
    dev.shell("a", "read x");
    let as_client = |name: &str, words: &[&str]| {
        let (cert, key) =
            (dev.dir().join(format!("pki/{name}.crt")), dev.dir().join(format!("pki/{name}.key")));
        let output = dev.command(words).arg("--cert").arg(cert).arg("--key").arg(key).output();
        output.expect("stockade starts").status.code()
    };
    assert_eq!(as_client("viewer", &["get", "a"]), Some(0));
    assert_eq!(as_client("viewer", &["stop", "a"]), Some(4));
    assert_eq!(as_client("auditor", &["get", "a"]), Some(4));
    assert_eq!(as_client("parallax", &["send", "a", "x"]), Some(0));
    dev.shell("b", "read x");
    assert_eq!(dev.run(&["spawn", "--type", "shell", "--id", "b", "--", "true"]).status.code(), Some(5));
    assert_eq!(dev.run(&["spawn", "--type", "shell", "--policy", "nonsense"]).status.code(), Some(2));
    assert_eq!(dev.run(&["login", "b"]).status.code(), Some(3));
    assert_eq!(dev.run(&["wait", "b", "--timeout", "50ms"]).status.code(), Some(6));
    assert_eq!(dev.ok(&["stop", "b", "--force"]), "b exited (signal 9)\n");
}

/// Three thousand lines, slowly enough to be interrupted.
const COUNTING: &str =
    "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.05; done";

#[test]
fn no_byte_is_lost_when_daemon_and_launcher_are_killed_while_somebody_is_attached() {
    let dev = Dev::start();
    dev.shell("a", COUNTING);
    let waiting = dev.command(&["wait", "a"]).spawn().expect("stockade starts");
    let mut following = dev.command(&["logs", "a", "-f"]).spawn().expect("stockade starts");
    // Both are there before anything is killed: whom no service answers at first is told so.
    let mut followed = BufReader::new(following.stdout.take().expect("piped"));
    let mut lines = String::new();
    followed.read_line(&mut lines).expect("a line");
    let is_get = r#""endpoint":"Get""#;
    dev.until(&["--json", "audit", "tail"], |records| {
        records.lines().any(|line| line.contains(is_get) && line.contains(r#""agent":"a""#))
    });
    let mut attached = dev.command(&["attach", "a", "--since", "0"]).spawn().expect("stockade starts");
    let mut shown = attached.stdout.take().expect("piped");
    let mut all = Vec::new();
    for program in ["stockaded", "stockade-launch", "stockaded"] {
        let mut some = [0; 4000];
        shown.read_exact(&mut some).expect("output");
        all.extend_from_slice(&some);
        dev.kill(program);
    }
    shown.read_to_end(&mut all).expect("the rest");
    assert!(attached.wait().expect("it ended").success());
    let wanted: String = (0..3000).map(|number| format!("line {number}\r\n")).collect();
    assert!(all == wanted.as_bytes(), "{} bytes instead of {}", all.len(), wanted.len());
    followed.read_to_string(&mut lines).expect("the rest");
    let said = following.wait_with_output().expect("ended").stderr;
    assert!(lines == wanted.replace('\r', ""), "{}", String::from_utf8_lossy(&said));
    let waited = waiting.wait_with_output().expect("ended");
    assert_eq!(String::from_utf8_lossy(&waited.stdout), "a exited (exit code 0)\n");
}

#[test]
fn at_a_terminal_an_agent_is_worked_with_as_if_it_ran_here() {
    let dev = Dev::start();
    dev.shell("a", "stty size; exec sh -i");
    let mut shell = Session::bash(90, 20);
    let config = dev.dir().join("client.toml");
    shell.send(&format!("export STOCKADE_CLIENT_CONFIG={}\n", config.display()));
    shell.expect("$ ");
    shell.send(&format!("{STOCKADE} attach a\n"));
    shell.expect("\x1b[2J");
    // Whose window is the only one, its size is the terminal's.
    shell.send("stty size; echo $((40 + 2))\r");
    shell.expect("20 90");
    shell.expect("42");
    shell.resize(70, 15);
    // Two windows' news may be under way: keys and sizes are not in step, with ssh neither.
    shell.insists("15 70", |shell, _| shell.send("stty size\r"));
    shell.send("sleep 100; echo \"ended $?\"\r");
    dev.until(&["exec", "a", "--", "sh", "-c", "cat /proc/[0-9]*/comm"], |names| names.contains("sleep"));
    shell.send("\x03");
    shell.send("echo $((60 + 6))\r");
    shell.expect("66");
    shell.send("\x1d");
    shell.expect("left a; it goes on");
    shell.expect("$ ");
    assert!(!shell.is_raw());
    shell.send(&format!("{STOCKADE} attach a\n"));
    // The screen as it was.
    shell.expect("66");
    shell.send("exit 5\r");
    shell.expect("a has ended: exit code 5");
}

#[test]
fn a_client_without_a_certificate_works_with_it_through_the_proxy() {
    let dev = Dev::start();
    dev.shell("a", "read x");
    let mut proxy = dev.command(&["proxy", "--listen", "127.0.0.1:0"]).spawn().expect("stockade starts");
    let mut told = Vec::new();
    let mut byte = [0];
    while proxy.stdout.as_mut().expect("piped").read(&mut byte).expect("text") == 1 && byte[0] != b'\n' {
        told.push(byte[0]);
    }
    let told = String::from_utf8(told).expect("text");
    let address = told.strip_prefix("listening http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .write_all(b"GET /api/agents HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"a\""), "{answer}");
    proxy.kill().expect("it runs");
    proxy.wait().expect("it ended");
}

#[test]
fn the_next_service_finds_what_a_killed_one_has_left() {
    let mut dev = Dev::start();
    dev.shell("a", "echo before; read x; echo \"got $x\"");
    dev.until(&["logs", "a"], |log| log == "before\n");
    dev.kill_itself();
    dev.start_again();
    dev.ok(&["send", "a", "after"]);
    assert_eq!(dev.ok(&["wait", "a", "--timeout", "30s"]), "a exited (exit code 0)\n");
    assert_eq!(dev.ok(&["logs", "a"]), "before\nafter\ngot after\n");
}

#[test]
fn its_end_is_the_end_of_all_agents_and_leaves_nothing() {
    let mut dev = Dev::start();
    let mounts = || std::fs::read_to_string("/proc/self/mounts").expect("mounts").lines().count();
    let before = mounts();
    dev.shell("heeds", "sleep 1000");
    // It ignores SIGTERM, and what it started does, too.
    dev.shell("stubborn", "trap '' TERM; sleep 1000 & echo up; while :; do sleep 1; done");
    dev.until(&["logs", "stubborn"], |log| log == "up\n");
    dev.end();
    assert_eq!(dev.pids(), vec![], "processes");
    assert_eq!(mounts(), before, "mounts");
    let run = dev.dir().join("run/stockade");
    assert!(!run.join("launcher.sock").exists());
    assert_eq!(std::fs::read_dir(run.join("shims")).expect("there").count(), 0, "sockets");
    for id in ["heeds", "stubborn"] {
        let ended = dev.dir().join("var/lib/stockade/agents").join(id).join("exit.json");
        assert!(ended.exists(), "{} is missing", ended.display());
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = directory.path().join("dev");
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(STOCKADE);
        let output = command.arg("dev").arg("--dir").arg(&dir).args(words).stdin(Stdio::null()).output();
        let output = output.expect("stockade starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = run(&["--etcd", "https://127.0.0.1:2379"]);
    assert!(code == Some(2) && told.contains("--etcd"), "{told}");
    assert!(!dir.exists());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (code, told) = run(&["--listen", &taken.local_addr().expect("an address").to_string()]);
    assert!(code == Some(1) && told.contains("cannot listen on 127.0.0.1:"), "{told}");
}
