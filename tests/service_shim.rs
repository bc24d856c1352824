//! The shim of a service's agent, spoken to as a daemon does: one test per promise.

mod common;

use std::fs;
use std::os::fd::AsFd;

use common::leaks::eventually;
use common::node::{Line, Node, Socket, order};
use common::stockade::{field, kill};
use stockade::wire::service::launcher::{Reason, ToLauncher};
use stockade::wire::service::order::Size;
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
    assert_eq!(node.left_in(&node.places().orders()), [""; 0]);
    assert_eq!(node.left_in(&node.places().shims()), [""; 0]);
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

#[test]
fn an_agent_that_stops_itself_goes_on() {
    let node = Node::start();
    let mut line = node.run(&order("a", "echo before; kill -STOP $$; echo after"));
    assert_eq!(line.await_end().code, Some(0));
    assert_eq!(node.shown("a"), "before\r\nafter\r\n");
}

#[test]
fn a_launcher_that_is_killed_at_any_moment_leaves_agents_that_run_or_are_said_to_have_ended() {
    let mut node = Node::start();
    let mut asked = Vec::new();
    for round in 0..12_u32 {
        let mut lines = Vec::new();
        for number in 0..3 {
            let id = format!("a-{round}-{number}");
            let (ours, theirs) = common::node::pair();
            let text = serde_json::to_vec(&order(&id, "sleep 1000")).expect("JSON");
            let memfd = stockade::wire::service::claim::sealed("order", &text).expect("a memfd");
            let socket = node.connect();
            socket.send(&ToLauncher::Launch { id: id.clone() }, &[memfd.as_fd(), theirs.as_fd()]);
            asked.push(id);
            lines.push((ours, socket));
        }
        // Nothing to wait for: any moment will do, and each round has another.
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 400));
        node.kill_launcher();
        node.start_launcher();
    }
    for id in &asked {
        if !node.places().agent(id).exists() {
            continue; // it was never begun
        }
        if node.exit(id).is_none() {
            let mut line = node.adopt(id);
            line.await_running();
            node.trace(id);
        }
        node.done(&ToLauncher::Kill { id: id.clone() });
        assert!(node.exit(id).is_some());
        node.done(&ToLauncher::Remove { id: id.clone(), workspace: false });
    }
    node.assert_nothing_is_left();
    assert_eq!(node.left_in(&node.places().shims()), [""; 0]);
}

#[test]
fn what_a_crash_left_of_agents_that_are_no_more_is_swept() {
    let mut node = Node::start();
    node.kill_launcher();
    for name in ["gone.sock", "gone.json"] {
        fs::write(node.places().shims().join(name), "").expect("written");
    }
    fs::write(node.places().orders().join("gone"), "").expect("written");
    fs::create_dir(node.places().agent("half-made")).expect("made");
    node.start_launcher();
    assert_eq!(node.left_in(&node.places().shims()), [""; 0]);
    assert_eq!(node.left_in(&node.places().orders()), [""; 0]);
    let ended = node.exit("half-made").expect("it is said what happened");
    assert!(ended.report["error"].as_str().expect("why").contains("cut short"), "{ended:?}");
    assert!(ended.not_started.is_some(), "what never ran must not look as if it had: {ended:?}");
}

#[test]
fn a_socket_that_the_service_manager_made_is_taken() {
    let mut node = Node::start();
    node.kill_launcher();
    node.start_launcher_with_socket();
    let mut line = node.run(&order("a", "exit 3"));
    assert_eq!(line.await_end().code, Some(3));
}
