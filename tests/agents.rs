//! The real agents, each under its shipped policy at a terminal, up to their first screen and out again; and each logging in
//! through the service (`agents/logins.rs`).
//!
//! They are too large for every run of the tests (1.4 GB), so `cargo test` does not start this suite of its own accord:
//! `make test-agents` installs them and names the installation in STOCKADE_AGENTS.

mod common;
#[path = "common/dev.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod dev;
#[path = "agents/driven.rs"]
mod driven;
#[path = "agents/logins.rs"]
mod logins;
#[path = "common/pty.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod pty;
#[path = "agents/service.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod service;
#[path = "egress/tls.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod tls;
#[path = "agents/vendor/mod.rs"]
mod vendor;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::site::{SITE, Site};
use pty::Session;
use serde_json::Value;
use tempfile::TempDir;

const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");
/// What Codex writes first when it goes.
const LEAVES_SCREEN: &str = "\x1b[?1049l";

fn installation() -> PathBuf {
    let named = std::env::var_os("STOCKADE_AGENTS");
    let path = PathBuf::from(
        named.expect("STOCKADE_AGENTS names an installation: start this with make test-agents"),
    );
    assert!(path.is_dir(), "STOCKADE_AGENTS: {} is no directory", path.display());
    path
}

/// Where the command `name` lies.
fn directory_of(name: &str) -> PathBuf {
    let directory = installation().join(if name == "aider" { "aider/bin" } else { "npm/node_modules/.bin" });
    assert!(directory.join(name).exists(), "{name} is missing in {}: make test-agents", directory.display());
    directory
}

/// One run of an agent, from a shell at a terminal.
struct Run {
    session: Session,
    before: String,
    directory: TempDir,
}

impl Run {
    /// Starts the policy's own command, found on the caller's PATH, in an empty workspace.
    fn start(policy: &str, agent: &str, options: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        fs::create_dir(directory.path().join("work")).expect("made");
        Self::start_in(directory, policy, agent, options)
    }

    fn start_in(directory: TempDir, policy: &str, agent: &str, options: &str) -> Self {
        let at = directory.path().display();
        let mut session = Session::bash(110, 40);
        session.run(&format!("PATH={}:$PATH", directory_of(agent).display()));
        let before = session.run("stty -a");
        session.send(&format!(
            "{STOCKADE} run --policy {policy} --workspace {at}/work --report {at}/report.json {options}; echo rc=$?\n"
        ));
        session.expect("rc=$?\r\n");
        Self { session, before, directory }
    }

    /// Ctrl-C, until it says that it goes.
    fn is_interrupted(&mut self, farewell: &str) {
        self.session.insists(farewell, |session, _| session.send("\x03"));
        let said = self.session.expect("rc=");
        // On a busy machine Codex takes longer than it gives itself to empty its terminal's input, and says so.
        let code = u8::from(said.contains("timed out discarding buffered terminal input"));
        self.ends_with(code);
    }

    fn ends_with(&mut self, code: u8) {
        self.session.expect(&format!("{code}\r\n"));
        self.is_gone(code);
    }

    /// The agent ends with this code.
    fn ends(&mut self, code: u8) {
        self.session.expect(&format!("rc={code}\r\n"));
        self.is_gone(code);
    }

    /// Nothing of it is left, and it was refused nothing.
    fn is_gone(&mut self, code: u8) {
        self.session.resize(110, 40);
        assert_eq!(self.session.run("stty -a"), self.before, "the terminal is as it was");
        let report: Value =
            serde_json::from_slice(&fs::read(self.directory.path().join("report.json")).expect("a report"))
                .expect("JSON");
        // What they fetch besides their work, from hosts that their policies leave out, is not.
        let denials = report["denials"].as_array().cloned().unwrap_or_default();
        let calls: Vec<_> = denials.iter().filter(|denial| denial["wall"] != "egress").collect();
        assert!(calls.is_empty(), "a call was refused: {calls:?}");
        assert_eq!(report["exit"]["code"], code);
        let namespace = report["attestation"]["namespaces"]["pid"].as_u64().expect("a PID namespace");
        let namespace = PathBuf::from(format!("pid:[{namespace}]"));
        let left = fs::read_dir("/proc").expect("/proc").flatten();
        let left =
            left.filter(|p| fs::read_link(p.path().join("ns/pid")).is_ok_and(|its| its == namespace)).count();
        assert_eq!(left, 0, "processes are left");
        for held in [".mcp.json", ".git", ".claude", ".aider.conf.yml"] {
            assert!(!self.directory.path().join("work").join(held).exists(), "{held} is left");
        }
    }
}

