//! Whoever of the service ends: no agent, no byte of output, no exit code is lost.

use std::fs;
use std::time::Instant;

use stockade::api::State;
use stockade::api::agent::Spawn;
use stockade::daemon::supervisor::{Config, SupervisorError};

use crate::common::leaks::eventually;
use crate::common::node::{DAEMON, Node};
use crate::world::{daemon, output, patiently, shell, soon};

/// How many agents are found again at once; more with STOCKADE_TEST_AGENTS.
const AGENTS: usize = 20;

#[test]
fn the_launcher_may_end_at_any_time() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(shell("a", "stty -echo; echo up; read x; echo got $x; exit 4")).await;
        world.shows("a", "up").await;
        world.kill_launcher();
        soon("it is noticed", async || (!world.supervisor.node().launcher).then_some(())).await;
        // What runs goes on, and ends with its exit code.
        world.type_in("a", "it\r").await;
        let ended = world.ended("a").await;
        assert_eq!(ended.exit_code, Some(4));
        assert_eq!(output(&world.terminal("a"), 0).await, "up\r\ngot it\r\n");
        // A start waits for a launcher, but not for ever; and leaves nothing.
        let refused = patiently(world.supervisor.spawn(&world.me, shell("b", "read x"))).await;
        assert!(matches!(refused, Err(SupervisorError::Launcher { .. })), "{:?}", refused.err());
        world.start_launcher();
        soon("it is there again", async || world.supervisor.node().launcher.then_some(())).await;
        soon("the id is free", async || world.supervisor.get(&world.me, "b").is_err().then_some(())).await;
        soon("it starts", async || world.supervisor.spawn(&world.me, shell("b", "read x")).await.ok()).await;
        world.trace("b");
        world.kill("b").await;
        patiently(world.supervisor.remove(&world.me, "a")).await.expect("removed");
    });
}

#[test]
fn both_may_end_under_load_and_no_byte_of_output_is_lost() {
    let mut node = Node::start();
    let script = "stty -echo -opost; read x; seq 1 60000; echo end; exit 9";
    daemon(&mut node, Config::default(), async |world| {
        for id in ["a", "b"] {
            world.spawn(shell(id, script)).await;
            world.type_in(id, "go\r").await;
        }
        world.shows("a", "100\n").await;
        world.kill_launcher();
    });
    eventually("they end by themselves", || ["a", "b"].iter().all(|id| node.exit(id).is_some()));
    node.start_launcher();
    daemon(&mut node, Config::default(), async |world| {
        let expected: String = (1..=60_000).map(|n| format!("{n}\n")).collect();
        for id in ["a", "b"] {
            // Its shim may just be saying so.
            let ended = world.ended(id).await;
            assert_eq!((ended.state, ended.exit_code), (State::Exited, Some(9)), "{ended:?}");
            let shown = output(&world.terminal(id), 0).await;
            assert!(shown.trim_start().starts_with(&expected), "{} bytes", shown.len());
        }
    });
}

#[test]
fn a_start_that_both_left_half_made_is_made_by_whoever_asks_again() {
    let mut node = Node::start();
    let request = || shell("a", "exit 4");
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(request()).await;
        world.ended("a").await;
    });
    // As if both had ended once its directory was there.
    node.kill_launcher();
    let (agent, record) = (node.places().agent("a"), node.places().records().join("agents/a.json"));
    fs::remove_dir_all(agent.join("terminal")).expect("removed");
    fs::remove_file(agent.join("exit.json")).expect("removed");
    let mut document: serde_json::Value =
        serde_json::from_slice(&fs::read(&record).expect("a record")).expect("JSON");
    document.as_object_mut().expect("an object").remove("started").expect("it was started");
    fs::write(&record, document.to_string()).expect("written");
    node.start_launcher();
    assert!(node.exit("a").is_some_and(|ended| ended.not_started.is_some()));
    daemon(&mut node, Config::default(), async |world| {
        patiently(world.supervisor.spawn(&world.me, request())).await.expect("started");
        assert_eq!(world.ended("a").await.exit_code, Some(4));
    });
}

