//! Questions of an agent's that are answered in the user's stead, and those that are not.

use std::time::Duration;

use stockade::api::State;
use stockade::api::agent::Spawn;
use stockade::api::events::Happened;
use stockade::daemon::supervisor::Config;

use crate::common::node::Node;
use crate::scripted::{cli, got};
use crate::world::{World, daemon};

/// Stays on this page, and presses nothing.
async fn stays_blocked(world: &World, id: &str) {
    world.until(id, "blocked", |agent| agent.state == State::Blocked).await;
    // Longer than an answer takes; whether one was given, the script says afterwards.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.get(id).state, State::Blocked);
    world.go_on(id).await;
    assert_eq!(world.told(id, "hello").await, got("hello", 1, "none"));
    world.kill(id).await;
}

#[test]
fn what_decides_nothing_and_trust_in_the_own_workspace_are_answered_and_told() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let (_, mut events) = world.supervisor.events().follow(None);
        world.spawn(cli("a", "claude", &["pages=notes,trust"])).await;
        let keys = r"notes:b'\r',trust:b'\r'";
        assert_eq!(world.told("a", "hello").await, got("hello", 1, keys));
        let mut answered = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Happened::QuestionAnswered(question) = &event.happened {
                answered.push(question.screen.clone());
            }
        }
        assert_eq!(answered, ["security-notes", "trust"]);
        world.kill("a").await;
    });
}

#[test]
fn trust_in_another_directory_is_left_to_people() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "claude", &["pages=other"])).await;
        stays_blocked(world, "a").await;
    });
}

#[test]
fn a_permission_is_left_to_people_even_if_everything_is_named() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let answers = ["safe", "permission", "dialog", "key-found", "trust"].map(str::to_owned).to_vec();
        world.spawn(Spawn { answers: Some(answers), ..cli("a", "claude", &["pages=dialog"]) }).await;
        stays_blocked(world, "a").await;
    });
}

#[test]
fn a_key_is_used_only_if_the_start_says_so() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "claude", &["pages=key"])).await;
        stays_blocked(world, "a").await;
        let answers = Some(vec!["key-found".to_owned()]);
        world.spawn(Spawn { answers, ..cli("b", "claude", &["pages=key"]) }).await;
        let keys = r"key:b'\x1b[A',key:b'\r'";
        assert_eq!(world.told("b", "hello").await, got("hello", 1, keys));
        world.kill("b").await;
    });
}

#[test]
fn whoever_wants_nothing_answered_gets_nothing_answered() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(Spawn { answers: Some(Vec::new()), ..cli("a", "claude", &["pages=notes"]) }).await;
        stays_blocked(world, "a").await;
    });
}

#[test]
fn files_that_spare_questions_are_written_into_a_home_that_has_none_and_replace_nothing() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let script = "cat ~/.claude.json; stat -c ' %a' ~/.claude.json; echo mine > ~/.claude.json; read x";
        let spawn = |id: &str, answers| Spawn {
            id: Some(id.into()),
            kind: "claude".into(),
            policy: Some("shell".into()),
            command: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
            home: Some("kept".into()),
            workspace_id: Some("work".into()),
            answers,
            ..Spawn::default()
        };
        world.spawn(spawn("a", None)).await;
        let workspace = world.get("a").workspace.expect("a workspace");
        world.shows("a", &format!("{{\"{workspace}\":{{\"hasTrustDialogAccepted\":true}}}}")).await;
        world.shows("a", " 600").await;
        world.kill("a").await;
        world.spawn(spawn("b", None)).await;
        world.shows("b", "mine").await;
        world.kill("b").await;
        // A link in their place leads nowhere.
        let link = "rm ~/.claude.json; ln -s /tmp/elsewhere ~/.claude.json; touch linked; read x";
        let mut linked = spawn("c", None);
        linked.command = Some(["sh", "-c", link].map(str::to_owned).to_vec());
        world.spawn(linked).await;
        crate::world::soon("linked", async || {
            let exec = stockade::api::agent::Exec {
                command: ["test", "-e", "linked"].map(str::to_owned).to_vec(),
                ..Default::default()
            };
            let ran = world.supervisor.exec(&world.me, "c", exec).await.ok()?;
            (ran.exit_code == 0).then_some(())
        })
        .await;
        world.kill("c").await;
        let mut last = spawn("d", None);
        last.command = Some(
            ["sh", "-c", "ls -d /tmp/elsewhere || echo nothing there; read x"].map(str::to_owned).to_vec(),
        );
        world.spawn(last).await;
        world.shows("d", "nothing there").await;
        world.kill("d").await;
        // Nor is a home of no use any more because its owner has closed what is in it.
        for (id, script) in [
            ("f", "chmod 0 ~/.claude; chmod 500 ~; echo closed"),
            ("g", "chmod 0 ~; echo again"),
            ("h", "echo still"),
        ] {
            let mut closed = spawn(id, None);
            closed.command = Some(["sh", "-c", &format!("{script}; read x")].map(str::to_owned).to_vec());
            world.spawn(closed).await;
            world.shows(id, script.rsplit(' ').next().expect("a word")).await;
            world.kill(id).await;
        }
        // Who wants nothing answered gets none.
        let mut none = spawn("e", Some(Vec::new()));
        none.home = None;
        none.command = Some(
            ["sh", "-c", "ls -A ~ | grep claude.json || echo empty; read x"].map(str::to_owned).to_vec(),
        );
        world.spawn(none).await;
        world.shows("e", "empty").await;
        world.kill("e").await;
    });
}