#[test]
fn claude_is_ready_in_a_home_that_knows_it() {
    let directory = TempDir::new().expect("a directory");
    let (home, work) = (directory.path().join("home"), directory.path().join("work"));
    fs::create_dir(&home).expect("made");
    fs::create_dir(&work).expect("made");
    let known = serde_json::json!({
        "hasCompletedOnboarding": true, "theme": "dark",
        "projects": { work.to_str().expect("UTF-8"): { "hasTrustDialogAccepted": true } },
    });
    fs::write(home.join(".claude.json"), known.to_string()).expect("written");
    let mut run = Run::start_in(directory, "claude", "claude", &format!("--home {}", home.display()));

    run.session.sees("? for shortcuts");
    run.session.insists("? for shortcuts", |session, attempt| session.resize(90 + attempt, 30));
    // It runs a command without being logged in; the agent's own uid says that it ran inside.
    run.session.send("!");
    run.session.sees("for shell mode");
    run.session.send("echo inside-$(id -un)\r");
    run.session.sees("inside-agent");
    // Twice in a row, and again where the second came so late that it was a first.
    run.session.ends_by("rc=0\r\n", |session, _| {
        session.insists("again to exit", |session, _| session.send("\x03"));
        session.send("\x03");
    });
    run.is_gone(0);
    assert!(home.join(".claude").is_dir(), "what it wrote at home is kept");
}

#[test]
fn claude_without_a_network_and_a_known_home_says_so_and_ends() {
    let policies = TempDir::new().expect("a directory");
    let policy = policies.path().join("offline.toml");
    let text = "extends = \"claude\"\n[remove.network]\n\
                allow = [\"api.anthropic.com:443\", \"platform.claude.com:443\"]\n";
    fs::write(&policy, text).expect("written");
    let mut run = Run::start(policy.to_str().expect("UTF-8"), "claude", "");
    run.session.sees("Unable to connect to Anthropic services");
    run.ends(1);
}

/// A policy like `agent`, in which these hosts are a site of the test's, and the options that make the agent believe it.
fn stand_in(agent: &str, hosts: &[&str]) -> (Site, String, String) {
    let site = Site::named(hosts);
    // What Claude Code asks for to see whether its hosts are there.
    for hello in ["api/hello", "v1/oauth/hello"] {
        let path = site.around.path().join("site").join(hello);
        fs::create_dir_all(path.parent().expect("below the site")).expect("made");
        fs::write(path, "{\"message\":\"hello\"}").expect("written");
    }
    let policy = site.around.path().join("stand-in.toml");
    let resolve: String = hosts.iter().map(|host| format!("'{host}' = ['{SITE}']\n")).collect();
    fs::write(&policy, format!("extends = '{agent}'\n[network.resolve]\n{resolve}")).expect("written");
    let authority = site.workspace.path().join("ca.pem");
    (site, policy.to_str().expect("UTF-8").to_owned(), authority.to_str().expect("UTF-8").to_owned())
}

#[test]
fn claude_reaches_its_hosts_and_offers_to_log_in() {
    let (site, policy, authority) = stand_in("claude", &["api.anthropic.com", "platform.claude.com"]);
    let directory = TempDir::new().expect("a directory");
    let work = directory.path().join("work");
    fs::create_dir(&work).expect("made");
    fs::copy(&authority, work.join("ca.pem")).expect("copied");
    let options = format!("--env NODE_EXTRA_CA_CERTS={}/ca.pem", work.display());
    let mut run = Run::start_in(directory, &policy, "claude", &options);
    run.session.sees("Choose the text style");
    run.session.insists("Select login method", |session, _| session.send("\r"));
    let heard = site.web.heard();
    assert!(!heard.is_empty(), "the preflight came through the gateway");
    // It would wait for answers that this site does not have: the terminal is closed instead.
    run.session.hang_up();
}

