//! What a model answers: how many characters it was sent between two marks, in each vendor's own words.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::model::{Asked, MARKS};

/// So long it thinks, that its work can be seen.
const THINKS: Duration = Duration::from_millis(1500);

/// What stands between the marks in what the user said last.
pub fn counted(body: &Value) -> Option<String> {
    let turns = ["messages", "input", "contents"].iter().find_map(|name| body.get(*name)?.as_array())?;
    turns.iter().rev().find_map(|turn| {
        let blocks = ["content", "parts"].iter().find_map(|name| turn.get(*name))?;
        let texts: Vec<&str> = match blocks {
            Value::String(text) => vec![text],
            Value::Array(blocks) => blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect(),
            _ => Vec::new(),
        };
        texts.into_iter().rev().find_map(|text| {
            let (_, rest) = text.split_once(MARKS.0)?;
            rest.split_once(MARKS.1).map(|(inner, _)| inner.to_owned())
        })
    })
}

/// The text of the answer to this message; one that asks for many lines gets them.
pub fn text(message: &str) -> String {
    if message.contains("many lines") {
        let lines: Vec<String> = (1..=120).map(|n| format!("- line {n} of the answer")).collect();
        return lines.join("\n");
    }
    let end: String = message.chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect();
    format!("I counted {} characters.\n\nThe last ones are `{end}`.", message.chars().count())
}

/// Answers one request.
pub fn answer(to: &mut impl Write, asked: &Asked) -> io::Result<()> {
    let path = asked.path.split('?').next().unwrap_or_default();
    if asked.headers.contains("upgrade: websocket") {
        return plain(to, 426, &json!({ "error": { "message": "no websocket here" } }));
    }
    let text =
        counted(&asked.body).map_or_else(|| "Nothing was counted.".to_owned(), |message| text(&message));
    let streams = asked.body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    match (asked.method.as_str(), path) {
        ("HEAD", _) => plain(to, 200, &Value::Null),
        (_, path) if path.ends_with("hello") => plain(to, 200, &json!({ "message": "hello" })),
        ("POST", "/v1/messages") if streams => claude(to, &asked.body, &text),
        ("POST", "/v1/messages") => {
            plain(to, 200, &claude_message(&asked.body, json!([{ "type": "text", "text": "Counting" }])))
        }
        ("POST", path) if path.ends_with("/responses") => codex(to, &text),
        ("POST", path) if path.ends_with(":streamGenerateContent") => gemini(to, &text),
        ("POST", path) if path.ends_with(":generateContent") => plain(to, 200, &gemini_choice()),
        ("POST", path) if path.ends_with("/chat/completions") => aider(to, streams, &text),
        _ => plain(to, 404, &json!({ "error": { "message": "not here", "type": "not_found_error" } })),
    }
}

fn plain(to: &mut impl Write, status: u16, body: &Value) -> io::Result<()> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(
        to,
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    to.flush()
}

fn stream(to: &mut impl Write) -> io::Result<()> {
    write!(to, "HTTP/1.1 200 Said\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    to.flush()
}

fn event(to: &mut impl Write, name: Option<&str>, data: &Value) -> io::Result<()> {
    if let Some(name) = name {
        writeln!(to, "event: {name}")?;
    }
    write!(to, "data: {data}\n\n")?;
    to.flush()
}

/// The text, line by line.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    std::thread::sleep(THINKS);
    text.split_inclusive('\n').inspect(|_| std::thread::sleep(Duration::from_millis(50)))
}

fn claude_message(body: &Value, content: Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": content,
        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 9, "output_tokens": 1 },
    })
}

/// https://docs.anthropic.com/en/api/messages-streaming
fn claude(to: &mut impl Write, body: &Value, text: &str) -> io::Result<()> {
    let head = json!({ "type": "message_start", "message": claude_message(body, json!([])) });
    let begin =
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } });
    stream(to)?;
    event(to, Some("message_start"), &head)?;
    event(to, Some("content_block_start"), &begin)?;
    for piece in pieces(text) {
        let delta = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": piece } });
        event(to, Some("content_block_delta"), &delta)?;
    }
    event(to, Some("content_block_stop"), &json!({ "type": "content_block_stop", "index": 0 }))?;
    let end = json!({ "stop_reason": "end_turn", "stop_sequence": null });
    let delta = json!({ "type": "message_delta", "delta": end, "usage": { "output_tokens": 12 } });
    event(to, Some("message_delta"), &delta)?;
    event(to, Some("message_stop"), &json!({ "type": "message_stop" }))
}

