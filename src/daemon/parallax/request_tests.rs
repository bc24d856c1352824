//! Tests of what becomes of Parallax's requests.

use serde_json::json;

use super::request::*;
use crate::daemon::problem::Fault;

fn config(value: serde_json::Value) -> Result<crate::api::Spawn, Fault> {
    of_config(serde_json::from_value(value).expect("a config"))
}

fn thread(value: serde_json::Value) -> Result<Thread, Fault> {
    of_thread(serde_json::from_value(value).expect("an input"))
}

fn refusal<T>(result: Result<T, Fault>) -> (u16, Option<String>) {
    let Err(fault) = result else { panic!("it was accepted") };
    (fault.status().as_u16(), fault.problem().field)
}

fn input() -> serde_json::Value {
    json!({"id": "e1-thread-0", "executionId": "e1", "name": "lead", "agentType": "claude", "objective": "do it"})
}

#[test]
fn what_must_be_there_is_asked_for_by_name() {
    assert_eq!(refusal(config(json!({"name": "x"}))), (400, Some("type".into())));
    assert_eq!(refusal(config(json!({"type": "claude"}))), (400, Some("name".into())));
    for field in ["executionId", "name", "agentType", "objective"] {
        let mut input = input();
        input.as_object_mut().expect("an object").remove(field);
        assert_eq!(refusal(thread(input)), (400, Some(field.into())));
    }
}

#[test]
fn what_nobody_knows_is_left_out_of_account() {
    let spawn =
        config(json!({"name": "x", "type": "codex", "objective": "o", "workspace": {}, "environment": {}}));
    assert_eq!(spawn.expect("accepted").kind, "codex");
}

#[test]
fn a_custom_agent_is_the_shell_of_its_policy_and_says_so() {
    let spawn = config(json!({"name": "x", "type": "custom"})).expect("accepted");
    assert_eq!((spawn.kind.as_str(), spawn.labels["parallax.type"].as_str()), ("shell", "custom"));
    for kind in ["echo", "hermes"] {
        assert_eq!(refusal(config(json!({"name": "x", "type": kind}))), (422, Some("type".into())));
    }
}

#[test]
fn resources_and_credentials_become_limits_and_variables() {
    let spawn = config(json!({
        "name": "x", "type": "claude", "env": {"OPENAI_API_KEY": "own"},
        "credentials": {"anthropicKey": "a", "openaiKey": "o", "googleKey": "g", "custom": {"X": "y"}},
        "resources": {"cpu": "500m", "memory": "2Gi", "timeout": 60},
        "idleTimeout": 30, "executionId": "e", "role": "lead"
    }))
    .expect("accepted");
    let limits = spawn.limits.expect("limits");
    assert_eq!((limits.cpus, limits.memory, spawn.lifetime), (Some(0.5), Some(2 << 30), Some(60)));
    assert_eq!(spawn.env["ANTHROPIC_API_KEY"], "a");
    assert_eq!(spawn.env["OPENAI_API_KEY"], "own");
    assert_eq!(spawn.env["GEMINI_API_KEY"], "g");
    assert_eq!(spawn.env["X"], "y");
    for resources in
        [json!({"cpu": "0"}), json!({"cpu": "many"}), json!({"memory": "2GB"}), json!({"memory": "-1"})]
    {
        let refused = config(json!({"name": "x", "type": "claude", "resources": resources}));
        assert_eq!(refusal(refused), (422, Some("resources".into())));
    }
}

