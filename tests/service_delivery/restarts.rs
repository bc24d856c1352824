//! A daemon that ends in between: nothing is typed twice, nothing that waits is lost, and what is uncertain is said to be.

use stockade::api::agent::Send;
use stockade::api::events::Happened;
use stockade::api::{Stage, State};
use stockade::daemon::supervisor::{Config, SupervisorError};

use crate::common::node::Node;
use crate::scripted::{asks, cli, got, queued};
use crate::world::{daemon, patiently};

fn keyed(message: Send, key: &str) -> Send {
    Send { key: Some(key.into()), ..message }
}

#[test]
fn what_waits_is_typed_by_the_next_daemon_and_a_turn_is_told_by_it() {
    let mut node = Node::start();
    let (first, second) = daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "claude", &["slow=6"])).await;
        let first = world.send("a", keyed(Send { message: "one".into(), ..Send::default() }, "1")).await;
        let first = first.expect("typed");
        assert_eq!(first.stage, Stage::Taken);
        let second = world.send("a", keyed(queued("two"), "2")).await.expect("queued");
        assert_eq!(second.stage, Stage::Queued);
        (first.id, second.id)
    });
    daemon(&mut node, Config::default(), async |world| {
        let (_, mut events) = world.supervisor.events().follow(None);
        let told = world.send("a", keyed(asks("one"), "1")).await.expect("answered");
        assert_eq!((&told.id, told.response.as_deref()), (&first, Some(got("one", 1, "none").as_str())));
        let told = world.send("a", keyed(asks("two"), "2")).await.expect("answered");
        assert_eq!((&told.id, told.response.as_deref()), (&second, Some(got("two", 2, "none").as_str())));
        let mut turns = Vec::new();
        while turns.len() < 2 {
            if let Happened::TurnComplete(turn) = &patiently(events.recv()).await.expect("told").happened {
                turns.push(turn.message.clone());
            }
        }
        world.kill("a").await;
        // Each once.
        while let Ok(event) = events.try_recv() {
            assert!(!matches!(event.happened, Happened::TurnComplete(_)), "{event:?}");
        }
        assert_eq!(turns, [first.clone(), second.clone()]);
    });
}

#[test]
fn what_was_being_typed_when_the_daemon_ended_is_uncertain_and_not_typed_again() {
    let mut node = Node::start();
    let long = format!("{}the end", "a line of a long message\n".repeat(4000));
    let id = daemon(&mut node, Config::default(), async |world| {
        // It draws its composer, and reads nothing for a while: most of the message waits on the way.
        world.spawn(cli("a", "claude", &["stuck=15"])).await;
        world.until("a", "ready", |agent| agent.state == State::Ready).await;
        let sent = Send { timeout_ms: Some(6000), ..keyed(asks(&long), "k") };
        let late = world.send("a", sent).await;
        let Err(SupervisorError::Timeout { .. }) = late else { panic!("{late:?}") };
        let all = world.supervisor.deliveries(&world.me, "a").expect("known");
        assert_eq!(all[0].stage, Stage::Typing, "{all:?}");
        all[0].id.clone()
    });
    daemon(&mut node, Config::default(), async |world| {
        let delivery = world.delivery("a", &id);
        assert_eq!(delivery.stage, Stage::Uncertain, "{delivery:?}");
        let again = world.send("a", keyed(asks(&long), "k")).await;
        let Err(SupervisorError::NotDelivered { stage: Stage::Uncertain, message, .. }) = again else {
            panic!("{again:?}")
        };
        assert_eq!(message, id);
        assert_eq!(world.supervisor.deliveries(&world.me, "a").expect("known").len(), 1);
        world.kill("a").await;
    });
}