/// https://platform.openai.com/docs/api-reference/responses-streaming
fn codex(to: &mut impl Write, text: &str) -> io::Result<()> {
    stream(to)?;
    let response = json!({ "id": "resp_1", "object": "response", "status": "in_progress", "output": [] });
    event(to, Some("response.created"), &json!({ "type": "response.created", "response": response }))?;
    let item = |text: &str| json!({ "type": "message", "id": "m_1", "role": "assistant", "content": [{ "type": "output_text", "text": text }] });
    let added = json!({ "type": "response.output_item.added", "output_index": 0, "item": item("") });
    event(to, Some("response.output_item.added"), &added)?;
    for piece in pieces(text) {
        let delta = json!({
            "type": "response.output_text.delta", "item_id": "m_1", "output_index": 0, "content_index": 0, "delta": piece,
        });
        event(to, Some("response.output_text.delta"), &delta)?;
    }
    let done = json!({ "type": "response.output_item.done", "output_index": 0, "item": item(text) });
    event(to, Some("response.output_item.done"), &done)?;
    let usage = json!({ "input_tokens": 9, "output_tokens": 9, "total_tokens": 18 });
    let whole = json!({ "id": "resp_1", "object": "response", "status": "completed", "output": [item(text)], "usage": usage });
    event(to, Some("response.completed"), &json!({ "type": "response.completed", "response": whole }))
}

/// https://ai.google.dev/api/generate-content
fn gemini(to: &mut impl Write, text: &str) -> io::Result<()> {
    stream(to)?;
    let part = |text: &str, finish: Option<&str>| {
        let mut candidate =
            json!({ "content": { "role": "model", "parts": [{ "text": text }] }, "index": 0 });
        if let Some(finish) = finish {
            candidate["finishReason"] = json!(finish);
        }
        let usage = json!({ "promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18 });
        json!({ "candidates": [candidate], "usageMetadata": usage, "modelVersion": "stand-in" })
    };
    for piece in pieces(text) {
        event(to, None, &part(piece, None))?;
    }
    event(to, None, &part("", Some("STOP")))
}

/// Which model is to answer: it asks that first.
fn gemini_choice() -> Value {
    let choice = json!({ "reasoning": "x", "model_choice": "flash", "complexity_reasoning": "x", "complexity_score": 1 });
    json!({ "candidates": [{ "content": { "role": "model", "parts": [{ "text": choice.to_string() }] }, "finishReason": "STOP" }] })
}

/// https://platform.openai.com/docs/api-reference/chat/streaming
fn aider(to: &mut impl Write, streams: bool, text: &str) -> io::Result<()> {
    let about = json!({ "id": "c1", "created": 1, "model": "gpt-4o" });
    let with = |object: &str, choice: Value| {
        let mut all = about.clone();
        all["object"] = json!(object);
        all["choices"] = json!([choice]);
        all
    };
    if !streams {
        let message = json!({ "role": "assistant", "content": text });
        let mut whole =
            with("chat.completion", json!({ "index": 0, "message": message, "finish_reason": "stop" }));
        whole["usage"] = json!({ "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12 });
        return plain(to, 200, &whole);
    }
    stream(to)?;
    let chunk = |delta: Value, finish: Value| {
        with("chat.completion.chunk", json!({ "index": 0, "delta": delta, "finish_reason": finish }))
    };
    event(to, None, &chunk(json!({ "role": "assistant", "content": "" }), Value::Null))?;
    for piece in pieces(text) {
        event(to, None, &chunk(json!({ "content": piece }), Value::Null))?;
    }
    event(to, None, &chunk(json!({}), json!("stop")))?;
    write!(to, "data: [DONE]\n\n")?;
    to.flush()
}
