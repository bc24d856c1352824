//! Limits of number, memory and time; starts that follow a failure.

use std::time::Duration;

use stockade::api::State;
use stockade::api::agent::{Limits, Spawn};
use stockade::daemon::supervisor::{Config, Quota, Restarts, Rules, Stop, SupervisorError};

use crate::common::node::Node;
use crate::world::{caller, daemon, output, patiently, shell, soon};

/// With this quota for the tests' tenant.
fn limited(quota: Quota) -> Config {
    let rules = Rules { quotas: [("research".into(), quota)].into(), ..Rules::default() };
    Config { rules, ..Config::default() }
}

#[test]
fn a_tenant_has_no_more_agents_and_memory_than_its_quota() {
    let mut node = Node::start();
    let quota = Quota { max_agents: Some(2), memory: Some(200 << 20), ..Quota::default() };
    let config = limited(quota);
    daemon(&mut node, config, async |world| {
        let of = |id: &str, mib: u64| Spawn {
            limits: Some(Limits { memory: Some(mib << 20), ..Limits::default() }),
            ..shell(id, "read x")
        };
        world.spawn(of("a", 100)).await;
        let large = world.supervisor.spawn(&world.me, of("b", 101)).await;
        assert!(matches!(large, Err(SupervisorError::Quota { .. })), "{:?}", large.err());
        world.spawn(of("b", 100)).await;
        let third = world.supervisor.spawn(&world.me, of("c", 1)).await;
        assert!(matches!(third, Err(SupervisorError::Quota { .. })), "{:?}", third.err());
        // What has ended does not count.
        world.kill("a").await;
        world.spawn(of("c", 100)).await;
        for id in ["b", "c"] {
            world.kill(id).await;
        }
        // Another tenant has a quota of its own: none.
        let other = caller("other");
        patiently(world.supervisor.spawn(&other, of("d", 300))).await.expect("started");
        world.trace("d");
        patiently(world.supervisor.stop(&other, "d", crate::world::KILL)).await.expect("stopped");
    });
}

#[test]
fn an_agent_that_fails_is_started_again_later_each_time_and_one_that_is_stopped_is_not() {
    let mut node = Node::start();
    let restarts = Restarts { first: Duration::from_millis(20), ..Restarts::default() };
    let config = Config { restarts, ..Config::default() };
    daemon(&mut node, config, async |world| {
        world.spawn(Spawn { auto_restart: true, ..shell("a", "echo up; read x; exit 1") }).await;
        for count in 1..=2 {
            world.shows("a", "up\r\n").await;
            let runs = world.until("a", "it runs", |agent| agent.state != State::Starting).await;
            assert_eq!(runs.restarts, count - 1, "{runs:?}");
            world.type_in("a", "\r").await;
            world.until("a", "it was started again", |agent| agent.restarts == count).await;
        }
        // Its log goes on.
        let ups = async || output(&world.terminal("a"), 0).await.matches("up").count();
        soon("it is up again", async || (ups().await >= 3).then_some(())).await;
        world.until("a", "it runs", |agent| agent.state == State::Ready).await;
        world.trace("a");
        assert_eq!(ups().await, 3);
        let stopped = world.kill("a").await;
        assert_eq!((stopped.state, stopped.restarts), (State::Exited, 2), "{stopped:?}");
    });
}

#[test]
fn an_agent_is_restarted_by_its_own_order() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let request =
            Spawn { env: [("WORD".into(), "secret-word".into())].into(), ..shell("a", "echo $WORD; read x") };
        let first = world.spawn(request).await;
        world.shows("a", "secret-word").await;
        let again = patiently(world.supervisor.restart(&world.me, "a")).await.expect("restarted");
        world.trace("a");
        assert_eq!(again.restarts, 1);
        assert!(again.started_at != first.started_at && again.ended_at.is_none());
        crate::world::soon("its variable", async || {
            (output(&world.terminal("a"), 0).await.matches("secret-word").count() == 2).then_some(())
        })
        .await;
        // One that has ended can be started again, too.
        world.kill("a").await;
        patiently(world.supervisor.restart(&world.me, "a")).await.expect("restarted");
        world.trace("a");
        world.kill("a").await;
        let shown = serde_json::to_string(&world.get("a")).expect("JSON");
        assert!(!shown.contains("secret-word"));
    });
}

#[test]
fn an_agent_ends_when_its_time_is_over_or_when_nobody_has_used_it() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(Spawn { lifetime: Some(1), ..shell("short", "read x") }).await;
        world.spawn(Spawn { idle_timeout: Some(1), ..shell("idle", "read x") }).await;
        for (id, why) in [("short", "lifetime"), ("idle", "no output")] {
            world
                .until(id, "it is stopped", |agent| agent.state == State::Stopping || agent.state.is_final())
                .await;
            let ended = world.ended(id).await;
            assert_eq!(ended.state, State::Exited, "{ended:?}");
            let _ = why;
        }
    });
}

#[test]
fn a_node_that_drains_takes_no_new_agents_and_stops_those_it_has() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(shell("a", "read x")).await;
        patiently(world.supervisor.drain(true)).await.expect("drained");
        assert!(world.get("a").state.is_final());
        let refused = world.supervisor.spawn(&world.me, shell("b", "true")).await;
        assert!(matches!(refused, Err(SupervisorError::Draining)));
        assert!(world.supervisor.node().draining && world.supervisor.node().active == 0);
        // What is there is still found.
        assert!(!world.supervisor.spawn(&world.me, shell("a", "read x")).await.expect("found").created);
    });
}

#[test]
fn an_agent_that_does_not_end_is_killed_when_its_grace_is_over() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(shell("a", "trap '' TERM; echo up; while :; do read x; done")).await;
        world.shows("a", "up").await;
        let stop = Stop { grace: Duration::from_millis(100), wait: true };
        let stopped = patiently(world.supervisor.stop(&world.me, "a", stop)).await.expect("stopped");
        assert!(stopped.state.is_final() && stopped.evidence.contains("killed"), "{stopped:?}");
    });
}

#[test]
fn agents_that_are_started_anew_at_once_are_no_more_than_the_quota_has() {
    let mut node = Node::start();
    let quota = Quota { max_agents: Some(1), ..Quota::default() };
    let config = limited(quota);
    daemon(&mut node, config, async |world| {
        for id in ["a", "b", "c"] {
            world.spawn(shell(id, "read x")).await;
            world.kill(id).await;
        }
        let again = |id| world.supervisor.restart(&world.me, id);
        let (a, b, c) = patiently(async { tokio::join!(again("a"), again("b"), again("c")) }).await;
        let started = [a, b, c].into_iter().filter(Result::is_ok).count();
        assert_eq!((started, world.supervisor.node().active), (1, 1));
        for id in ["a", "b", "c"] {
            world.kill(id).await;
        }
    });
}
