//! Messages and their answers, screens, queries, windows, lines.

use stockade::api::State;
use stockade::api::agent::{Send, Size, Spawn};
use stockade::api::events::Happened;
use stockade::daemon::supervisor::{Config, SupervisorError};

use crate::common::node::Node;
use crate::world::{World, daemon, output, patiently, shell, soon};

fn message(text: &str, key: Option<&str>) -> Send {
    let key = key.map(Into::into);
    Send { message: text.into(), wait: true, timeout_ms: Some(30_000), key, ..Send::default() }
}

#[test]
fn a_message_is_answered_with_the_text_of_its_turn_and_told_once() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let (_, mut events) = world.supervisor.events().follow(None);
        world.spawn(Spawn { command: None, ..shell("a", "") }).await;
        world.until("a", "ready", |agent| agent.state == State::Ready).await;
        let (me, supervisor) = (&world.me, &world.supervisor);
        let sent =
            patiently(supervisor.send(me, "a", message("echo one; echo 'two  three'", Some("k")))).await;
        let sent = sent.expect("sent");
        assert_eq!(sent.response.as_deref(), Some("one\ntwo  three"));
        // The same key sends nothing again.
        let again =
            patiently(supervisor.send(me, "a", message("echo one; echo 'two  three'", Some("k")))).await;
        assert_eq!(again.expect("known").id, sent.id);
        let lines =
            patiently(supervisor.send(me, "a", message("printf '%s\\n' a\nprintf '%s\\n' b", None))).await;
        let lines = lines.expect("sent").response.expect("answered");
        assert!(lines.contains('a') && lines.contains('b'), "{lines:?}");
        assert_eq!(output(&world.terminal("a"), 0).await.matches("one;").count(), 1);
        world.kill("a").await;

        let mut turns = Vec::new();
        let mut states = Vec::new();
        while states.last() != Some(&State::Exited) {
            match patiently(events.recv()).await.expect("told").happened.clone() {
                Happened::TurnComplete(turn) => turns.push(turn),
                Happened::AgentState(agent) => states.push(agent.state),
                Happened::AgentCreated(agent) => assert_eq!(agent.id, "a"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(turns.len(), 2, "{turns:?}");
        assert_eq!((&turns[0].message, turns[0].output.as_str()), (&sent.id, "one\ntwo  three"));
        assert!(states.windows(2).all(|two| two[0] != two[1]), "{states:?}");
        let late = supervisor.send(me, "a", message("x", None)).await;
        assert!(matches!(late, Err(SupervisorError::State { .. })));
    });
}

/// A script that asks its terminal, and shows what that answers: it ends with an `x`, or with the last letter of `last`.
fn asking(query: &str, last: char) -> String {
    // `-d` of bash's read: up to and without that letter.
    format!(
        "stty -echo raw; printf '{query}'; read -r -d '{last}' answer; stty sane; printf 'heard:%q' \"$answer\"; read -r y"
    )
}

fn bash(id: &str, script: &str) -> Spawn {
    Spawn { command: Some(["bash", "-c", script].map(str::to_owned).into()), ..shell(id, "") }
}

#[test]
fn the_screen_answers_a_query_once_while_nobody_is_attached_and_a_later_daemon_not_again() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(bash("a", &asking("\\033[c", 'c'))).await;
        world.shows("a", "heard:").await;
        assert!(
            output(&world.terminal("a"), 0).await.contains("[\\?62\\;22")
                || heard(world, "a").await.contains("62")
        );
    });
    daemon(&mut node, Config::default(), async |world| {
        let drawing = patiently(world.terminal("a").screen()).await.expect("drawn");
        assert!(drawing.lines[0].contains("heard:"), "{:?}", drawing.lines);
        world.type_in("a", "end\r").await;
        world.ended("a").await;
        // Had it answered again, that would stand there, echoed.
        assert_eq!(output(&world.terminal("a"), 0).await.matches("62").count(), 1);
    });
}

async fn heard(world: &World, id: &str) -> String {
    let all = output(&world.terminal(id), 0).await;
    all.split_once("heard:").map(|(_, heard)| heard.to_owned()).unwrap_or_default()
}

