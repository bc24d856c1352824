//! What a daemon has done within an agent's walls: files that it orders, commands that it runs beside the agent, and the agent's
//! way to the network.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use common::node::{Line, Node, order};
use stockade::wire::service::order::{File, Workspace};
use stockade::wire::service::shim::{FromShim, ToShim};

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
    let file = |path: &str, content: &str| File { path: path.into(), content: content.into(), home: false };
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
        order.files = vec![File { path: path.into(), content: "x".into(), home: false }];
        let ended = node.launch(&order).expect("launched").await_end();
        let refusal = ended.not_started.expect("not started");
        assert!(refusal.detail.contains(path) && refusal.detail.contains("files"), "{refusal:?}");
    }
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

#[test]
fn an_agent_with_a_way_to_the_network_has_its_gateway_and_its_account() {
    let node = Node::start();
    let policies = node.places().config().join("policies");
    fs::create_dir(&policies).expect("made");
    let policy = "extends = 'shell'\ndescription = 'reaches one host, for tests'\n[network]\nallow = ['example.invalid:443']\n";
    fs::write(policies.join("reaching.toml"), policy).expect("written");
    let wanted =
        stockade::wire::service::Order { policy: "reaching".into(), ..order("a", "echo up; read x") };
    let mut line = node.run(&wanted);
    node.shows("a", "up");
    line.say(&ToShim::Usage, &[]);
    let usage = line.until("Usage", |message| match message {
        FromShim::Usage(usage) => Some(*usage),
        _ => None,
    });
    assert_eq!((usage.sent, usage.received), (Some(0), Some(0)));
    line.say(&ToShim::Secret { name: "nothere".into(), value: "s3cr3t-value".into() }, &[]);
    let refusal = line.until("Refused", |message| match message {
        FromShim::Refused(refusal) => Some(refusal.clone()),
        _ => None,
    });
    assert!(refusal.detail.contains("nothere") && !refusal.detail.contains("s3cr3t"), "{refusal:?}");
    line.type_in(b"\n");
    let ended = line.await_end();
    assert_eq!(ended.report["network"]["count"], 0, "{ended:?}");
    // Less than the policy allows is another policy's worth of network: none.
    let none = stockade::wire::service::Order { allow: Some(Vec::new()), id: "b".into(), ..wanted };
    let mut line = node.run(&none);
    line.type_in(b"\n");
    assert_eq!(line.await_end().report.get("network"), None);
}
