//! The text of a turn out of what the agent itself has written down.
//!
//! It is believed only where it holds the very message that was sent: a log of another conversation, or one that is not
//! finished, says nothing. Whatever else is in it, the agent could as well have answered.

use serde_json::Value;

use super::kind::TurnLog;
use super::typing::clean;
use super::view::squeezed;

/// What was answered to `said`; none: the log does not have it.
pub fn text(log: &TurnLog, lines: &str, said: &str) -> Option<String> {
    let said = squeezed(said);
    let mut answer: Option<Vec<String>> = None;
    for line in lines.lines() {
        // The first one may be cut off, and a line of another shape is none.
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        if log.unless.as_ref().is_some_and(|unless| line.pointer(unless) == Some(&Value::Bool(true))) {
            continue;
        }
        let Some(message) = line.pointer(&log.message) else { continue };
        let text = content(&message["content"]);
        match message["role"].as_str() {
            Some("user") if !text.is_empty() => {
                answer = squeezed(&text).contains(&said).then(Vec::new);
            }
            Some("assistant") if !text.is_empty() => {
                if let Some(answer) = &mut answer {
                    answer.push(text);
                }
            }
            _ => {}
        }
    }
    let answer = answer.filter(|answer| !answer.is_empty())?;
    Some(clean(&answer.join("\n\n")).trim().to_owned())
}

/// The words of a message: a text, or a list in which some are.
fn content(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.collect::<Vec<_>>().join("\n\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::library::Library;
    use super::*;

    fn told(kind: &str, lines: &[&str], said: &str) -> Option<String> {
        let kind = Library::of([], 0).load(kind).expect("a kind");
        text(kind.turn.log.as_ref().expect("a log"), &lines.join("\n"), said)
    }

    const CLAUDE: [&str; 7] = [
        r#"cut off": 1}"#,
        r#"{"isSidechain":false,"type":"user","message":{"role":"user","content":"count\n  these"}}"#,
        r#"{"isSidechain":false,"message":{"role":"assistant","content":[{"type":"thinking","thinking":"x"},{"type":"text","text":"I look."}]}}"#,
        r#"{"isSidechain":false,"message":{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"Bash","input":{}}]}}"#,
        r#"{"isSidechain":false,"type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"1"}]}}"#,
        r#"{"isSidechain":true,"message":{"role":"assistant","content":[{"type":"text","text":"of a helper"}]}}"#,
        r#"{"isSidechain":false,"message":{"role":"assistant","content":[{"type":"text","text":"There are\n\n- `two`"}]}}"#,
    ];

    #[test]
    fn it_is_what_the_agent_said_after_this_very_message() {
        assert_eq!(
            told("claude", &CLAUDE, "count\nthese").as_deref(),
            Some("I look.\n\nThere are\n\n- `two`")
        );
        assert_eq!(told("claude", &CLAUDE, "count those"), None);
        assert_eq!(told("claude", &CLAUDE[..2], "count\nthese"), None, "it is not finished");
        let codex = [
            r#"{"type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"count these"}]}}"#,
            r#"{"type":"event_msg","payload":{"type":"agent_message","message":"twice"}}"#,
            r#"{"type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Two."}]}}"#,
        ];
        assert_eq!(told("codex", &codex, "count these").as_deref(), Some("Two."));
    }

    /// Aider's log of what it said to its model, as the kind's command prints it.
    fn of_aider(log: &str, said: &str) -> Option<String> {
        let kind = Library::of([], 0).load("aider").expect("a kind");
        let rule = kind.turn.log.expect("a log");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), log).expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let script = rule.command[2].replace("/home/agent/.aider/llm.history", path);
        let printed = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
        assert!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
        text(&rule, std::str::from_utf8(&printed.stdout).expect("UTF-8"), said)
    }

    #[test]
    fn of_what_aider_said_to_its_model_the_answer_is_word_for_word() {
        let asked = "TO LLM 2026-11-26T22:00:00\n-------\nSYSTEM Act\n-------\nUSER old\n-------\nASSISTANT Ok.\n-------\n\
                     USER count\tthese \\ \"now\"\nUSER \nUSER LLM RESPONSE 2026\n";
        let answered = "LLM RESPONSE 2026-11-26T22:00:02\nASSISTANT There are\nASSISTANT \nASSISTANT - `two` \\n \"q\"\u{1b}[2J\n";
        let said = "count\tthese \\ \"now\"\n\nLLM RESPONSE 2026";
        let all = format!("{asked}{answered}");
        assert_eq!(of_aider(&all, said).as_deref(), Some("There are\n\n- `two` \\n \"q\" [2J"));
        assert_eq!(of_aider(&all, "old"), None);
        assert_eq!(of_aider(&format!("{all}{asked}"), said), None, "the same again, and no answer yet");
    }

    #[test]
    fn what_is_no_log_says_nothing_and_what_is_in_one_reaches_no_terminal_as_a_command() {
        for lines in ["", "null", "[1]", "{\"payload\":{\"role\":\"user\",\"content\":{}}}", "\u{0}\u{1b}[2J"]
        {
            assert_eq!(told("codex", &[lines], "x"), None, "{lines:?}");
        }
        let hostile = [
            r#"{"payload":{"role":"user","content":"x"}}"#,
            r#"{"payload":{"role":"assistant","content":"a\u001b]52;c;aGk=\u0007b\u009bc"}}"#,
        ];
        assert_eq!(told("codex", &hostile, "x").as_deref(), Some("abc"));
    }
}
