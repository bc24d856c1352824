//! Recordings of the real agents, made by `tests/recordings/record.py`, through the rules: each is right at each marked time.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use stockade::agents::cast::{Cast, CastError, Event};
use stockade::agents::replay::replay;
use stockade::agents::turn;
use stockade::agents::{Kind, Library, Observation, Watcher};
use stockade::api::agent::State;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

fn kind(name: &str) -> Kind {
    Library::of([], 0).load(name).expect("a shipped kind")
}

/// Every recording's name.
fn recordings() -> Vec<String> {
    let entries = fs::read_dir(directory()).expect("the recordings");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let mut names: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".cast")?.to_owned())).collect();
    names.sort();
    assert!(names.len() > 20, "only {} recordings: this test reads nothing", names.len());
    names
}

fn open(name: &str) -> BufReader<File> {
    BufReader::new(File::open(directory().join(format!("{name}.cast"))).expect("a recording"))
}

fn marks(name: &str) -> Vec<Value> {
    let text = fs::read(directory().join(format!("{name}.json"))).expect("its marks");
    serde_json::from_slice(&text).expect("JSON")
}

fn known(name: &str) -> Vec<Observation> {
    let agent = name.split('-').next().expect("a kind");
    let mut known = Vec::new();
    replay(kind(agent), open(name), |observation, _| {
        known.push(observation.clone());
        Ok::<_, CastError>(())
    })
    .expect("a recording");
    known
}

fn url(observation: &Observation) -> Option<&str> {
    observation.login.as_ref()?.url.as_deref()
}

#[test]
fn every_recording_is_right_at_every_mark() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for name in recordings() {
        let known = known(&name);
        for mark in marks(&name) {
            count += 1;
            let at = Duration::from_secs_f64(mark["t"].as_f64().expect("a time"));
            let then = known.iter().rfind(|observation| observation.at <= at).expect("it starts at zero");
            let code = then.login.as_ref().and_then(|login| login.user_code.as_deref());
            let right = then.state.as_str() == mark["state"]
                && mark.get("url").is_none_or(|wanted| url(then) == wanted.as_str())
                && mark.get("userCode").is_none_or(|wanted| code == wanted.as_str());
            if !right {
                wrong.push(format!("{name} at {at:?}: wanted {mark}, knew {then:?}"));
            }
        }
    }
    assert!(count > 100, "only {count} marks");
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_login_is_claimed_where_there_is_none_and_no_address_is_made_up() {
    for name in recordings() {
        let marks = marks(&name);
        let logs_in = marks.iter().any(|mark| mark["state"] == "login-required");
        let urls: Vec<&str> = marks.iter().filter_map(|mark| mark.get("url")?.as_str()).collect();
        for observation in known(&name) {
            assert!(logs_in || observation.state != State::LoginRequired, "{name}: {observation:?}");
            assert!(url(&observation).is_none_or(|url| urls.contains(&url)), "{name}: {observation:?}");
            assert!(
                !observation.safe_to_type || observation.state != State::Blocked,
                "{name}: {observation:?}"
            );
        }
    }
}

#[test]
fn output_says_the_same_however_it_is_cut_into_reads() {
    for name in
        ["claude-subscription-80x24", "codex-device-120x40", "gemini-google-61x19", "aider-openrouter-80x24"]
    {
        let whole = known(name);
        let mut cast = Cast::open(open(name)).expect("a recording");
        let agent = name.split('-').next().expect("a kind");
        let mut watcher = Watcher::new(kind(agent), cast.size());
        let mut cut = vec![watcher.observation().clone()];
        let mut width = 1;
        while let Some((at, event)) = cast.next_event().expect("an event") {
            let Event::Output(text) = event else { continue };
            while let Some(due) = watcher.deadline().filter(|due| *due <= at) {
                cut.extend(watcher.tick(due));
            }
            for piece in text.as_bytes().chunks(width) {
                cut.extend(watcher.feed(at, piece));
            }
            width = width % 7 + 1;
        }
        let seen =
            |list: &[Observation]| list.iter().map(|o| (o.at, o.state, o.login.clone())).collect::<Vec<_>>();
        let whole = seen(&whole);
        let cut = seen(&cut);
        assert_eq!(cut, whole[..cut.len()], "{name}");
        assert!(whole.len() - cut.len() <= 1, "{name}: {whole:?}");
    }
}

