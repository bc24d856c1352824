//! Each kind logs in through the service, from a fresh start: by its own documented keys as far as a person would have to
//! go, then over the API.

use serde_json::Value;

use crate::service::{Agent, Service};
use crate::vendor::auth::{GOOD_CODE, USER_CODE};

#[test]
fn codex_logs_in_by_a_device_code_and_the_next_one_at_home_there_is_logged_in() {
    let service = Service::start(&["codex"]);
    let codex = service.spawn("codex", "codex-device", &["--home", "codex-home"]);
    codex.until("the choice", |agent| {
        agent["login"]["method"] == "unknown" && agent["evidence"] == "the choice of how to sign in"
    });
    codex.press(&["down"]);
    codex.press(&["enter"]);
    let login = codex.asks("device-code");
    assert_eq!(login["url"], "https://auth.openai.com/codex/device");
    assert_eq!(login["userCode"], USER_CODE);
    assert!(login["expiresAt"].is_string() && login["since"].is_string(), "{login}");
    let refused = service.dev.run(&["login", "codex-device", "--code", GOOD_CODE]);
    assert_eq!(refused.status.code(), Some(5), "its code is typed elsewhere");
    service.auth.approve();
    codex.gets_ready();
    let words =
        ["spawn", "--type", "codex", "--policy", "lab-codex", "--id", "second", "--home", "codex-home"];
    assert_eq!(service.dev.run(&words).status.code(), Some(5), "two would spoil each other's login");
    codex.end();

    let next = service.spawn("codex", "codex-next", &["--home", "codex-home", "--home-wait", "10"]);
    next.gets_ready();
    assert_eq!(next.get().get("login"), None);
    let codes = service.auth.heard().iter().filter(|line| line.ends_with("/deviceauth/usercode")).count();
    assert_eq!(codes, 1, "nobody asked for another code");
    next.end();
}

#[test]
fn codex_logs_in_by_a_callback_that_the_browser_could_not_deliver() {
    let service = Service::start(&["codex"]);
    let codex = service.spawn("codex", "codex-callback", &[]);
    codex.until("the choice", |agent| agent["evidence"] == "the choice of how to sign in");
    codex.press(&["enter"]);
    let login =
        codex.until("what it opens", |agent| agent["login"]["urlSource"] == "browser")["login"].clone();
    let url = login["url"].as_str().expect("an address");
    assert!(url.starts_with("https://auth.openai.com/oauth/authorize?") && url.contains("state="), "{url}");
    let callback = login["callback"].as_str().expect("where it leads back to");
    assert!(callback.ends_with(":1455/auth/callback"), "{callback}");
    let state = parameter(url, "state");
    let foreign = format!("http://localhost:22/auth/callback?code={GOOD_CODE}&state={state}");
    assert_eq!(
        service.dev.run(&["login", "codex-callback", "--callback-url", &foreign]).status.code(),
        Some(2)
    );
    let pasted = format!("{callback}?code={GOOD_CODE}&scope=openid&state={state}");
    service.auth.lock(true);
    let (code, said) = codex.log_in("--callback-url", &pasted);
    assert_eq!((code, said["outcome"].as_str()), (1, Some("refused")), "{said:#}");
    assert_eq!(said["detail"], "workspace routing discovery failed");
    service.auth.lock(false);
    codex.press(&["enter"]);
    let login = codex.until("another attempt", |agent| {
        agent["login"]["urlSource"] == "browser" && agent["login"]["url"] != url
    });
    let state = parameter(login["login"]["url"].as_str().expect("an address"), "state");
    let pasted = format!("{callback}?code={GOOD_CODE}&scope=openid&state={state}");
    let (code, said) = codex.log_in("--callback-url", &pasted);
    assert_eq!((code, said["outcome"].as_str()), (0, Some("accepted")), "{said:#}");
    codex.gets_ready();
    codex.end();
}

#[test]
fn claude_logs_in_by_a_pasted_code_after_a_wrong_one() {
    let service = Service::start(&["claude"]);
    let claude = service.spawn("claude", "claude-paste", &["--no-answers"]);
    let login = claude_sign_in(&claude);
    let url = login["url"].as_str().expect("an address").to_owned();
    assert!(
        url.starts_with("https://claude.com/cai/oauth/authorize?") && url.contains("platform.claude.com"),
        "{url}"
    );
    let state = parameter(&url, "state");
    assert!(login["browserUrl"].as_str().is_some_and(|other| other.contains(&state)), "{login:#}");
    let (code, said) = claude.log_in("--code", &format!("wrong-code#{state}"));
    assert_eq!((code, said["outcome"].as_str()), (1, Some("refused")), "{said:#}");
    assert_eq!(said["detail"], "OAuth error: Request failed with status code 400");
    claude.until("the choice again", |agent| agent["evidence"] == "the choice of how to sign in");
    claude.press(&["enter"]);
    let login = claude.asks("paste-code");
    assert_eq!(login["attempts"], 1);
    assert_ne!(login["url"], url, "an attempt has its own address");
    let state = parameter(login["url"].as_str().expect("another address"), "state");
    let (code, said) = claude.log_in("--code", &format!("{GOOD_CODE}#{state}"));
    assert_eq!((code, said["outcome"].as_str()), (0, Some("accepted")), "{said:#}");
    claude.gets_ready();
    claude.end();
}