#[test]
fn a_shim_that_was_killed_is_noticed_and_its_agent_has_failed() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(shell("a", "echo up; read x")).await;
        world.shows("a", "up").await;
        world.kill_shim("a");
        let failed = world.ended("a").await;
        assert_eq!(failed.state, State::Failed, "{failed:?}");
        assert_eq!(failed.exit_code, None);
        // And everything of it can be removed.
        patiently(world.supervisor.remove(&world.me, "a")).await.expect("removed");
    });
}

/// Where the daemon that is to be killed lives.
const ROOT: &str = "STOCKADE_TEST_ROOT";

#[test]
#[ignore = "the daemon of the test below, in a process of its own"]
fn a_daemon_that_starts_agents_until_it_is_killed() {
    let root = std::env::var(ROOT).expect("started by the test below");
    let places = stockade::wire::service::Places::under(root);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let supervisor = stockade::daemon::supervisor::Supervisor::start(places, Config::default()).await;
        let supervisor = supervisor.expect("it starts");
        let me = crate::world::caller("research");
        for number in 0.. {
            let request = shell(&format!("k{number}"), "seq 1 3000; exit 7");
            // The later daemons ask for the same, and find it; what was under way, they start.
            supervisor.spawn(&me, request).await.expect("started");
            println!("started k{number}");
        }
    });
}

#[test]
fn a_daemon_that_is_killed_at_any_moment_loses_no_agent_that_it_has_answered_for() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;

    let mut node = Node::start();
    let mut answered = Vec::new();
    for round in 1..=3 {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
        let test = "surviving::a_daemon_that_starts_agents_until_it_is_killed";
        command.args(["--exact", test, "--ignored", "--nocapture"]).env(ROOT, node.root());
        command.uid(DAEMON).gid(DAEMON).stdout(std::process::Stdio::piped());
        let mut daemon = command.spawn().expect("it starts");
        let lines = BufReader::new(daemon.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let started = lines.filter_map(|line| Some(line.split_once("started ")?.1.to_owned()));
        answered.clear();
        answered.extend(started.take(3 * round));
        daemon.kill().expect("killed");
        daemon.wait().expect("reaped");
    }
    daemon(&mut node, Config::default(), async |world| {
        assert_eq!(answered.len(), 9);
        let expected: String = (1..=3000).map(|n| format!("{n}\r\n")).collect();
        for id in &answered {
            let ended = world.ended(id).await;
            assert_eq!(ended.exit_code, Some(7), "{ended:?}");
            assert_eq!(output(&world.terminal(id), 0).await, expected);
        }
        // One that was under way is there, too, and ends, or never was.
        for agent in world.supervisor.list(&world.me) {
            world.ended(&agent.id).await;
        }
    });
}

#[test]
fn all_agents_are_found_again_at_once() {
    let mut node = Node::start();
    let count = std::env::var("STOCKADE_TEST_AGENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(AGENTS);
    daemon(&mut node, Config::default(), async |world| {
        for n in 0..count {
            world.spawn(Spawn { kind: "custom".into(), ..shell(&format!("a{n}"), "sleep 1000") }).await;
        }
    });
    let begun = Instant::now();
    let found = daemon(&mut node, Config::default(), async |world| {
        let took = begun.elapsed();
        println!("{count} agents found again within {took:?}");
        let agents = world.supervisor.list(&world.me);
        let stops = agents.iter().map(|agent| agent.id.clone()).collect::<Vec<_>>();
        for id in stops {
            world.kill(&id).await;
        }
        agents
    });
    assert_eq!(found.len(), count);
    assert!(found.iter().all(|agent| !agent.state.is_final() && agent.started_at.is_some()));
}
