//! Delivers a callback: one HTTP request to the port inside on which a login waits, and what it answers.
//!
//! The connection is made inside, by the sandbox's init, and handed out. Its other end is the agent: all that comes from there
//! is read as if it were hostile, up to a limit of bytes and of time, and shown as the agent's words.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::agents::callback::Callback;
use crate::daemon::supervisor::agent::{Command, Handle};
use crate::daemon::supervisor::request::wipe;
use crate::daemon::supervisor::{Result, SupervisorError};
use crate::wire;

/// How long the connection may take, and each answer.
const DIAL: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// How long all of it may take.
const ALL: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are read, and characters that are told.
const MOST: u64 = 64 * 1024;
const TOLD: usize = 300;
/// A shorter value is no secret, and could be a part of any word.
const TELLING: usize = 4;
/// How often an answer may lead on: some end their login only when their last page was fetched.
const HOPS: usize = 3;

/// What came of it.
pub(super) enum Delivery {
    /// Somebody took it, and did not refuse.
    Taken,
    /// The agent's words.
    Refused(String),
}

/// Delivers what the browser was sent to.
pub(super) async fn deliver(handle: &Arc<Handle>, callback: &Callback, url: &str) -> Result<Delivery> {
    let target = callback.target(url);
    let target = target.map_err(|refusal| SupervisorError::Field {
        field: "callbackUrl",
        detail: refusal.to_string(),
        malformed: false,
    })?;
    let delivered = tokio::time::timeout(ALL, follow(handle, callback, target.to_owned())).await;
    // Whoever takes so long has been told, and the terminal shows what comes of it.
    delivered.unwrap_or(Ok(Delivery::Taken))
}

/// Asks for it, and for where the answers lead on to.
async fn follow(handle: &Arc<Handle>, callback: &Callback, target: String) -> Result<Delivery> {
    let mut next = target;
    for hop in 0..=HOPS {
        let stream = match dial(handle, callback.port).await? {
            Ok(stream) => stream,
            // It has taken what matters, and closed its server.
            Err(_) if hop > 0 => return Ok(Delivery::Taken),
            Err(error) => {
                let port = callback.port;
                return Ok(Delivery::Refused(format!(
                    "nobody inside listens on port {port} for this login: {error}"
                )));
            }
        };
        let asked = tokio::time::timeout(ANSWER, ask(stream, callback, &next)).await;
        let asked_for = Asked(std::mem::take(&mut next));
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            // Whoever ends with the login may not get as far as an answer; the terminal tells.
            Ok(Err(_)) | Err(_) => return Ok(Delivery::Taken),
        };
        match answer {
            Answer { status: 300..=399, location: Some(location), .. } => match callback.follow(&location) {
                Some(target) => next = target.to_owned(),
                None => return Ok(Delivery::Taken),
            },
            Answer { status: 400.., status_line, body, .. } => {
                return Ok(Delivery::Refused(words(&status_line, &body, &asked_for)));
            }
            _ => return Ok(Delivery::Taken),
        }
    }
    Ok(Delivery::Taken)
}

/// A connection to this port inside; the inner error is of the port.
async fn dial(handle: &Handle, port: u16) -> Result<io::Result<TcpStream>> {
    let failed =
        |source| SupervisorError::Io { what: format!("connecting into agent {}", handle.id), source };
    let state = handle.shown.borrow().state.as_str();
    let absent = |what| SupervisorError::State { id: handle.id.clone(), state, what };
    let (ours, theirs) = wire::pair().map_err(failed)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(|error| failed(error.into()))?;
    let ours = crate::sys::ready::watch(ours).map_err(failed)?;
    let (heard, told) = oneshot::channel();
    let command = Command::Dial { port, socket: theirs, heard };
    handle.commands.send(command).await.map_err(|_| absent("its shim cannot be asked now"))?;
    if !told.await.unwrap_or(false) {
        return Err(absent(
            "its shim cannot connect into it now, or is of a version that cannot at all: attach instead",
        ));
    }
    let received = async {
        loop {
            let mut ready = ours.readable().await?;
            if let Ok(received) = ready.try_io(|fd| wire::receive(fd.as_fd(), 1)) {
                return received;
            }
        }
    };
    let received = tokio::time::timeout(DIAL, received).await.map_err(|_| SupervisorError::Timeout {
        what: format!("connecting to port {port} of agent {}", handle.id),
        after: DIAL,
    })?;
    let gone = || absent("it ended, or its shim did not answer");
    let (errno, sockets) = received.map_err(failed)?.ok_or_else(gone)?;
    let errno = i32::from_ne_bytes(errno.try_into().map_err(|_| gone())?);
    match sockets.into_iter().next() {
        Some(socket) if errno == 0 => stream(socket).map(Ok).map_err(failed),
        _ => Ok(Err(io::Error::from_raw_os_error(errno))),
    }
}