#[test]
fn claude_logs_in_by_a_callback_too() {
    let service = Service::start(&["claude"]);
    let claude = service.spawn("claude", "claude-callback", &[]);
    // The other questions of its first start are answered; how to sign in is nobody's to decide but a person's.
    claude.until("the choice", |agent| agent["evidence"] == "the choice of how to sign in");
    claude.press(&["enter"]);
    claude.asks("paste-code");
    let login =
        claude.until("what it opens", |agent| agent["login"]["callback"].is_string())["login"].clone();
    let state = parameter(login["browserUrl"].as_str().expect("an address"), "state");
    let pasted =
        format!("{}?code={GOOD_CODE}&state={state}", login["callback"].as_str().expect("an address"));
    let (code, said) = claude.log_in("--callback-url", &pasted);
    assert_eq!((code, said["outcome"].as_str()), (0, Some("accepted")), "{said:#}");
    claude.gets_ready();
    claude.end();
}

/// From a fresh start to the page with the address.
fn claude_sign_in(claude: &Agent<'_>) -> Value {
    claude.until("the theme", |agent| agent["evidence"] == "the choice of colours of the first start");
    claude.press(&["enter"]);
    claude.until("the choice", |agent| agent["evidence"] == "the choice of how to sign in");
    claude.press(&["enter"]);
    claude.asks("paste-code")
}

#[test]
fn gemini_logs_in_by_a_pasted_code_after_a_wrong_one() {
    let service = Service::start(&["gemini"]);
    let gemini = service.spawn("gemini", "gemini-paste", &["--no-answers"]);
    gemini.until("trust", |agent| agent["evidence"] == "the question whether the workspace is trusted");
    gemini.press(&["enter"]);
    gemini.until("the choice", |agent| agent["evidence"] == "the choice of how to sign in");
    gemini.press(&["enter"]);
    let login = gemini.asks("paste-code");
    let url = login["url"].as_str().expect("an address").to_owned();
    assert!(
        url.starts_with("https://accounts.google.com/o/oauth2/v2/auth?")
            && url.ends_with(".apps.googleusercontent.com"),
        "{url}"
    );
    let (code, said) = gemini.log_in("--code", "wrong-code");
    assert_eq!((code, said["outcome"].as_str()), (1, Some("refused")), "{said:#}");
    assert!(said["detail"].as_str().is_some_and(|words| words.contains("invalid_grant")), "{said:#}");
    let login = gemini
        .until("another address", |agent| agent["login"]["url"].as_str().is_some_and(|other| other != url));
    assert_eq!(login["login"]["attempts"], 1);
    let (code, said) = gemini.log_in("--code", GOOD_CODE);
    assert_eq!((code, said["outcome"].as_str()), (0, Some("accepted")), "{said:#}");
    gemini.gets_ready();
    gemini.end();
}

#[test]
fn aider_shows_where_to_log_in_and_works_with_a_key() {
    let service = Service::start(&["aider"]);
    let quiet = ["--", "aider", "--no-check-update", "--no-show-release-notes", "--no-analytics", "--no-git"];
    let aider = service.spawn("aider", "aider-openrouter", &quiet);
    aider.until("the offer", |agent| agent["login"]["method"] == "unknown");
    aider.press(&["y"]);
    aider.press(&["enter"]);
    let login =
        aider.until("what it opens", |agent| agent["login"]["urlSource"] == "browser")["login"].clone();
    let url = login["url"].as_str().expect("an address");
    assert!(
        url.starts_with("https://openrouter.ai/auth?callback_url=") && url.contains("code_challenge="),
        "{url}"
    );
    assert!(
        login["callback"]
            .as_str()
            .is_some_and(|to| to.starts_with("http://localhost:84") && to.ends_with("/callback/aider")),
        "{login}"
    );
    aider.end();

    let words = [
        &["--env", "OPENAI_API_KEY=sk-nobody"][..],
        &quiet,
        &["--model", "gpt-4o", "--no-show-model-warnings"],
    ]
    .concat();
    let aider = service.spawn("aider", "aider-key", &words);
    aider.becomes("ready");
    aider.end();
}

fn parameter(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').expect("a query");
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {url}")).to_owned()
}
