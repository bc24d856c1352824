//! What an agent has written down about itself counts beside its screen, whatever it puts in its place.

use stockade::api::agent::Spawn;
use stockade::api::{Stage, State};
use stockade::daemon::supervisor::Config;

use crate::common::node::Node;
use crate::scripted::{cli, got, queued};
use crate::world::daemon;

#[test]
fn nothing_is_typed_while_an_agent_has_written_down_that_it_waits_for_something_else() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "claude", &["status=waiting"])).await;
        let agent = world.until("a", "blocked", |agent| agent.state == State::Blocked).await;
        assert_eq!(agent.evidence, "its session file says that it waits for an answer");
        assert!(!agent.safe_to_type);
        let sent = world.send("a", queued("hello")).await.expect("it waits");
        assert_eq!(sent.stage, Stage::Queued);
        // It shows nothing new, and says so all the same.
        world.go_on("a").await;
        let delivery = world.comes_to("a", &sent.id, Stage::Answered).await;
        assert_eq!(delivery.response.as_deref(), Some(got("hello", 1, "none").as_str()));
        world.kill("a").await;
    });
}

#[test]
fn what_stands_in_the_place_of_its_session_file_costs_nothing_but_the_answer() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        for (id, place) in [("a", "fifo"), ("b", "link"), ("c", "endless")] {
            world.spawn(cli(id, "claude", &[&format!("status={place}")])).await;
            assert_eq!(world.told(id, "hello").await, got("hello", 1, "none"), "{place}");
            world.kill(id).await;
        }
    });
}

#[test]
fn an_agent_is_made_to_report_whoever_may_answer_its_questions() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let script = "grep -c 7501 ~/.claude/settings.json; echo {} > ~/.claude/settings.json; read x";
        let spawn = |id: &str| Spawn {
            id: Some(id.into()),
            kind: "claude".into(),
            policy: Some("shell".into()),
            command: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
            home: Some("kept".into()),
            workspace_id: Some("work".into()),
            answers: Some(Vec::new()),
            ..Spawn::default()
        };
        world.spawn(spawn("a")).await;
        world.shows("a", "8").await;
        world.kill("a").await;
        // What is there is somebody's own.
        world.spawn(spawn("b")).await;
        world.shows("b", "0").await;
        world.kill("b").await;
    });
}