#[test]
fn codex_is_not_ready_before_it_was_asked_for_trust() {
    for name in
        recordings().iter().filter(|name| name.starts_with("codex-trust") || name.starts_with("codex-daemon"))
    {
        let states: Vec<State> = known(name).iter().map(|observation| observation.state).collect();
        let asked = states.iter().position(|state| *state == State::Blocked).expect("the question");
        assert!(!states[..asked].contains(&State::Ready), "{name}: {states:?}");
    }
}

#[test]
fn geminis_title_says_ready_while_it_waits_for_a_sign_in() {
    let mut titles = Vec::new();
    replay(kind("gemini"), open("gemini-google-80x24"), |observation, watcher| {
        if observation.state == State::LoginRequired {
            titles.push(watcher.view().title);
        }
        Ok::<_, CastError>(())
    })
    .expect("a recording");
    assert!(titles.iter().any(|title| title.contains("Ready")), "the trap is gone: {titles:?}");
}

#[test]
fn geminis_box_that_passes_by_at_every_start_is_no_login() {
    for name in recordings().iter().filter(|name| name.starts_with("gemini-google")) {
        let text = fs::read_to_string(directory().join(format!("{name}.cast"))).expect("a recording");
        assert!(text.contains("Waiting"), "{name}: the trap is gone");
        let trust = marks(name)[0]["t"].as_f64().expect("a time");
        let known = known(name);
        let mut before = known.iter().filter(|observation| observation.at.as_secs_f64() <= trust);
        assert!(before.all(|observation| observation.state != State::LoginRequired), "{name}: {known:?}");
    }
}

#[test]
fn an_agent_that_tries_again_and_again_is_busy_and_not_lost() {
    for name in ["claude-offline-80x24", "codex-offline-80x24"] {
        let end = marks(name).last().and_then(|mark| mark["t"].as_f64()).expect("a mark");
        let mut known = known(name);
        known.retain(|observation| observation.at.as_secs_f64() <= end);
        let busy = known.iter().position(|observation| observation.state == State::Busy).expect("it tries");
        let after: Vec<State> = known[busy..].iter().map(|observation| observation.state).collect();
        assert!(!after.contains(&State::Unknown) && !after.contains(&State::Ready), "{name}: {after:?}");
    }
}

#[test]
fn a_refused_attempt_is_told_in_the_agents_own_words_at_every_size() {
    for (start, words) in [
        ("claude-subscription-", "OAuth error: Request failed with status code 400"),
        ("claude-subscription-", "OAuth error: Invalid code. Please make sure the full code was copied"),
        ("gemini-google-", "Failed to authenticate with authorization code:invalid_grant"),
    ] {
        let names: Vec<String> = recordings().into_iter().filter(|name| name.starts_with(start)).collect();
        assert!(names.len() >= 3, "{names:?}");
        for name in names {
            let known = known(&name);
            let told: Vec<&str> = known
                .iter()
                .filter_map(|observation| observation.login.as_ref()?.refused.as_deref())
                .collect();
            assert!(told.contains(&words), "{name}: {told:?}");
        }
    }
}

#[test]
fn the_text_of_a_recorded_turn_is_what_the_agent_said_and_nothing_else() {
    let all = recordings();
    let turns: Vec<&String> = all.iter().filter(|name| name.contains("-turns-")).collect();
    assert!(turns.len() >= 9, "{turns:?}");
    for name in turns {
        let of = name.split('-').next().expect("a kind");
        let said = if of == "gemini" { "be brief please" } else { "be slow please" };
        let (mut worked, mut told) = (false, None);
        let each = |seen: &Observation, watcher: &mut Watcher| -> Result<(), CastError> {
            worked |= seen.state == State::Busy;
            if worked && seen.state == State::Ready && told.is_none() {
                let view = watcher.view();
                let rows = view.above.iter().chain(&view.rows);
                let lines: Vec<String> = rows.map(|row| row.text.clone()).collect();
                told = Some(turn::text(&watcher.kind().turn, &lines, said));
            }
            Ok(())
        };
        replay(kind(of), open(name), each).expect("replayed");
        assert_eq!(told.as_deref(), Some("Everything is as it should be."), "{name}");
    }
}
