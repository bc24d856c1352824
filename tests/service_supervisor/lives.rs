//! How agents begin and end, and how a daemon finds them again.

use stockade::api::State;
use stockade::api::agent::Spawn;
use stockade::daemon::supervisor::{Config, SupervisorError};
use stockade::daemon::terminal::Piece;

use crate::common::leaks::eventually;
use crate::common::node::Node;
use crate::world::{KILL, caller, daemon, output, patiently, shell};

#[test]
fn an_agent_is_started_typed_at_and_read_to_its_end() {
    let mut node = Node::start();
    let places = node.places();
    daemon(&mut node, Config::default(), async move |world| {
        let agent = world.spawn(shell("a", "read x; echo got $x; exit 3")).await;
        assert!(!agent.state.is_final(), "{agent:?}");
        let mut reader = world.terminal("a").reader(0);
        world.type_in("a", "hello\r").await;
        let ended = world.ended("a").await;
        assert_eq!((ended.state, ended.exit_code), (State::Exited, Some(3)));
        assert_eq!(output(&world.terminal("a"), 0).await, "hello\r\ngot hello\r\n");
        while patiently(reader.next(7)).await.expect("read") != Piece::End {}
        assert_eq!(reader.offset(), ended.offset);
        world.supervisor.remove(&world.me, "a").await.expect("removed");
        assert!(matches!(world.supervisor.get(&world.me, "a"), Err(SupervisorError::NotFound { .. })));
        assert!(!places.agent("a").exists());
    });
}

#[test]
fn a_spawn_is_idempotent_by_id_and_of_two_at_once_one_wins() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let (me, supervisor) = (&world.me, &world.supervisor);
        let (one, two) = tokio::join!(
            supervisor.spawn(me, shell("a", "read x")),
            supervisor.spawn(me, shell("a", "read x"))
        );
        let (one, two) = (one.expect("started"), two.expect("found"));
        assert!(one.created != two.created);
        assert_eq!(one.agent.created_at, two.agent.created_at);
        world.trace("a");
        let other = supervisor.spawn(me, shell("a", "read y")).await;
        assert!(matches!(other, Err(SupervisorError::Taken { .. })));
        let foreign = supervisor.spawn(&caller("other"), shell("a", "read x")).await;
        assert!(matches!(foreign, Err(SupervisorError::Taken { .. })));
        assert!(matches!(supervisor.get(&caller("other"), "a"), Err(SupervisorError::NotFound { .. })));
        assert_eq!(supervisor.list(&caller("other")), []);
        assert!(matches!(supervisor.remove(me, "a").await, Err(SupervisorError::State { .. })));
        let stopped = supervisor.stop(me, "a", KILL).await.expect("stopped");
        assert_eq!(stopped.state, State::Exited, "{stopped:?}");
    });
}

#[test]
fn a_spawn_goes_on_though_whoever_asked_has_gone() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        // Dropped after it was polled once.
        let asked = world.supervisor.spawn(&world.me, shell("a", "read x"));
        drop(tokio::time::timeout(std::time::Duration::ZERO, asked).await);
        let found = patiently(world.supervisor.spawn(&world.me, shell("a", "read x"))).await.expect("found");
        assert!(!found.created);
        world.trace("a");
        world.supervisor.stop(&world.me, "a", KILL).await.expect("stopped");
    });
}

#[test]
fn what_is_not_allowed_is_refused_and_leaves_nothing() {
    let mut node = Node::start();
    let places = node.places();
    daemon(&mut node, Config::default(), async move |world| {
        let unknown = Spawn { policy: Some("nowhere".into()), ..shell("a", "true") };
        let missing = Spawn { command: Some(vec!["/nonexistent".into()]), ..shell("a", "") };
        for request in [unknown, missing] {
            let refused = world.supervisor.spawn(&world.me, request).await;
            assert!(matches!(refused, Err(SupervisorError::Refused(_))), "{:?}", refused.err());
            assert_eq!(world.supervisor.list(&world.me), []);
            assert!(!places.agent("a").exists());
        }
        // And the id is free.
        world.spawn(shell("a", "read x")).await;
        world.supervisor.stop(&world.me, "a", KILL).await.expect("stopped");
    });
}

#[test]
fn a_daemon_that_was_killed_finds_agents_output_and_exit_codes_again() {
    let mut node = Node::start();
    let request = |id: &str| Spawn {
        name: Some(id.to_uppercase()),
        ..shell(id, "stty -echo; echo one; read x; echo two; read x; echo three; exit 5")
    };
    let before = daemon(&mut node, Config::default(), async |world| {
        for id in ["runs", "ends"] {
            world.spawn(request(id)).await;
            world.shows(id, "one").await;
        }
        world.type_in("ends", "1\r2\r").await;
        world.get("runs")
    });
    // Nobody is there while it ends.
    eventually("it ended", || node.exit("ends").is_some());

    daemon(&mut node, Config::default(), async |world| {
        // Its shim may just be saying so.
        let ended = world.ended("ends").await;
        assert_eq!((ended.state, ended.exit_code), (State::Exited, Some(5)), "{ended:?}");
        let after = world.get("runs");
        assert!(!after.state.is_final(), "{after:?}");
        assert_eq!((&after.name, &after.created_at), (&before.name, &before.created_at));
        assert_eq!(after.started_at, before.started_at);
        world.type_in("runs", "1\r").await;
        world.type_in("runs", "2\r").await;
        for id in ["runs", "ends"] {
            let ended = world.ended(id).await;
            assert_eq!(ended.exit_code, Some(5));
            assert_eq!(output(&world.terminal(id), 0).await, "one\r\ntwo\r\nthree\r\n");
        }
        // The same request still finds it.
        assert!(!world.supervisor.spawn(&world.me, request("runs")).await.expect("found").created);
    });
}

#[test]
fn more_than_the_shim_has_room_for_is_typed_without_a_lost_byte() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let script = "stty raw -echo; echo up; sleep 1; head -c 300000 | sha256sum; read x";
        world.spawn(shell("a", script)).await;
        world.shows("a", "up").await;
        let text: String = (0..50_000).map(|n| format!("{n:05},")).collect();
        world.type_in("a", &text).await;
        let digest: String = {
            use sha2::{Digest, Sha256};
            Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        world.shows("a", &digest).await;
        world.kill("a").await;
    });
}
