//! From the queue to the answer.

use stockade::api::agent::Send;
use stockade::api::events::Happened;
use stockade::api::{Stage, State};
use stockade::daemon::supervisor::{Config, SupervisorError};

use crate::common::node::Node;
use crate::scripted::{asks, cli, got, queued};
use crate::world::{World, daemon, patiently};

const KINDS: [&str; 4] = ["claude", "codex", "gemini", "aider"];

#[test]
fn of_each_kind_a_message_is_answered_with_the_agents_words_and_nothing_else() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        for kind in KINDS {
            world.spawn(cli(kind, kind, &[])).await;
        }
        for kind in KINDS {
            assert_eq!(world.told(kind, "hello there").await, got("hello there", 1, "none"), "{kind}");
            let lines = "first line\n  second line\n\nthe last one";
            assert_eq!(world.told(kind, lines).await, got(lines, 2, "none"), "{kind}");
            world.kill(kind).await;
        }
    });
}

#[test]
fn a_message_of_100_kb_arrives_whole() {
    let mut node = Node::start();
    let long: String =
        (0..1800).map(|n| format!("line {n:04} of a message that is longer than any screen is\n")).collect();
    let long = format!("{long}and this is its end");
    assert!(long.len() > 100_000);
    daemon(&mut node, Config::default(), async |world| {
        for kind in ["claude", "codex", "gemini"] {
            world.spawn(cli(kind, kind, &[])).await;
            assert_eq!(world.told(kind, &long).await, got(&long, 1, "none"), "{kind}");
            world.kill(kind).await;
        }
    });
}

#[test]
fn no_message_ends_its_paste_or_presses_a_key() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "claude", &[])).await;
        world.until("a", "ready", |agent| agent.state == State::Ready).await;
        // The way is open: what is typed as it is does end the paste, and submit.
        world.type_in("a", "\x1b[200~typed\x1b[201~x\r").await;
        world.shows("a", "Other keys: b'x'").await;
        world.until("a", "ready", |agent| agent.state == State::Ready).await;
        let hostile = "harmless\x1b[201~\rrm -rf /\r\x03\x1b\x1b[201~\u{9b}201~end";
        // Line breaks are kept, and nothing else of it is a key.
        let text = "harmless\nrm -rf /\n201~end";
        assert_eq!(world.told("a", hostile).await, got(text, 2, "b'x'"));
        world.kill("a").await;
    });
}

async fn refused(world: &World, id: &str, state: &str) {
    let plain = Send { message: "hello".into(), ..Send::default() };
    match world.send(id, plain).await {
        Err(SupervisorError::State { state: found, .. }) => assert_eq!(found, state),
        other => panic!("{other:?}"),
    }
}

#[test]
fn while_a_question_or_a_login_is_there_nothing_is_typed_and_what_is_queued_comes_after() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let mut spawn = cli("a", "claude", &["pages=dialog,login"]);
        spawn.answers = Some(Vec::new());
        world.spawn(spawn).await;
        world.until("a", "blocked", |agent| agent.state == State::Blocked).await;
        refused(world, "a", "blocked").await;
        assert_eq!(world.supervisor.deliveries(&world.me, "a").expect("known"), []);
        let first = world.send("a", queued("one")).await.expect("queued");
        assert_eq!((first.sent, first.stage), (false, Stage::Queued));
        assert_eq!(first.why.as_deref(), Some("the agent waits for a decision"));
        let second = world.send("a", queued("two")).await.expect("queued");
        assert_eq!(second.why.as_deref(), Some("another message is before it"));
        world.go_on("a").await;
        world.until("a", "a login", |agent| agent.state == State::LoginRequired).await;
        refused(world, "a", "login-required").await;
        world.go_on("a").await;
        // No key was pressed on either page.
        let one = world.comes_to("a", &first.id, Stage::Answered).await;
        assert_eq!(one.response.as_deref(), Some(got("one", 1, "none").as_str()));
        let two = world.comes_to("a", &second.id, Stage::Answered).await;
        assert_eq!(two.response.as_deref(), Some(got("two", 2, "none").as_str()));
        assert!(one.verified && one.typed_at.is_some() && one.taken_at.is_some() && one.ended_at.is_some());
        world.kill("a").await;
    });
}

