//! The shim of a service's agent, spoken to as a daemon does: one test per promise.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use common::leaks::eventually;
use common::node::{Line, Node, Socket, order};
use common::stockade::{field, kill};
use stockade::wire::service::launcher::{Reason, ToLauncher};
use stockade::wire::service::order::{File, Size, Workspace};
use stockade::wire::service::shim::{FromShim, Phase, ToShim};
use stockade::wire::service::{INPUT_WINDOW, places};

fn taken(line: &mut Line, wanted: u64) {
    line.until("Taken", |message| (*message == FromShim::Taken { total: wanted }).then_some(()));
}

#[test]
fn an_agent_runs_shows_takes_input_and_ends_with_its_exit_code() {
    let node = Node::start();
    let mut line =
        node.run(&order("a", "stty -echo; echo ready; read x; echo \"got $x\"; stty size; exit 7"));
    node.shows("a", "ready");
    line.type_in(b"hello\n");
    taken(&mut line, 6);
    let ended = line.await_end();
    assert_eq!((ended.code, ended.signal, ended.not_started.clone()), (Some(7), None, None), "{ended:?}");
    let (first, bytes) = node.log("a");
    assert_eq!((first, bytes.len() as u64, line.end), (0, ended.end, ended.end));
    assert_eq!(node.shown("a"), "ready\r\ngot hello\r\n24 80\r\n");
    assert_eq!(node.exit("a"), Some(ended));
    assert!(node.places().agent("a").join(places::ATTESTATION).exists());
}

#[test]
fn a_later_daemon_finds_everything_as_it_is() {
    let node = Node::start();
    let mut line = node.run(&order("a", "echo one; read x; echo two; read x; stty size; echo three"));
    node.shows("a", "one");
    line.type_in(b"1\n");
    taken(&mut line, 2);
    node.shows("a", "two");
    drop(line);

    let mut later = node.adopt("a");
    let (phase, end, taken) = later.welcome;
    assert_eq!((phase, end, taken), (Phase::Running, node.log("a").1.len() as u64, 2));
    later.say(&ToShim::Resize(Size { cols: 100, rows: 30 }), &[]);
    later.type_in(b"2\n");
    let ended = later.await_end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(node.shown("a"), "one\r\n1\r\ntwo\r\n2\r\n30 100\r\nthree\r\n");
}

#[test]
fn a_newer_daemon_replaces_the_older_and_strangers_get_nothing() {
    let node = Node::start();
    let mut first = node.run(&order("a", "read x"));
    let mut second = node.adopt("a");
    assert_eq!(first.next(), None, "the older line is closed");
    for stranger in [0, 1234] {
        if let Some(socket) = Socket::connect(&node.places().shim_socket("a"), stranger) {
            let versions = stockade::wire::service::Versions::OWN;
            socket.send(&ToShim::Hello { versions }, &[]);
            assert_eq!(socket.receive::<FromShim>(), None, "uid {stranger} was answered");
        }
    }
    second.type_in(b"\n");
    assert_eq!(second.await_end().code, Some(0));
}

#[test]
fn stop_ends_a_tree_that_ignores_sigterm_and_its_cgroup_is_gone() {
    let node = Node::start();
    let script = "trap '' TERM HUP INT; (trap '' TERM; setsid sleep 1000 & sleep 1000 & wait) & echo up; while :; do sleep 1; done";
    let mut line = node.run(&order("a", script));
    node.shows("a", "up");
    node.trace("a");
    line.say(&ToShim::Stop { grace_ms: 200 }, &[]);
    let ended = line.await_end();
    assert!(ended.stopped && ended.killed, "{ended:?}");
    assert_eq!(ended.signal, Some(libc::SIGKILL));
    node.assert_nothing_is_left();
}