#[test]
fn while_a_window_owns_the_size_its_terminal_answers_and_no_other() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        // Starts asking when a line was typed.
        world.spawn(bash("a", &format!("read -r go; {}", asking("\\033[>q", '|')))).await;
        let terminal = world.terminal("a");
        let owner = terminal.attach(true, Some(Size { cols: 90, rows: 20 }), false);
        let other = terminal.attach(true, Some(Size { cols: 70, rows: 10 }), false);
        assert!(owner.owns_size() && !other.owns_size());
        patiently(owner.input("go\r".into())).await.expect("typed");
        world.shows("a", "\u{1b}[>q").await;
        // Not the owner's, and one that was not asked for.
        patiently(other.input("\x1bP>|other\x1b\\\\".into())).await.expect("dropped");
        patiently(owner.input("\x1b[?1;2c".into())).await.expect("dropped");
        patiently(owner.input("\x1bP>|owner|\x1b\\".into())).await.expect("typed");
        patiently(owner.input("|".into())).await.expect("typed");
        world.shows("a", "heard:").await;
        let heard = heard(world, "a").await;
        assert!(heard.contains('P') && !heard.contains("other") && !heard.contains("1;2c"), "{heard:?}");
        world.kill("a").await;
    });
}

#[test]
fn the_size_has_one_owner_which_is_followed_by_the_next_one_who_may_type() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(shell("a", "trap 'stty size' WINCH; echo up; while :; do read x; done")).await;
        world.shows("a", "up").await;
        let terminal = world.terminal("a");
        let size = |cols, rows| Some(Size { cols, rows });
        let looks = terminal.attach(false, size(50, 5), true);
        let one = terminal.attach(true, size(100, 30), false);
        let two = terminal.attach(true, size(80, 25), false);
        assert!(!looks.owns_size() && one.owns_size() && !two.owns_size());
        world.shows("a", "30 100").await;
        assert!(looks.take_over().await.is_err());
        // A size that is somebody's is kept.
        world.supervisor.resize(&world.me, "a", Size { cols: 10, rows: 10 }).await.expect("heard");
        assert_eq!(terminal.size(), Size { cols: 100, rows: 30 });
        let mut changes = two.changes();
        drop(one);
        assert_eq!(patiently(changes.next()).await, Size { cols: 80, rows: 25 });
        assert!(two.owns_size());
        world.shows("a", "25 80").await;
        drop(two);
        world.supervisor.resize(&world.me, "a", Size { cols: 60, rows: 20 }).await.expect("heard");
        world.shows("a", "20 60").await;
        let (recording, _) =
            terminal.recording().expect("readable").next().await.expect("read").expect("lines");
        let recording = String::from_utf8(recording).expect("text");
        assert!(recording.lines().next().expect("a header").contains("\"version\":2"));
        assert!(recording.contains("\"r\",\"80x25\""), "{recording}");
        let lines = terminal.lines(Some(2), None).await.expect("lines");
        assert_eq!(lines.last().map(|(_, line)| line.as_str()), Some("20 60"), "{lines:?}");
        world.kill("a").await;
    });
}

#[test]
fn a_flood_is_read_whole_and_its_end_is_on_the_screen() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world
            .spawn(shell("a", "read x; stty -opost; seq 1 700000; printf '\\r\\033[2Jdone\\n'; read x"))
            .await;
        let terminal = world.terminal("a");
        let mut reader = terminal.reader(0);
        world.type_in("a", "\r").await;
        let mut lines = Vec::new();
        let expected: String = (1..=700_000).map(|n| format!("{n}\n")).collect();
        while lines.len() < expected.len() + 2 {
            match patiently(reader.next(64 * 1024)).await.expect("read") {
                stockade::daemon::terminal::Piece::Bytes(bytes) => lines.extend(bytes),
                other => panic!("{other:?} after {}", lines.len()),
            }
        }
        assert!(lines.starts_with(b"\r\n1\n") && lines[2..].starts_with(expected.as_bytes()));
        let drawing = soon("the end", async || {
            let drawing = terminal.screen().await.expect("drawn");
            drawing.lines.iter().any(|line| line.contains("done")).then_some(drawing)
        })
        .await;
        assert_eq!(drawing.offset, terminal.range().1);
        let tail = terminal.lines(Some(3), None).await.expect("lines");
        assert!(tail.iter().any(|(_, line)| line.contains("done")), "{tail:?}");
        world.kill("a").await;
    });
}