#[test]
fn codex_reaches_its_host_and_shows_the_code_to_log_in_with() {
    let (site, policy, authority) = stand_in("codex", &["auth.openai.com"]);
    let device = site.around.path().join("site/api/accounts/deviceauth");
    fs::create_dir_all(&device).expect("made");
    let code = r#"{"device_auth_id": "1", "user_code": "LAB1-CODE2", "interval": "5"}"#;
    fs::write(device.join("usercode"), code).expect("written");
    let directory = TempDir::new().expect("a directory");
    let work = directory.path().join("work");
    fs::create_dir(&work).expect("made");
    fs::copy(&authority, work.join("ca.pem")).expect("copied");
    let certificate = work.join("ca.pem");
    let options =
        format!("--env CODEX_CA_CERTIFICATE={} -- codex login --device-auth", certificate.display());
    let mut run = Run::start_in(directory, &policy, "codex", &options);
    run.session.sees("https://auth.openai.com/codex/device");
    run.session.sees("LAB1-CODE2");
    let heard = site.web.heard();
    assert!(heard.iter().any(|line| line.starts_with("POST /api/accounts/deviceauth/usercode")), "{heard:?}");
    run.session.hang_up();
}

#[test]
fn codex_offers_to_sign_in() {
    let mut run = Run::start("codex", "codex", "");
    run.session.sees("Choose how you want to use Codex.");
    run.session
        .insists("Choose how you want to use Codex.", |session, attempt| session.resize(90 + attempt, 30));
    run.is_interrupted(LEAVES_SCREEN);
}

/// A site's policy: Codex with its own sandbox inside this one.
fn nested_codex(directory: &Path) -> String {
    let file = directory.join("nested.toml");
    let text = "extends = \"codex\"\n[agent]\ncommand = [\"codex\", \"--no-daemon\"]\n\
                [syscalls]\nnested-namespaces = true\n";
    fs::write(&file, text).expect("written");
    file.to_str().expect("UTF-8").to_owned()
}

#[test]
fn codex_makes_its_own_sandbox_where_the_policy_lets_it() {
    let policies = TempDir::new().expect("a directory");
    let policy = nested_codex(policies.path());
    let mut run = Run::start(&policy, "codex", "");
    run.session.sees("Choose how you want to use Codex.");
    run.is_interrupted(LEAVES_SCREEN);

    // In its own sandbox what it starts can write nowhere, and reach no network.
    let tried =
        "touch /home/agent/x || echo held; python3 -c 'import socket; socket.socket()' || echo offline";
    let mut run = Run::start(&policy, "codex", &format!("-- codex sandbox -- sh -c \"{tried}\""));
    run.session.sees("held");
    run.session.sees("offline");
    run.ends(0);
}

#[test]
fn gemini_asks_for_trust_and_then_how_to_log_in() {
    let mut run = Run::start("gemini", "gemini", "");
    run.session.sees("Do you trust the files");
    run.session.insists("Do you trust the files", |session, attempt| session.resize(90 + attempt, 30));
    run.session.send("\r");
    run.session.sees("How would you like to authenticate");
    run.is_interrupted("Agent powering down");
}

#[test]
fn aider_asks_for_a_repository_and_an_account() {
    let mut run = Run::start("aider", "aider", "-- aider --no-check-update --no-analytics");
    run.session.sees("No git repo found");
    run.session.send("n\r");
    run.session.sees("Login to OpenRouter");
    run.session.resize(90, 30);
    run.session.send("\x03");
    run.ends(130);
}

#[test]
fn aider_is_ready_in_a_repository_without_anybodys_name() {
    let directory = TempDir::new().expect("a directory");
    let work = directory.path().join("work");
    let made = Command::new("git").args(["init", "-q"]).arg(&work).status().expect("git");
    assert!(made.success());
    let options = "--env OPENAI_API_KEY=sk-none -- aider --no-check-update --model gpt-4o --no-gitignore \
                   --no-show-release-notes --no-analytics";
    let mut run = Run::start_in(directory, "aider", "aider", options);
    run.session.sees("Git repo: .git");
    run.session.insists("rc=0", |session, _| session.send("/exit\r"));
}
