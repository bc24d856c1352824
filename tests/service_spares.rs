//! The shims that are ready before they are wanted.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::leaks::eventually;
use common::node::{Node, Socket, order, pair};
use common::stockade::kill;
use stockade::shim::service::kept;
use stockade::wire::service::claim::{SPARE, sealed};
use stockade::wire::service::launcher::Reason;
use stockade::wire::service::{FromLauncher, ToLauncher};

/// The shim that waits for the next agent, and the keeper that waits with it.
fn spare(launcher: u32) -> Option<[u32; 2]> {
    let child = |of: u32, name: &str| {
        let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
        let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children
            .find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name))
    };
    let shim = child(launcher, SPARE)?;
    Some([shim, child(shim, "stockade-keeper")?])
}

/// The same, once they are there.
fn waiting(node: &Node) -> [u32; 2] {
    let mut found = None;
    eventually("a shim waits", || {
        found = spare(node.launcher());
        found.is_some()
    });
    found.expect("there")
}

#[test]
fn one_shim_is_ready_before_it_is_wanted_and_the_next_agent_gets_it() {
    let node = Node::start();
    for id in ["a", "b"] {
        let [shim, keeper] = waiting(&node);
        let mut line = node.run(&order(id, "echo ready; read x"));
        assert_eq!(line.pid, shim, "the one that waited");
        let whereabouts = node.trace(id).expect("there");
        assert_eq!(whereabouts.keeper.pid, keeper);
        line.type_in(b"\n");
        assert_eq!(line.await_end().code, Some(0));
    }
}

#[test]
fn a_shim_that_died_while_it_waited_costs_no_agent() {
    let node = Node::start();
    let [shim, _] = waiting(&node);
    kill(shim, libc::SIGKILL);
    // Dead, whether the launcher has looked already or not. One that dies later has begun, and is said to have ended.
    eventually("it has died", || {
        fs::read_to_string(format!("/proc/{shim}/stat"))
            .map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])))
    });
    let mut line = node.run(&order("a", "exit 3"));
    assert_ne!(line.pid, shim);
    assert_eq!(line.await_end().code, Some(3));
}

#[test]
fn a_keeper_that_died_while_its_shim_waited_costs_no_agent() {
    let node = Node::start();
    let [shim, keeper] = waiting(&node);
    kill(keeper, libc::SIGKILL);
    eventually("it has died", || {
        fs::read_to_string(format!("/proc/{keeper}/stat"))
            .map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])))
    });
    let mut line = node.run(&order("a", "exit 3"));
    assert_eq!(line.pid, shim, "the one that waited");
    assert_eq!(line.await_end().code, Some(3));
}

#[test]
fn a_shim_that_waits_goes_with_its_launcher_however_that_ends() {
    let mut node = Node::start();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let waiting = waiting(&node);
        node.end_launcher(signal);
        let is_there = |pid: &u32| fs::metadata(format!("/proc/{pid}")).is_ok();
        match signal {
            libc::SIGKILL => eventually("both have gone", || !waiting.iter().any(is_there)),
            // Told to end, it sees to it.
            _ => assert!(!waiting.iter().any(is_there), "{waiting:?}"),
        }
        node.start_launcher();
    }
}

#[test]
fn a_launcher_that_is_told_to_end_does_so_although_its_spare_is_stopped() {
    let mut node = Node::start();
    let [shim, keeper] = waiting(&node);
    kill(shim, libc::SIGSTOP);
    node.end_launcher(libc::SIGTERM);
    eventually("both have gone", || {
        ![shim, keeper].iter().any(|pid| fs::metadata(format!("/proc/{pid}")).is_ok())
    });
    node.start_launcher();
}

/// The shims that wait for the next agents.
fn spares(launcher: u32) -> BTreeSet<u32> {
    let children =
        fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
    let is_spare =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == SPARE);
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_spare).collect()
}

/// Starts six agents that are asked for before the first is answered; the pids of their shims once all have ended.
fn storm(node: &Node, round: u32) -> BTreeSet<u32> {
    let ids: Vec<String> = (0..6).map(|n| format!("storm-{round}-{n}")).collect();
    let text = |id: &String| serde_json::to_vec(&order(id, "exit 0")).expect("JSON");
    let orders: Vec<OwnedFd> = ids.iter().map(|id| sealed("order", &text(id)).expect("a memfd")).collect();
    let (lines, theirs): (Vec<OwnedFd>, Vec<OwnedFd>) = ids.iter().map(|_| pair()).unzip();
    let sockets: Vec<Socket> = ids.iter().map(|_| node.connect()).collect();
    // It is asked by all of them at once, however slow this test is: where nobody asks for a moment it makes the next spares.
    kill(node.launcher(), libc::SIGSTOP);
    for (n, socket) in sockets.iter().enumerate() {
        socket.send(&ToLauncher::Launch { id: ids[n].clone() }, &[orders[n].as_fd(), theirs[n].as_fd()]);
    }
    kill(node.launcher(), libc::SIGCONT);
    let pid = |socket: &Socket| match socket.receive() {
        Some(FromLauncher::Launched { pid }) => pid,
        other => panic!("{other:?}"),
    };
    let pids = sockets.iter().map(pid).collect();
    eventually("all have ended", || ids.iter().all(|id| node.exit(id).is_some()));
    drop(lines);
    pids
}

