//! The shims that are ready before they are wanted.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use common::leaks::eventually;
use common::node::{Node, Socket, order, pair};
use common::stockade::kill;
use stockade::wire::service::claim::{SPARE, sealed};
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
    for (n, socket) in sockets.iter().enumerate() {
        socket.send(&ToLauncher::Launch { id: ids[n].clone() }, &[orders[n].as_fd(), theirs[n].as_fd()]);
    }
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
fn as_many_shims_wait_as_were_wanted_without_a_pause_and_the_next_agents_get_them() {
    let mut node = Node::start();
    let mut round = 0;
    // What a pause is, is the launcher's affair, and this machine may be busy.
    eventually("several shims wait", || {
        let several = spares(node.launcher()).len() > 1;
        if !several {
            round += 1;
            storm(&node, round);
        }
        several
    });
    let waiting = spares(node.launcher());
    let got = storm(&node, 1000);
    assert_eq!(got.intersection(&waiting).count(), waiting.len().min(6), "{got:?} of {waiting:?}");
    let waiting = spares(node.launcher());
    node.end_launcher(libc::SIGTERM);
    assert!(!waiting.iter().any(|pid| fs::metadata(format!("/proc/{pid}")).is_ok()), "{waiting:?}");
    node.start_launcher();
}