fn stream(socket: OwnedFd) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// As it came.
    status_line: String,
    location: Option<String>,
    body: Vec<u8>,
}

async fn ask(mut stream: TcpStream, callback: &Callback, target: &str) -> io::Result<Answer> {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {}:{}\r\nUser-Agent: stockade/{}\r\nAccept: text/html,*/*\r\nConnection: close\r\n\r\n",
        callback.host,
        callback.port,
        env!("CARGO_PKG_VERSION"),
    );
    let written = stream.write_all(request.as_bytes()).await;
    wipe(request.into_bytes());
    written?;
    let mut all = Vec::new();
    // A server that keeps the connection open although it was asked not to has said all of it by then.
    let mut reader = stream.take(MOST);
    loop {
        let count = reader.read_buf(&mut all).await?;
        if count == 0 || is_whole(&all) {
            return answer(&all);
        }
    }
}

/// Whether the head is there, and as much of a body as it announces.
fn is_whole(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(bytes) else { return false };
    let length = header(&response, "content-length").and_then(|length| length.parse::<usize>().ok());
    match (response.code, length) {
        (Some(204 | 304), _) => true,
        (_, Some(length)) => bytes.len() - head >= length,
        (_, None) => false,
    }
}

fn header<'a>(response: &httparse::Response<'_, 'a>, name: &str) -> Option<&'a str> {
    let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(found.value).ok().map(str::trim)
}

fn answer(bytes: &[u8]) -> io::Result<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(invalid)? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let status = response.code.unwrap_or(0);
    Ok(Answer {
        status,
        status_line: format!("{status} {}", response.reason.unwrap_or_default()),
        location: header(&response, "location").map(str::to_owned),
        body: bytes[head..].to_vec(),
    })
}

/// What was asked for: a secret. Wiped when it is no longer needed.
struct Asked(String);

impl Drop for Asked {
    fn drop(&mut self) {
        wipe(std::mem::take(&mut self.0).into_bytes());
    }
}

impl Asked {
    /// Without it and what it brought: many servers repeat in an error what they were asked for.
    fn taken_out_of(&self, mut text: String) -> String {
        let (_, query) = self.0.split_once('?').unwrap_or_default();
        let plain = form_urlencoded::parse(query.as_bytes()).map(|(_, value)| value.into_owned());
        let raw = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned());
        for value in plain.chain(raw).filter(|value| value.len() >= TELLING) {
            text = text.replace(&value, "…");
        }
        text
    }
}

/// What a page says, without its markup, and without what it was asked for.
fn words(status: &str, body: &[u8], asked: &Asked) -> String {
    let mut text = String::new();
    let mut markup = false;
    for c in String::from_utf8_lossy(body).chars() {
        match c {
            '<' => markup = true,
            '>' if markup => {
                markup = false;
                text.push(' ');
            }
            _ if markup => {}
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    let text = asked.taken_out_of(text);
    let text: Vec<&str> = text.split_whitespace().collect();
    let status = asked.taken_out_of(status.to_owned());
    let text = format!("the agent's server answered {}: {}", status.trim(), text.join(" "));
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(TOLD).collect::<String>().trim_end_matches([':', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_far_as_it_goes() {
        let all = b"HTTP/1.1 302 Found\r\nLocation: /success?x=1\r\ncontent-length: 2\r\n\r\nok";
        assert!(is_whole(all) && !is_whole(&all[..all.len() - 1]));
        let read = answer(all).expect("an answer");
        assert_eq!((read.status, read.location.as_deref()), (302, Some("/success?x=1")));
        answer(b"SSH-2.0-OpenSSH\r\n").expect_err("no HTTP");
        answer(b"HTTP/1.1 200 OK\r\nx").expect_err("half an answer");
    }

    #[test]
    fn a_page_is_told_as_plain_words() {
        let asked = Asked("/cb?code=c&state=s".into());
        let page = "<html>\x1b]0;x\x07<h1>Sign-in\nfailed</h1> <script>alert(1)</script>";
        assert_eq!(
            words("400 Bad Request", page.as_bytes(), &asked),
            "the agent's server answered 400 Bad Request: ]0;x Sign-in failed alert(1)"
        );
        assert_eq!(words("500 ", b"", &asked), "the agent's server answered 500");
        assert_eq!(words("400 x", &[b'y'; 100_000], &asked).chars().count(), TOLD);
    }

    #[test]
    fn what_was_brought_is_not_told_though_the_server_repeats_it() {
        let asked = Asked("/cb?code=4%2F0Ab-se%20cret&state=state-1".into());
        let page = b"Cannot GET /cb?code=4%2F0Ab-se%20cret&amp;state=state-1 (4/0Ab-se cret)";
        let told = words("404 no state-1", page, &asked);
        assert_eq!(told, "the agent's server answered 404 no …: Cannot GET /cb?code=…&amp;state=… (…)");
    }
}
