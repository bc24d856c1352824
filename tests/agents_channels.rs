//! What an agent says of itself outside its screen (reports, what it has written down): it can make nothing safe to type on,
//! and holds back what its screen alone would allow.

use std::time::Duration;

use stockade::agents::{Doubt, Kind, Library, Watcher};
use stockade::api::agent::{Size, State};

fn claude() -> Kind {
    Library::of([], 0).load("claude").expect("a shipped kind")
}

/// Claude's composer, with this footer.
fn composer(footer: &str) -> String {
    let rule = "─".repeat(80);
    format!(
        "\x1b[?2004h\x1b]0;✳ Claude Code\x07\x1b[2J\x1b[H● Done.\r\n\r\n{rule}\r\n❯ \r\n{rule}\r\n  {footer}\r\n"
    )
}

fn report(state: &str) -> String {
    format!("\x1b]7501;state={state}:app=claude\x1b\\")
}

/// A watcher, and the time.
struct Played {
    watcher: Watcher,
    now: u64,
}

impl Played {
    fn of(output: &str) -> Self {
        let mut played = Self { watcher: Watcher::new(claude(), Size { cols: 80, rows: 24 }), now: 0 };
        played.shows(output);
        played.waits(2000);
        played
    }

    fn shows(&mut self, output: &str) {
        self.watcher.feed(Duration::from_millis(self.now), output.as_bytes());
    }

    fn waits(&mut self, ms: u64) {
        self.now += ms;
        let end = Duration::from_millis(self.now);
        while let Some(due) = self.watcher.deadline().filter(|due| *due <= end) {
            self.watcher.tick(due);
        }
    }

    /// It has written this down, and some time passes.
    fn told(&mut self, status: &str) -> (State, bool) {
        self.watcher.told(Duration::from_millis(self.now), status.into());
        self.waits(2000);
        self.is()
    }

    fn is(&mut self) -> (State, bool) {
        (self.watcher.observation().state, self.watcher.is_safe_to_type())
    }
}

#[test]
fn what_an_agent_writes_down_holds_back_what_its_screen_would_allow() {
    let mut agent = Played::of(&composer("? for shortcuts"));
    assert_eq!((agent.is(), agent.watcher.doubt()), ((State::Ready, true), Some(Doubt::Screen)));
    assert_eq!(agent.told("waiting dialog open"), (State::Blocked, false));
    assert_eq!(agent.watcher.doubt(), Some(Doubt::Contradicted), "it is asked again");
    assert_eq!(agent.told("busy"), (State::Busy, false));
    for nothing in ["idle", "", "something new"] {
        assert_eq!(agent.told(nothing), (State::Ready, true), "{nothing:?}");
    }
}

#[test]
fn what_an_agent_writes_down_makes_nothing_safe_to_type_on() {
    let dialogs = [
        "\x1b[?2004h Bash command\r\n\r\n Do you want to proceed?\r\n ❯ 1. Yes\r\n   3. No\r\n\r\n Esc to cancel · Tab to amend",
        "\x1b[?2004h Select login method:\r\n\r\n ❯ 1. Claude account with subscription\r\n   3. 3rd-party platform",
        "\x1b[?2004h Something that nobody has seen yet",
    ];
    for dialog in dialogs {
        let mut agent = Played::of(dialog);
        let (before, safe) = agent.is();
        assert!(!safe, "{dialog}");
        assert_eq!(agent.told("idle"), (before, false), "{dialog}");
        agent.shows(&report("idle"));
        agent.waits(9000);
        let (state, safe) = agent.is();
        assert!(state != State::Ready && !safe, "{state:?}: {dialog}");
    }
    let mut login = Played::of(dialogs[1]);
    assert_eq!((login.watcher.doubt(), login.told("busy")), (None, (State::LoginRequired, false)));
    let mut unknown = Played::of(dialogs[2]);
    assert_eq!(unknown.told("waiting permission prompt"), (State::Blocked, false));
    assert_eq!(unknown.told("busy"), (State::Busy, false));
}

#[test]
fn a_report_holds_for_as_long_as_the_screen_shows_nothing_else() {
    let mut agent = Played::of(&composer("? for shortcuts"));
    agent.shows(&report("blocked"));
    agent.shows("\x1b[2J\x1b[HA question that nobody has seen yet");
    agent.waits(500);
    assert_eq!(agent.is(), (State::Blocked, false));
    // It was broken off, of which nothing is reported.
    agent.shows(&composer("? for shortcuts"));
    agent.waits(2000);
    assert_eq!(agent.is(), (State::Blocked, false), "it is believed for a while");
    agent.waits(1000);
    assert_eq!(agent.is(), (State::Ready, true));
    for lie in ["working", "done", "idle", "clear", "ready"] {
        agent.shows(&report(lie));
        agent.waits(3000);
        assert_eq!(agent.is(), (State::Ready, true), "{lie}: a lie costs seconds at most");
        let mut spins = Played::of(&composer("esc to interrupt"));
        spins.shows(&report(lie));
        spins.waits(3000);
        assert_eq!(spins.is(), (State::Busy, false), "{lie}");
    }
}

#[test]
fn a_composer_is_one_only_at_the_very_left() {
    let rule = "─".repeat(60);
    for place in [
        // A frame's edges, as those around a field of a dialog.
        format!("╭{rule}╮\r\n❯ Auto-compact   true\r\n╰{rule}╯\r\n  ? for shortcuts"),
        format!("  {rule}\r\n  ❯ what it quotes\r\n  {rule}\r\n  ? for shortcuts"),
        format!("{rule}\r\n  Settings\r\n  ❯ Auto-compact   true\r\n{rule}\r\n  ? for shortcuts"),
    ] {
        let mut agent = Played::of(&format!("\x1b[?2004h{place}\r\n"));
        let (state, safe) = agent.is();
        assert!(state != State::Ready && !safe, "{state:?}:\n{place}");
    }
}

#[test]
fn no_kind_may_say_that_something_is_safe_because_the_agent_has_written_it_down() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mine.toml");
    let rule = "description = 'x'\n[[screen]]\nname = 'a'\nstate = 'ready'\nevidence = 'x'\nall = [{ status = 'idle' }, { text = 'x' }]\n";
    std::fs::write(&path, rule).expect("written");
    let error = stockade::agents::library::check(&path).expect_err("refused");
    assert!(format!("{error:?}").contains("makes nothing safe"), "{error:?}");
}
