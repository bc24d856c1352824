//! What an agent puts out and what happens on its node, as text: send, screen, recording, events.

use std::io::Write;
use std::time::Duration;

use http::{Method, Request, header};
use http_body_util::Full;

use super::agents::standard_input;
use super::error::{ClientError, code};
use super::http::{Client, PATIENCE, agent_path};
use super::output::{Output, plain, print};
use super::sse::{Message, Parser};
use crate::api::agent::{Send, Sent};
use crate::api::events::{Event, Happened};
use crate::cli::service::terminal as words;

/// The service's own patience with an answer, if none is given.
const ANSWER: Duration = Duration::from_secs(30);

/// Types a message, and submits it.
pub async fn send(client: &Client, output: Output, words: words::Send) -> Result<u8, ClientError> {
    let message = if words.text == "-" { standard_input()? } else { words.text };
    let patience = words.timeout.unwrap_or(ANSWER);
    let send = Send {
        message,
        wait: words.wait,
        timeout_ms: words.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        key: words.idempotency_key,
        queue: words.queue,
    };
    let sent: Sent = client.post(&agent_path(&words.id, "/send")?, &send, patience + PATIENCE).await?;
    output.result(&sent, || match &sent.response {
        Some(response) => format!("{}\n", response.lines().map(plain).collect::<Vec<_>>().join("\n")),
        None if sent.sent => String::new(),
        None => format!("{} {}\n", sent.id, sent.stage.as_str()),
    })?;
    if words.wait && sent.response.is_none() {
        return Err(ClientError::Timeout { what: format!("{} did not answer", words.id), after: patience });
    }
    Ok(code::OK)
}

/// A body, piece by piece as it comes.
async fn copy(
    client: &Client,
    path: &str,
    take: &mut dyn FnMut(&[u8]) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let mut body = client.ask(Method::GET, path, None, PATIENCE).await?.into_body();
    while let Some(bytes) = client.piece(&mut body).await? {
        take(&bytes)?;
    }
    Ok(())
}

/// What its terminal shows now.
pub async fn screen(client: &Client, output: Output, words: words::Screen) -> Result<u8, ClientError> {
    let path = agent_path(&words.id, "/screen")?;
    if words.ansi {
        copy(client, &format!("{path}?format=ansi"), &mut |bytes| print(bytes)).await?;
        return Ok(code::OK);
    }
    let screen: serde_json::Value = client.get(&path).await?;
    let lines: Vec<&str> =
        screen["lines"].as_array().into_iter().flatten().filter_map(|l| l.as_str()).collect();
    output.result(&screen, || {
        let used = lines.iter().rposition(|line| !line.trim_end().is_empty()).map_or(0, |last| last + 1);
        lines[..used].iter().map(|line| format!("{}\n", plain(line.trim_end()))).collect()
    })?;
    Ok(code::OK)
}

/// Its terminal as asciicast.
pub async fn recording(client: &Client, output: Output, words: words::Recording) -> Result<u8, ClientError> {
    let path = agent_path(&words.id, "/recording")?;
    let Some(file) = words.output else {
        copy(client, &path, &mut |bytes| print(bytes)).await?;
        return Ok(code::OK);
    };
    let failed = |source| ClientError::File { verb: "write", path: file.clone(), source };
    // Asked first, so that a mistake in the id leaves no empty file behind.
    let mut body = client.ask(Method::GET, &path, None, PATIENCE).await?.into_body();
    let mut out = std::fs::File::create(&file).map_err(failed)?;
    let mut written = 0;
    while let Some(bytes) = client.piece(&mut body).await? {
        out.write_all(&bytes).map_err(failed)?;
        written += bytes.len() as u64;
    }
    let document = serde_json::json!({ "id": words.id, "file": file, "bytes": written });
    output.result(&document, String::new)?;
    Ok(code::OK)
}

/// What happens on the node. With `--follow` a lost connection is made again, after the last event that was seen.
pub async fn events(client: &Client, output: Output, words: words::Events) -> Result<u8, ClientError> {
    let mut seen = words.since;
    loop {
        match follow(client, output, &mut seen, words.follow).await {
            Ok(()) if !words.follow => return Ok(code::OK),
            Ok(()) => {}
            Err(error) if words.follow && error.is_passing() => {
                output.remark(&format!("{}; trying again", error.line()));
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow(
    client: &Client,
    output: Output,
    seen: &mut Option<u64>,
    on: bool,
) -> Result<(), ClientError> {
    let mut request = Request::builder()
        .uri(if on { "/v1/events" } else { "/v1/events?follow=false" })
        .header(header::HOST, client.target.authority())
        .header(header::ACCEPT, "text/event-stream");
    if let Some(cursor) = *seen {
        request = request.header("last-event-id", cursor);
    }
    let request = request.body(Full::default()).expect("a request of ours is one");
    let mut body = client.exchange(request, PATIENCE).await?.into_body();
    let mut parser = Parser::default();
    while let Some(bytes) = client.piece(&mut body).await? {
        for message in parser.take(&bytes).map_err(|error| client.not_understood(&error.to_string()))? {
            tell(output, &message)?;
            *seen = message.id.and_then(|id| id.parse().ok()).or(*seen);
        }
    }
    Ok(())
}

fn tell(output: Output, message: &Message) -> Result<(), ClientError> {
    if output.voice.json {
        // As it came, so that nothing is lost that this version does not know.
        return print(format!("{}\n", message.data.replace('\n', " ")).as_bytes());
    }
    let text = match serde_json::from_str::<Event>(&message.data) {
        Ok(event) => line(&event, &message.event),
        Err(_) => format!("{} {}", plain(&message.event), plain(&message.data)),
    };
    print(format!("{text}\n").as_bytes())
}

fn line(event: &Event, kind: &str) -> String {
    let what = match &event.happened {
        Happened::AgentCreated(agent) => format!("created: {}, policy {}", agent.kind, agent.policy),
        Happened::AgentState(agent) => match super::agents::ended(agent) {
            Some(how) => format!("{} ({how})", agent.state.as_str()),
            None => format!("{} ({})", agent.state.as_str(), agent.evidence),
        },
        Happened::LoginRequired(login) => {
            format!(
                "waits for a login at {}: {}",
                login.provider,
                login.url.as_deref().unwrap_or("no URL yet")
            )
        }
        Happened::TurnComplete(turn) => format!("answered message {}", turn.message),
        Happened::NotDelivered(delivery) => {
            let why = delivery.why.as_deref().unwrap_or("nobody knows why");
            format!("message {} is {}: {why}", delivery.id, delivery.stage.as_str())
        }
        Happened::QuestionAnswered(question) => format!("was answered: {}", question.evidence),
        Happened::AgentRemoved => "removed".into(),
        Happened::Gap(gap) => format!("events {} to {} are no longer kept", gap.from, gap.to),
        Happened::BudgetWarning(of) => format!("nearly used up: {}", budget(of)),
        Happened::BudgetExceeded(of) => format!("used up, and what it is for is stopped: {}", budget(of)),
        Happened::Draining => "the node takes no new agents any more".into(),
        Happened::Other => kind.to_owned(),
    };
    let agent = event.agent.as_deref().unwrap_or("-");
    plain(&format!("{} {} {agent} {what}", event.cursor, event.at))
}

fn budget(budget: &crate::api::events::Budget) -> String {
    let crate::api::events::Budget { of, what, used, limit } = budget;
    format!("{} of {} {} of the {}'s budget", used, limit, plain(what), plain(of))
}
