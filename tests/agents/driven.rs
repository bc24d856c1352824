//! The real agents through the service: each with an API key, and a stand-in that answers its model calls, from the start
//! to a message, its answer as the turn's text, a second one, one of 100 kB, and the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::dev::Dev;
use crate::vendor::model::{MARKS, Model};
use crate::vendor::model_answers;

/// Agents of this size are slow on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// One kind, and what it needs to call a model.
struct Case {
    kind: &'static str,
    /// Of the loopback's; each has its own, so that the tests may run at once.
    address: &'static str,
    hosts: &'static [&'static str],
    /// Beside the policy's.
    variables: &'static [(&'static str, &'static str)],
    /// For the spawn.
    words: &'static [&'static str],
    /// Which variable names the stand-in's authority.
    authority: &'static [&'static str],
}

/// A service with one agent in it.
struct Driven {
    dev: Dev,
    model: Model,
    kind: &'static str,
    _files: tempfile::TempDir,
}

impl Driven {
    fn start(case: &Case) -> Self {
        let installation = crate::installation();
        let files = tempfile::Builder::new().prefix("stockade-model-").tempdir().expect("a directory");
        let authority = files.path().join("ca.pem");
        let model = Model::start(case.address, case.hosts, &authority);
        let dev = Dev::start();
        let policies = dev.dir().join("etc/stockade/policies");
        fs::create_dir_all(&policies).expect("made");
        let path = crate::directory_of(case.kind);
        let resolve: String =
            case.hosts.iter().map(|host| format!("'{host}' = ['{}']\n", case.address)).collect();
        let variables = case.variables.iter().map(|(name, value)| format!("{name} = '{value}'\n"));
        let authorities = case.authority.iter().map(|name| format!("{name} = '{}'\n", authority.display()));
        let set: String = variables.chain(authorities).collect();
        let policy = format!(
            "extends = '{}'\ndescription = 'with a stand-in for its vendor'\n\
             [filesystem]\nread-only = ['{}', '{}'{}]\n\
             [environment.set]\nPATH = '{}:/usr/local/bin:/usr/bin:/bin'\n{set}\n[network.resolve]\n{resolve}",
            case.kind,
            installation.display(),
            files.path().display(),
            interpreter(&installation).map(|path| format!(", '{}'", path.display())).unwrap_or_default(),
            path.display(),
        );
        fs::write(policies.join("driven.toml"), policy).expect("written");
        let mut words =
            vec!["spawn", "--type", case.kind, "--id", "a", "--policy", "driven", "--workspace-id", "work"];
        words.extend(case.words);
        dev.ok(&words);
        Self { dev, model, kind: case.kind, _files: files }
    }

