//! `stockade logs`: what an agent's terminal has put out; followed across connections that break.

use std::time::Duration;

use http::Method;

use super::error::{ClientError, code};
use super::http::{Client, PATIENCE, agent_path, query};
use super::output::{Output, print};
use crate::api::agent::Agent;
use crate::api::screen::LogLine;
use crate::cli::service::terminal as words;
use crate::cli::service::words::Since;

/// Between two connections.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest line that is waited for.
const LONGEST: usize = 16 * 1024 * 1024;

/// Prints it.
pub async fn logs(client: &Client, output: Output, words: words::Logs) -> Result<u8, ClientError> {
    let path = agent_path(&words.id, "/logs")?;
    // Where raw output would have to go on is not known: `attach --since` counts it.
    if words.follow && !words.raw {
        return follow(client, output, &words, &path).await;
    }
    let format = match (words.raw, output.voice.json) {
        (true, _) => "raw",
        (false, true) => "json",
        (false, false) => "text",
    };
    let pairs = [
        ("format", Some(format.to_owned())),
        ("tail", words.tail.map(|tail| tail.to_string())),
        ("since", words.since.map(moment)),
        ("follow", words.follow.then(|| "true".to_owned())),
    ];
    let path = format!("{path}{}", query(&pairs));
    let mut body = client.ask(Method::GET, &path, None, PATIENCE).await?.into_body();
    while let Some(bytes) = client.piece(&mut body).await? {
        print(&bytes)?;
    }
    Ok(code::OK)
}

fn moment(since: Since) -> String {
    match since {
        Since::At(time) => time,
        Since::Ago(ago) => {
            let then = jiff::Timestamp::now().checked_sub(ago).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            then.to_string()
        }
    }
}

/// Up to the agent's end.
async fn follow(client: &Client, output: Output, words: &words::Logs, path: &str) -> Result<u8, ClientError> {
    let mut lines = Lines { json: output.voice.json, ..Lines::default() };
    let mut has_begun = false;
    loop {
        let since = lines.since();
        let tail = words.tail.filter(|_| since.is_none()).map(|tail| tail.to_string());
        let pairs = [
            ("format", Some("json".to_owned())),
            ("follow", Some("true".to_owned())),
            ("tail", tail),
            ("since", since.or_else(|| words.since.clone().map(moment))),
        ];
        let path = format!("{path}{}", query(&pairs));
        let ended = copy(client, &path, &mut lines, &mut has_begun).await;
        match ended {
            // A service that ends lets streams end, too.
            Ok(()) => match client.get::<Agent>(&agent_path(&words.id, "")?).await {
                Ok(agent) if agent.state.is_final() => return Ok(code::OK),
                Err(error) if !error.is_passing() => return Err(error),
                Ok(_) | Err(_) => {}
            },
            Err(error) if error.is_passing() && has_begun => {
                output.remark(&format!("{}; trying again", error.line()));
            }
            Err(error) => return Err(error),
        }
        lines.again();
        tokio::time::sleep(PAUSE).await;
    }
}

async fn copy(
    client: &Client,
    path: &str,
    lines: &mut Lines,
    has_begun: &mut bool,
) -> Result<(), ClientError> {
    let mut body = client.ask(Method::GET, path, None, PATIENCE).await?.into_body();
    *has_begun = true;
    while let Some(bytes) = client.piece(&mut body).await? {
        lines.take(&bytes)?;
    }
    Ok(())
}

/// Lines, each with the time at which it was begun; that is where a new connection goes on.
#[derive(Default)]
struct Lines {
    json: bool,
    /// Of a line that is not complete.
    partial: Vec<u8>,
    /// The time of the last line, and all lines of that time.
    last: Option<(String, Vec<String>)>,
    /// Those of them that may come again.
    again: Vec<String>,
}

impl Lines {
    /// Where to go on; none: nothing has been printed yet.
    fn since(&self) -> Option<String> {
        self.last.as_ref().map(|(at, _)| at.clone())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.partial);
            self.line(&line)?;
        }
        self.partial.extend_from_slice(rest);
        match self.partial.len() {
            ..=LONGEST => Ok(()),
            _ => Err(ClientError::Failed("a line of the log does not end".into())),
        }
    }

    /// A new connection begins.
    fn again(&mut self) {
        self.partial.clear();
        self.again = self.last.as_ref().map(|(_, texts)| texts.clone()).unwrap_or_default();
    }

    fn line(&mut self, line: &[u8]) -> Result<(), ClientError> {
        let LogLine { at, text } = serde_json::from_slice(line)
            .map_err(|error| ClientError::Failed(format!("a line of the log is not understood: {error}")))?;
        let is_same_time = self.last.as_ref().is_some_and(|(last, _)| *last == at);
        if is_same_time && let Some(seen) = self.again.iter().position(|seen| *seen == text) {
            self.again.remove(seen);
            return Ok(());
        }
        let printed = if self.json { [line, b"\n"].concat() } else { format!("{text}\n").into_bytes() };
        print(&printed)?;
        match &mut self.last {
            Some((_, texts)) if is_same_time => texts.push(text),
            last => *last = Some((at, vec![text])),
        }
        Ok(())
    }
}