#[test]
fn as_many_shims_wait_as_root_has_decided_and_the_next_agents_get_them() {
    let mut node = Node::start();
    node.end_launcher(libc::SIGTERM);
    let settings = node.places().config().join("launcher.toml");
    let text = fs::read_to_string(&settings).expect("read");
    fs::write(&settings, text.replace("ready-shims = 1", "ready-shims = 4")).expect("written");
    node.start_launcher();
    for round in 0..3 {
        eventually("four shims wait", || spares(node.launcher()).len() == 4);
        let waiting = spares(node.launcher());
        let got = storm(&node, round);
        assert_eq!(got.intersection(&waiting).count(), 4, "{got:?} of {waiting:?}");
    }
    eventually("four shims wait, and no more", || spares(node.launcher()).len() == 4);
    let waiting = spares(node.launcher());
    node.end_launcher(libc::SIGTERM);
    assert!(!waiting.iter().any(|pid| fs::metadata(format!("/proc/{pid}")).is_ok()), "{waiting:?}");
    node.start_launcher();
}

/// The directories that wait for the next agents, by inode.
fn blanks(node: &Node) -> BTreeSet<u64> {
    let entries = fs::read_dir(node.places().agents()).expect("listed").flatten();
    let waiting = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    waiting.filter_map(|entry| Some(entry.metadata().ok()?.ino())).collect()
}

/// All files below a directory, by inode.
fn inodes(directory: &Path) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let entries = fs::read_dir(directory).expect("listed").flatten();
    // What it uses is written down anew each second.
    for entry in entries.filter(|entry| !entry.file_name().to_string_lossy().contains("usage")) {
        let data = entry.metadata().expect("there");
        found.insert(data.ino());
        if data.is_dir() {
            found.extend(inodes(&entry.path()));
        }
    }
    found
}

/// Waits until the next agent's files are complete: its shim's socket is made last.
fn await_blank(node: &Node) {
    waiting(node);
    eventually("the next agent's files are there", || {
        let sockets = fs::read_dir(node.places().shims()).expect("listed").flatten();
        let is_one = |name: &str| name.starts_with('.') && name.ends_with(".sock");
        !blanks(node).is_empty()
            && sockets.into_iter().any(|entry| is_one(&entry.file_name().to_string_lossy()))
    });
}

#[test]
fn the_files_of_an_agent_are_made_before_it_is_wanted() {
    let node = Node::start();
    await_blank(&node);
    let run = [node.places().shims(), node.places().orders()];
    let made = |node: &Node| -> BTreeSet<u64> {
        run.iter().chain([&node.places().agents()]).flat_map(|directory| inodes(directory)).collect()
    };
    let before = made(&node);
    let shims = fs::read_dir(&run[0]).expect("listed").flatten();
    let said = shims.filter(|entry| entry.file_name().to_string_lossy().ends_with(".json")).count();
    assert_eq!(said, 0, "whoever looks for shims by what they have written down finds none");
    let mut line = node.run(&order("a", "echo shown; read x"));
    node.shows("a", "shown");
    let places = node.places();
    let mut own = inodes(&places.agent("a"));
    for path in [kept::whereabouts(&places, "a"), places.shim_socket("a"), places.orders().join("a")] {
        own.insert(fs::metadata(path).expect("there").ino());
    }
    // Directory, record, attestation, room for the end, log, its segment, its marks; and three in `run`.
    assert_eq!(own.len(), 9, "{own:?}");
    assert_eq!(own.difference(&before).count(), 0, "a new file for a start");
    line.type_in(b"\n");
    assert_eq!(line.await_end().code, Some(0));
    assert_eq!(fs::metadata(places.agent("a").join("exit.json")).expect("there").nlink(), 1);
}

#[test]
fn what_waits_for_the_next_agent_goes_with_its_launcher_however_that_ends() {
    let mut node = Node::start();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        await_blank(&node);
        let before = blanks(&node);
        node.end_launcher(signal);
        if signal == libc::SIGTERM {
            assert_eq!(blanks(&node), BTreeSet::new(), "told to end, it sees to it");
            for directory in [node.places().shims(), node.places().orders()] {
                assert_eq!(inodes(&directory), BTreeSet::new(), "{}", directory.display());
            }
        }
        node.start_launcher();
        await_blank(&node);
        let stale = before.len() + 1;
        assert!(blanks(&node).len() < stale, "the next launcher begins anew");
    }
}

#[test]
fn an_agent_is_refused_whose_name_is_taken_and_the_next_still_gets_what_waits() {
    let node = Node::start();
    let _line = node.run(&order("a", "read x"));
    await_blank(&node);
    let waiting = blanks(&node);
    let refusal = node.launch(&order("a", "exit 0")).err().expect("refused");
    assert_eq!(refusal.reason, Reason::Exists, "{refusal:?}");
    let mut line = node.run(&order("b", "exit 7"));
    assert!(waiting.contains(&fs::metadata(node.places().agent("b")).expect("there").ino()));
    assert_eq!(line.await_end().code, Some(7));
}

#[test]
fn files_that_somebody_has_removed_while_they_waited_cost_no_agent() {
    let node = Node::start();
    await_blank(&node);
    for directory in [node.places().agents(), node.places().shims(), node.places().orders()] {
        for entry in fs::read_dir(directory).expect("listed").flatten() {
            let path = entry.path();
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
    let mut line = node.run(&order("a", "exit 3"));
    assert_eq!(line.await_end().code, Some(3));
}