    /// Waits for a state.
    fn until(&self, state: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let agent: Value = serde_json::from_str(&self.dev.ok(&["--json", "get", "a"])).expect("JSON");
            if agent["state"] == state {
                return agent;
            }
            assert!(
                Instant::now() < deadline,
                "{} is not {state}: {} ({})\n{}\n{:?}",
                self.kind,
                agent["state"],
                agent["evidence"],
                self.dev.ok(&["screen", "a"]),
                self.model.heard()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends, and waits for the answer.
    fn asks(&self, inner: &str, key: &str) -> String {
        let message = format!("Count these: {}{inner}{}", MARKS.0, MARKS.1);
        let file = self._files.path().join("message");
        fs::write(&file, &message).expect("written");
        let mut command =
            self.dev.command(&["send", "a", "-", "--wait", "--timeout", "180s", "--idempotency-key", key]);
        let output = command.stdin(fs::File::open(&file).expect("there")).output().expect("stockade starts");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{}: {}\n{told}\n{}\n{:?}",
            self.kind,
            String::from_utf8_lossy(&output.stderr),
            self.dev.ok(&["screen", "a"]),
            self.model.heard()
        );
        told
    }

    /// How often the model was asked to count so many characters.
    fn counted(&self, characters: usize) -> usize {
        let end = format!(" counted {characters}");
        self.model.heard().iter().filter(|line| line.ends_with(&end)).count()
    }
}

/// Where the Python lies that aider was installed with, if that is not the system's.
fn interpreter(installation: &Path) -> Option<PathBuf> {
    let python = fs::canonicalize(installation.join("aider/bin/python3")).expect("make test-agents made it");
    let prefix = python.parent()?.parent()?.to_owned();
    (!prefix.starts_with("/usr")).then_some(prefix)
}

fn states(dev: &Dev) -> Vec<String> {
    let events = dev.ok(&["--json", "events", "--since", "0"]);
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events
        .filter(|event| event["type"] == "agentState")
        .map(|event| event["data"]["state"].as_str().unwrap_or("").to_owned())
        .collect()
}

fn words_of(text: &str) -> String {
    text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The whole way of one kind.
fn drives(case: &Case) {
    let driven = Driven::start(case);
    driven.until("ready");
    let first = driven.asks("one two three", "first");
    assert_eq!(words_of(&first), words_of(&model_answers::text("one two three")), "{first}");
    if case.kind != "gemini" {
        assert_eq!(
            first.trim_end(),
            model_answers::text("one two three"),
            "word for word, as it wrote it down"
        );
    }
    // The same key again types nothing, and has the same answer.
    assert_eq!(driven.asks("one two three", "first"), first);
    assert!(driven.counted(13) >= 1);
    let second = driven.asks("line one\n  line two\n\nline four", "second");
    assert_eq!(
        words_of(&second),
        words_of(&model_answers::text("line one\n  line two\n\nline four")),
        "{second}"
    );
    // Longer than any screen is.
    let many = driven.asks("many lines", "many");
    let lines = many.lines().filter_map(|line| Some(line.split_once("line ")?.1.to_owned()));
    let expected: Vec<String> = (1..=120).map(|n| format!("{n} of the answer")).collect();
    assert_eq!(lines.collect::<Vec<_>>(), expected, "{many}");
    // 100 kB, in lines.
    let long: String =
        (0..1900).map(|n| format!("line {n:04} of a message that is longer than any screen is\n")).collect();
    let long = format!("{long}the end is here");
    assert!(long.len() > 100_000, "{}", long.len());
    let third = driven.asks(&long, "third");
    assert_eq!(words_of(&third), words_of(&model_answers::text(&long)), "{third}");
    let states = states(&driven.dev);
    // An agent that stands still in the middle of an answer, as on a busy machine, is taken for ready for a moment.
    assert!(states.iter().filter(|state| *state == "busy").count() >= 4, "{states:?}");
    driven.dev.ok(&["stop", "a"]);
    let agent: Value = serde_json::from_str(&driven.dev.ok(&["--json", "get", "a"])).expect("JSON");
    assert_eq!(agent["state"], "exited", "{agent}");
}

#[test]
fn claude_is_driven_through_the_service() {
    drives(&Case {
        kind: "claude",
        address: "127.77.1.1",
        hosts: &["api.anthropic.com", "platform.claude.com"],
        variables: &[],
        words: &["--env", "ANTHROPIC_API_KEY=sk-ant-stand-in-0123456789-0123456789", "--answer", "key-found"],
        authority: &["NODE_EXTRA_CA_CERTS"],
    });
}

#[test]
fn codex_is_driven_through_the_service() {
    drives(&Case {
        kind: "codex",
        address: "127.77.1.2",
        hosts: &["api.openai.com", "chatgpt.com", "auth.openai.com"],
        variables: &[],
        words: &["--env", "OPENAI_API_KEY=sk-stand-in-0123456789", "--answer", "key-found"],
        authority: &["CODEX_CA_CERTIFICATE"],
    });
}

#[test]
fn gemini_is_driven_through_the_service() {
    drives(&Case {
        kind: "gemini",
        address: "127.77.1.3",
        hosts: &["generativelanguage.googleapis.com"],
        variables: &[],
        words: &["--env", "GEMINI_API_KEY=stand-in-0123456789", "--answer", "key-found"],
        authority: &["NODE_EXTRA_CA_CERTS"],
    });
}

#[test]
fn aider_is_driven_through_the_service() {
    drives(&Case {
        kind: "aider",
        address: "127.77.1.4",
        hosts: &["api.openai.com"],
        variables: &[],
        words: &[
            "--env",
            "OPENAI_API_KEY=sk-stand-in-0123456789",
            "--argument",
            "--no-git",
            "--argument",
            "--model",
            "--argument",
            "gpt-4o",
        ],
        authority: &["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"],
    });
}

#[test]
fn claude_that_is_to_ask_for_no_permission_is_ready_where_the_start_says_so() {
    let driven = Driven::start(&Case {
        kind: "claude",
        address: "127.77.1.5",
        hosts: &["api.anthropic.com", "platform.claude.com"],
        variables: &[],
        words: &[
            "--env",
            "ANTHROPIC_API_KEY=sk-ant-stand-in-0123456789-0123456789",
            "--answer",
            "key-found",
            "--answer",
            "bypass",
            "--argument",
            "--dangerously-skip-permissions",
        ],
        authority: &["NODE_EXTRA_CA_CERTS"],
    });
    driven.until("ready");
    let told = driven.asks("one two", "first");
    assert_eq!(words_of(&told), words_of(&model_answers::text("one two")), "{told}");
    driven.dev.ok(&["stop", "a"]);
}