#[test]
fn a_composer_that_is_not_logged_in_gets_no_message_but_a_command() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "claude", &["pages=outside"])).await;
        world.until("a", "a login", |agent| agent.state == State::LoginRequired && agent.safe_to_type).await;
        refused(world, "a", "login-required").await;
        let first = world.send("a", queued("one")).await.expect("queued");
        assert_eq!(first.why.as_deref(), Some("the agent waits for a login"));
        world.go_on("a").await;
        let one = world.comes_to("a", &first.id, Stage::Answered).await;
        // The page had a composer, and would have taken it, only to say that nobody is logged in.
        assert_eq!(one.response.as_deref(), Some(got("one", 1, "none").as_str()));
        world.kill("a").await;
    });
}

#[test]
fn a_busy_agent_takes_no_message_unless_it_may_wait() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "codex", &["slow=4"])).await;
        let first = world.send("a", Send { message: "one".into(), ..Send::default() }).await.expect("typed");
        assert_eq!((first.sent, first.stage), (true, Stage::Taken));
        world.until("a", "busy", |agent| agent.state == State::Busy).await;
        refused(world, "a", "busy").await;
        assert_eq!(world.told("a", "two").await, got("two", 2, "none"));
        let one = world.delivery("a", &first.id);
        assert_eq!(one.response.as_deref(), Some(got("one", 1, "none").as_str()));
        world.kill("a").await;
    });
}

#[test]
fn an_enter_that_was_not_heard_is_pressed_again_and_nothing_is_typed_again() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "claude", &["deaf=2"])).await;
        assert_eq!(world.told("a", "hello there").await, got("hello there", 1, "enter,enter"));
        world.kill("a").await;
    });
}

#[test]
fn what_does_not_show_in_the_composer_is_not_submitted_and_said_to_be_uncertain() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        let (_, mut events) = world.supervisor.events().follow(None);
        world.spawn(cli("a", "claude", &["blind=1"])).await;
        let sent = world.send("a", asks("hello there")).await;
        let Err(SupervisorError::NotDelivered { stage, why, message, .. }) = sent else { panic!("{sent:?}") };
        assert_eq!(stage, Stage::Uncertain);
        assert!(why.contains("did not show"), "{why}");
        assert!(world.delivery("a", &message).taken_at.is_none());
        let told = loop {
            if let Happened::NotDelivered(delivery) = &patiently(events.recv()).await.expect("told").happened
            {
                break delivery.clone();
            }
        };
        assert_eq!((told.id, told.stage), (message, Stage::Uncertain));
        // It took what was typed, and no Enter: that would have been a turn.
        assert_eq!(world.get("a").state, State::Ready);
        world.kill("a").await;
    });
}

#[test]
fn a_key_stands_for_one_message_and_its_answer() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "claude", &["slow=2"])).await;
        let with_key = |message: Send| Send { key: Some("k".into()), ..message };
        let first = world.send("a", with_key(queued("hello there"))).await.expect("queued");
        // Whoever asks again while it is under way waits for the same answer, and so does a third.
        let (one, two) = tokio::join!(
            world.send("a", with_key(asks("hello there"))),
            world.send("a", with_key(asks("hello there")))
        );
        let (one, two) = (one.expect("answered"), two.expect("answered"));
        assert_eq!((&one.id, &two.id), (&first.id, &first.id));
        assert_eq!(one.response.as_deref(), Some(got("hello there", 1, "none").as_str()));
        assert_eq!(one.response, two.response);
        // Later, too; and nothing was typed again.
        let late = world.send("a", with_key(asks("hello there"))).await.expect("known");
        assert_eq!((late.id, late.response), (first.id, one.response));
        let other = world.send("a", with_key(asks("something else"))).await;
        assert!(matches!(other, Err(SupervisorError::Field { field: "key", .. })), "{other:?}");
        assert_eq!(world.told("a", "next").await, got("next", 2, "none"));
        world.kill("a").await;
    });
}

#[test]
fn a_message_to_an_agent_that_ends_is_said_to_have_failed() {
    let mut node = Node::start();
    daemon(&mut node, Config::default(), async |world| {
        world.spawn(cli("a", "claude", &["pages=login"])).await;
        world.until("a", "a login", |agent| agent.state == State::LoginRequired).await;
        let queued = world.send("a", queued("hello")).await.expect("queued");
        world.kill("a").await;
        let delivery = world.comes_to("a", &queued.id, Stage::Failed).await;
        assert!(delivery.typed_at.is_none(), "{delivery:?}");
    });
}