#[test]
fn a_preparation_wins_over_the_fields_of_its_names() {
    let mut input = input();
    input["env"] = json!({"A": "outer", "B": "outer"});
    input["workspace"] = json!({"path": "/srv/outer"});
    input["approvalPreset"] = json!("readonly");
    input["preparation"] = json!({
        "env": {"A": "inner"}, "workspace": {"path": "/srv/inner"}, "approvalPreset": "permissive",
        "contextFiles": [{"path": ".parallax/memory.md", "content": "m"}]
    });
    let thread = thread(input).expect("accepted");
    assert_eq!(thread.spawn.env.get("A").map(String::as_str), Some("inner"));
    assert_eq!(thread.spawn.env.get("B"), None);
    assert_eq!(thread.spawn.workspace.as_deref(), Some("/srv/inner"));
    assert_eq!(thread.spawn.arguments, ["--permission-mode", "acceptEdits"]);
    assert_eq!(thread.spawn.env["PARALLAX_THREAD_MEMORY_FILE"], ".parallax/memory.md");
    assert_eq!(thread.spawn.env["PARALLAX_THREAD_ID"], "e1-thread-0");
    assert_eq!(thread.spawn.env["PARALLAX_THREAD_OBJECTIVE"], "do it");
    assert_eq!(thread.spawn.env["PARALLAX_EXECUTION_ID"], "e1");
}

#[test]
fn a_thread_without_a_path_gets_a_workspace_of_its_own_or_the_one_it_names() {
    let own = thread(input()).expect("accepted");
    assert_eq!(own.spawn.workspace_id.as_deref(), Some("e1-thread-0"));
    let mut named = input();
    named["workspace"] = json!({"workspaceId": "shared", "repo": "https://example.org/x.git"});
    assert_eq!(thread(named).expect("accepted").spawn.workspace_id.as_deref(), Some("shared"));
    let mut wild = input();
    wild["workspace"] = json!({"workspaceId": "../../etc"});
    assert_eq!(thread(wild).expect("accepted").spawn.workspace_id.as_deref(), Some("e1-thread-0"));
}

#[test]
fn a_preset_that_is_none_is_refused_by_name() {
    let mut wrong = input();
    wrong["approvalPreset"] = json!("yolo");
    assert_eq!(refusal(thread(wrong)), (422, Some("approvalPreset".into())));
}

#[test]
fn a_stop_ends_before_parallax_gives_up() {
    assert_eq!(stop(false, None).grace.as_secs(), 5);
    assert_eq!(stop(false, Some(600_000)).grace.as_secs(), 20);
    assert!(stop(true, Some(5_000)).grace.is_zero());
}

#[test]
fn what_parallax_means_but_has_no_word_for_is_answered_and_nothing_else() {
    let answers = |value| thread(value).expect("accepted").spawn.answers;
    assert_eq!(answers(input()), None);
    let mut with_key = input();
    with_key["env"] = json!({"ANTHROPIC_API_KEY": "k"});
    assert_eq!(answers(with_key.clone()), Some(vec!["safe".into(), "key-found".into()]));
    with_key["approvalPreset"] = json!("autonomous");
    assert_eq!(answers(with_key), Some(vec!["safe".into(), "key-found".into(), "bypass".into()]));
    let of_agent = config(json!({"name": "x", "type": "claude", "credentials": {"anthropicKey": "k"}}));
    assert_eq!(of_agent.expect("accepted").answers, Some(vec!["safe".into(), "key-found".into()]));
}

#[test]
fn presets_are_words_that_the_installed_clis_know_and_readonly_is() {
    let started = |kind: &str, preset: &str| {
        let mut input = input();
        input["agentType"] = json!(kind);
        input["approvalPreset"] = json!(preset);
        let spawn = thread(input).expect("accepted").spawn;
        (spawn.command.map(|words| words.join(" ")), spawn.arguments.join(" "))
    };
    for (preset, words) in
        [("standard", "-a on-request"), ("permissive", "-a on-request"), ("autonomous", "-a never")]
    {
        assert_eq!(started("codex", preset), (None, words.into()), "{preset}");
    }
    let codex = "codex --no-daemon -s read-only -a on-request";
    assert_eq!(started("codex", "readonly"), (Some(codex.into()), String::new()));
    assert_eq!(started("claude", "readonly"), (None, "--permission-mode plan".into()));
    assert_eq!(started("gemini", "readonly"), (None, "--approval-mode plan".into()));
    assert_eq!(started("aider", "readonly"), (None, "--dry-run --no-auto-commits".into()));
}