#[test]
fn stop_lets_an_agent_end_by_itself_if_it_does_so_in_time() {
    let node = Node::start();
    let mut line =
        node.run(&order("a", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"));
    node.shows("a", "up");
    line.say(&ToShim::Stop { grace_ms: 20_000 }, &[]);
    let ended = line.await_end();
    assert_eq!((ended.code, ended.stopped, ended.killed), (Some(3), true, false), "{ended:?}");
    assert!(node.shown("a").ends_with("bye\r\n"));
}

#[test]
fn an_agent_outlives_launcher_and_daemon_and_is_found_again() {
    let mut node = Node::start();
    let line = node.run(&order("a", "read x; echo still here; read x"));
    node.kill_launcher();
    drop(line);
    let mut line = node.adopt("a");
    line.type_in(b"1\n");
    node.shows("a", "still here");
    node.start_launcher();
    assert_eq!(node.exit("a"), None, "the launcher buried a living agent");
    line.type_in(b"2\n");
    assert_eq!(line.await_end().code, Some(0));
}

#[test]
fn no_byte_is_lost_while_daemons_come_and_go() {
    let node = Node::start();
    let mut line = node.run(&order("a", "stty -opost; read x; seq 1 60000; read x"));
    line.type_in(b"\n");
    for _ in 0..20 {
        drop(line);
        line = node.adopt("a");
    }
    node.shows("a", "60000\n");
    line.type_in(b"\n");
    let ended = line.await_end();
    let expected: String = (1..=60000).map(|n| format!("{n}\n")).collect();
    assert!(node.shown("a").contains(&expected), "the log has something else");
    assert_eq!(ended.end, node.log("a").1.len() as u64);
}

#[test]
fn a_daemon_that_reads_nothing_slows_nobody() {
    let node = Node::start();
    let line = node.run(&order("a", "seq 1 400000; echo done"));
    let exit = || node.exit("a").is_some();
    eventually("the agent ends while its daemon sleeps", exit);
    assert!(node.shown("a").ends_with("done\r\n"));
    drop(line);
}

#[test]
fn the_newest_output_is_kept_and_its_offsets_stay_right() {
    let node = Node::start();
    let order = stockade::wire::service::Order { log_bytes: 256 * 1024, ..order("a", "seq 1 200000") };
    let ended = node.run(&order).await_end();
    let (first, bytes) = node.log("a");
    let all: String = (1..=200_000).map(|n| format!("{n}\r\n")).collect();
    assert_eq!(ended.end, all.len() as u64);
    assert!(first > 0 && bytes.len() <= 256 * 1024, "{} bytes from {first}", bytes.len());
    assert_eq!(bytes, all.as_bytes()[first as usize..]);
}

#[test]
fn more_input_than_the_window_closes_the_line_and_not_the_agent() {
    let node = Node::start();
    let mut line = node.run(&order("a", "stty raw -echo; echo up; sleep 1000"));
    node.shows("a", "up");
    for _ in 0..=INPUT_WINDOW / 32768 + 1 {
        line.type_in(&[b'x'; 32768]);
    }
    while line.next().is_some() {}
    let later = node.adopt("a");
    assert_eq!(later.welcome.0, Phase::Running);
}

#[test]
fn a_message_that_is_none_closes_the_line_and_not_the_agent() {
    let node = Node::start();
    let mut line = node.run(&order("a", "read x"));
    for garbage in [&b"J{"[..], b"X", b"J{\"type\":\"Nonsense\"}", &[b'I'; 40_000]] {
        line.say_raw(garbage);
        while line.next().is_some() {}
        line = node.adopt("a");
    }
    line.type_in(b"\n");
    assert_eq!(line.await_end().code, Some(0));
}

#[test]
fn running_out_of_memory_is_said() {
    let node = Node::start();
    let order =
        stockade::wire::service::Order { memory: Some(64 << 20), ..order("a", "tail /dev/zero; sleep 100") };
    let ended = node.launch(&order).expect("launched").await_end();
    assert!(ended.out_of_memory, "{ended:?}");
}

#[test]
fn a_command_that_is_not_there_is_a_start_that_failed() {
    let node = Node::start();
    let mut order = order("a", "");
    order.command = vec!["no-such-program".into()];
    let mut line = node.launch(&order).expect("launched");
    let refusal = line.until("NotStarted", |message| match message {
        FromShim::NotStarted(refusal) => Some(refusal.clone()),
        FromShim::Running { .. } => panic!("it was said to run"),
        _ => None,
    });
    assert!(refusal.detail.contains("no-such-program"), "{refusal:?}");
    assert_eq!(line.await_end().not_started, Some(refusal));
}

#[test]
fn a_shim_that_is_killed_leaves_nothing_and_the_launcher_says_so() {
    let node = Node::start();
    let line = node.run(&order("a", "setsid sleep 1000 & echo up; sleep 1000"));
    node.shows("a", "up");
    node.trace("a");
    kill(line.pid, libc::SIGKILL);
    eventually("exit.json", || node.exit("a").is_some());
    let ended = node.exit("a").expect("it is there");
    assert!(ended.report["error"].as_str().expect("why").contains("without a word"), "{ended:?}");
    assert_eq!((ended.end, ended.code), (4, None));
    node.assert_nothing_is_left();
}

#[test]
fn a_shim_that_vanished_while_no_launcher_ran_is_found_by_the_next() {
    let mut node = Node::start();
    let line = node.run(&order("a", "sleep 1000"));
    node.kill_launcher();
    kill(line.pid, libc::SIGKILL);
    eventually("the shim ends", || {
        field(line.pid, "Name").is_empty() || field(line.pid, "State").starts_with('Z')
    });
    node.start_launcher();
    let ended = node.exit("a").expect("the sweep wrote it");
    assert!(ended.report["error"].as_str().expect("why").contains("vanished"), "{ended:?}");
}

#[test]
fn an_agent_of_another_boot_is_said_to_have_been_in_one() {
    let mut node = Node::start();
    let mut line = node.run(&order("a", "exit 0"));
    line.await_end();
    node.kill_launcher();
    let directory = node.places().agent("a");
    fs::remove_file(directory.join(places::EXIT)).expect("removed");
    let path = directory.join(places::AGENT);
    let mut record: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    record["boot"] = "another".into();
    fs::write(&path, record.to_string()).expect("written");
    node.start_launcher();
    let ended = node.exit("a").expect("the sweep wrote it");
    assert_eq!(ended.boot, "another");
    assert!(ended.report["error"].as_str().expect("why").contains("rebooted"), "{ended:?}");
}

#[test]
fn kill_ends_what_is_left_and_remove_takes_the_rest() {
    let node = Node::start();
    let _line = node.run(&order("a", "trap '' TERM; setsid sleep 1000 & sleep 1000"));
    node.done(&ToLauncher::Kill { id: "a".into() });
    assert!(node.exit("a").is_some());
    node.assert_nothing_is_left();
    node.done(&ToLauncher::Remove { id: "a".into(), workspace: false });
    assert!(!node.places().agent("a").exists());
    assert_eq!(fs::read_dir(node.places().orders()).expect("listed").count(), 0);
    assert_eq!(fs::read_dir(node.places().shims()).expect("listed").count(), 0);
}

#[test]
fn an_agent_that_has_ended_starts_anew_by_its_own_order_and_its_log_goes_on() {
    let node = Node::start();
    let first = node.run(&order("a", "echo run; exit 4")).await_end();
    let mut again = node.relaunch("a").expect("launched");
    assert_eq!(again.welcome.1, first.end);
    let second = again.await_end();
    assert_eq!((second.code, second.end), (Some(4), 2 * first.end));
    assert_eq!(node.shown("a"), "run\r\nrun\r\n");
    let refusal = node.relaunch("b").err().expect("there is none");
    assert_eq!(refusal.reason, Reason::Unknown);
    let line = node.run(&order("c", "sleep 1000"));
    assert_eq!(node.relaunch("c").err().expect("it runs").reason, Reason::Exists);
    assert_eq!(node.launch(&order("a", "true")).err().expect("it is there").reason, Reason::Exists);
    drop(line);
}

#[test]
fn usage_is_told_when_it_is_asked_for() {
    let node = Node::start();
    let mut line = node.run(&order("a", "sleep 1000 & echo up; wait"));
    node.shows("a", "up");
    line.say(&ToShim::Usage, &[]);
    let usage = line.until("Usage", |message| match message {
        FromShim::Usage(usage) => Some(*usage),
        _ => None,
    });
    assert!(usage.processes.is_some_and(|count| count >= 3), "{usage:?}");
    assert!(usage.memory.is_some_and(|bytes| bytes > 0), "{usage:?}");
}

fn exec(line: &Line, number: u64, command: &[&str], fds: &[&OwnedFd]) {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let environment = [("EXTRA".to_owned(), "yes".to_owned())].into();
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    line.say(&ToShim::Exec { exec: number, command, environment }, &fds);
}

fn exec_ended(line: &mut Line, number: u64) -> (Option<u8>, Option<String>) {
    line.until("ExecEnded", |message| match message {
        FromShim::ExecEnded { exec, code, refused } if *exec == number => Some((*code, refused.clone())),
        _ => None,
    })
}

#[test]
fn something_else_runs_within_the_same_walls_with_pipes() {
    let node = Node::start();
    let mut line = node.run(&order("a", "echo here > ~/mark; echo up; sleep 1000"));
    node.shows("a", "up");
    let (stdin, mut to) = std::io::pipe().expect("a pipe");
    let (mut from, stdout) = std::io::pipe().expect("a pipe");
    let stderr = stdout.try_clone().expect("dup");
    let script =
        "cat; cat ~/mark; echo $EXTRA; grep -c . /proc/1/comm; grep Seccomp: /proc/self/status; exit 9";
    exec(&line, 5, &["sh", "-c", script], &[&stdin.into(), &stdout.into(), &stderr.into()]);
    to.write_all(b"typed\n").expect("written");
    drop(to);
    let mut text = String::new();
    from.read_to_string(&mut text).expect("read");
    assert_eq!(text, "typed\nhere\nyes\n1\nSeccomp:\t2\n");
    assert_eq!(exec_ended(&mut line, 5), (Some(9), None));
    let null = || OwnedFd::from(fs::File::open("/dev/null").expect("open"));
    exec(&line, 6, &["no-such-program"], &[&null(), &null(), &null()]);
    assert_eq!(exec_ended(&mut line, 6), (Some(127), None));
}

#[test]
fn something_else_runs_within_the_same_walls_on_a_terminal_of_its_own() {
    let node = Node::start();
    let mut line = node.run(&order("a", "sleep 1000"));
    let (ours, theirs) = stockade::wire::pair().expect("a pair");
    exec(&line, 1, &["sh", "-c", "tty; test -t 0 && echo terminal; read x; exit 5"], &[&theirs]);
    drop(theirs);
    let (_, fds) = stockade::wire::receive(&ours, 1).expect("received").expect("a message");
    let mut master = fs::File::from(fds.into_iter().next().expect("a master"));
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("terminal") {
        let mut part = [0; 512];
        let count = master.read(&mut part).expect("read");
        text.extend_from_slice(&part[..count]);
    }
    assert!(String::from_utf8_lossy(&text).contains("/dev/pts/1"), "{}", String::from_utf8_lossy(&text));
    master.write_all(b"\n").expect("typed");
    assert_eq!(exec_ended(&mut line, 1), (Some(5), None));
}

#[test]
fn what_leads_out_of_the_sandbox_is_not_handed_in() {
    let node = Node::start();
    let mut line = node.run(&order("a", "sleep 1000"));
    let null = || OwnedFd::from(fs::File::open("/dev/null").expect("open"));
    let root = OwnedFd::from(fs::File::open("/").expect("open"));
    exec(&line, 1, &["true"], &[&root, &null(), &null()]);
    let (code, refused) = exec_ended(&mut line, 1);
    assert!(code.is_none() && refused.expect("why").contains("a directory"));
    for fds in [&[][..], &[&null()], &[&null(), &null()]] {
        exec(&line, 2, &["true"], fds);
        assert!(exec_ended(&mut line, 2).1.is_some());
    }
}

#[test]
fn ordered_files_are_there_when_the_agent_starts_and_belong_to_it() {
    let node = Node::start();
    let file = |path: &str, content: &str| File { path: path.into(), content: content.into() };
    let mut wanted = order("a", "cat one sub/dir/two; echo more >> one; ls -ln one | cut -d' ' -f3");
    wanted.workspace = Workspace::Named { name: "w".into() };
    wanted.files = vec![file("one", "1\n"), file("sub/dir/two", "2\n")];
    let ended = node.run(&wanted).await_end();
    assert_eq!((ended.code, node.shown("a").as_str()), (Some(0), "1\r\n2\r\n1000\r\n"));
    let workspace = node.places().workspaces().join("tests/w");
    assert_eq!(fs::read_to_string(workspace.join("one")).expect("kept"), "1\nmore\n");
}

#[test]
fn an_ordered_file_follows_no_link_that_an_agent_has_left() {
    let node = Node::start();
    let mut planted = order("a", "ln -s /etc sub; ln -s /tmp/x one; mkdir d");
    planted.workspace = Workspace::Named { name: "w".into() };
    assert_eq!(node.run(&planted).await_end().code, Some(0));
    for (id, path) in [("b", "sub/passwd"), ("c", "one"), ("d", "d")] {
        let mut order = order(id, "true");
        order.workspace = Workspace::Named { name: "w".into() };
        order.files = vec![File { path: path.into(), content: "x".into() }];
        let ended = node.launch(&order).expect("launched").await_end();
        let refusal = ended.not_started.expect("not started");
        assert!(refusal.detail.contains(path) && refusal.detail.contains("files"), "{refusal:?}");
    }
}

#[test]
fn an_agent_that_stops_itself_goes_on() {
    let node = Node::start();
    let mut line = node.run(&order("a", "echo before; kill -STOP $$; echo after"));
    assert_eq!(line.await_end().code, Some(0));
    assert_eq!(node.shown("a"), "before\r\nafter\r\n");
}

#[test]
fn no_variable_of_an_order_is_in_a_file_that_others_read_or_on_a_command_line() {
    let node = Node::start();
    let mut secret = order("a", "test \"$TOKEN\" = s3cr3t-value && echo had it; read x");
    secret.environment = [("TOKEN".to_owned(), "s3cr3t-value".to_owned())].into();
    let mut line = node.run(&secret);
    node.shows("a", "had it");
    let found = node.trace("a").expect("whereabouts");
    for pid in [node.launcher(), line.pid, found.keeper.pid] {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).expect("read");
            assert!(!String::from_utf8_lossy(&text).contains("s3cr3t-value"), "{file} of {pid}");
        }
    }
    line.type_in(b"\n");
    line.await_end();
    for entry in fs::read_dir(node.places().agent("a")).expect("listed").flatten() {
        if entry.path().is_file() {
            let text = fs::read_to_string(entry.path()).expect("read");
            assert!(!text.contains("s3cr3t-value"), "{}", entry.path().display());
        }
    }
    let order = node.places().orders().join("a");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(order).expect("kept").permissions());
    assert_eq!(mode & 0o777, 0o600);
}
