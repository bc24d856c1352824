//! The shim of a service's agent, spoken to as a daemon does: one test per promise.

mod common;

use common::node::{Node, order};
use stockade::wire::service::order::Size;
use stockade::wire::service::shim::{FromShim, Phase, ToShim};

#[test]
fn an_agent_runs_shows_takes_input_and_ends_with_its_exit_code() {
    let node = Node::start();
    let mut line =
        node.run(&order("a", "stty -echo; echo ready; read x; echo \"got $x\"; stty size; exit 7"));
    node.shows("a", "ready");
    line.type_in(b"hello\n");
    line.until("Taken", |message| (*message == FromShim::Taken { total: 6 }).then_some(()));
    let ended = line.await_end();
    assert_eq!((ended.code, ended.signal, ended.not_started.clone()), (Some(7), None, None), "{ended:?}");
    let (first, bytes) = node.log("a");
    assert_eq!((first, bytes.len() as u64), (0, ended.end));
    assert_eq!(node.shown("a"), "ready\r\ngot hello\r\n24 80\r\n");
    assert_eq!(node.exit("a"), Some(ended));
}

#[test]
fn a_later_daemon_finds_everything_as_it_is() {
    let node = Node::start();
    let mut line = node.run(&order("a", "echo one; read x; echo two; read x; echo three"));
    node.shows("a", "one");
    line.type_in(b"1\n");
    line.until("Taken", |message| (*message == FromShim::Taken { total: 2 }).then_some(()));
    node.shows("a", "two");
    drop(line);

    let mut later = node.adopt("a");
    let (phase, end, taken) = later.welcome;
    assert_eq!((phase, end, taken), (Phase::Running, node.log("a").1.len() as u64, 2));
    later.say(&ToShim::Resize(Size { cols: 100, rows: 30 }), &[]);
    later.type_in(b"2\n");
    let ended = later.await_end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(node.shown("a"), "one\r\n1\r\ntwo\r\n2\r\nthree\r\n");
}
