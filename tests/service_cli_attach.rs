//! `stockade attach` against a service that drops connections at the worst moments; the service is the test's own.

#[path = "common/fake.rs"]
#[allow(dead_code)]
mod fake;
#[path = "common/pty.rs"]
#[allow(dead_code)]
mod pty;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use fake::{STOCKADE, Service, said};
use pty::Session;
use serde_json::{Value, json};

type Words = std::collections::HashMap<String, String>;

/// What the service has been told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    connections: Vec<Words>,
    typed: Vec<u8>,
    words: Vec<Value>,
}

impl Told {
    fn typed(&self) -> Vec<u8> {
        self.0.lock().expect("no test has failed").typed.clone()
    }

    fn connections(&self) -> Vec<Words> {
        self.0.lock().expect("no test has failed").connections.clone()
    }

    /// Waits until it has been told something.
    fn until(&self, what: &str, is_so: impl Fn(&Heard) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so(&self.0.lock().expect("no test has failed")) {
            assert!(Instant::now() < deadline, "never told: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes a frame of the client's; false: it is gone.
    fn take(&self, message: Option<Result<Message, axum::Error>>) -> bool {
        let mut heard = self.0.lock().expect("no test has failed");
        match message {
            Some(Ok(Message::Binary(bytes))) => heard.typed.extend_from_slice(&bytes),
            Some(Ok(Message::Text(text))) => {
                heard.words.push(serde_json::from_str(&text).expect("a document"))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            None | Some(Ok(Message::Close(_)) | Err(_)) => return false,
        }
        true
    }
}

fn service<F, E>(session: F) -> (Service, Told)
where
    F: Fn(WebSocket, Words, Told) -> E + Clone + Send + Sync + 'static,
    E: Future<Output = ()> + Send + 'static,
{
    let told = Told::default();
    let open = move |State(told): State<Told>, Query(words): Query<Words>, upgrade: WebSocketUpgrade| async move {
        told.0.lock().expect("no test has failed").connections.push(words.clone());
        let answer: Response = upgrade.on_upgrade(move |socket| session(socket, words, told));
        answer
    };
    let routes = Router::new().route("/v1/agents/{id}/terminal", get(open)).with_state(told.clone());
    (Service::start(routes), told)
}

fn word(word: Value) -> Message {
    Message::Text(word.to_string().into())
}

fn attached(offset: u64) -> Message {
    let size = json!({ "cols": 80, "rows": 24 });
    word(
        json!({ "type": "attached", "id": "a", "offset": offset, "mayType": true, "ownsSize": true, "size": size }),
    )
}

/// Output that no other place in it looks like.
fn output() -> Vec<u8> {
    (0_u32..100_000).flat_map(u32::to_le_bytes).collect()
}

/// Drops the connection after a few frames, in the middle of the output; each one goes on where it is asked to.
async fn drop_often(mut socket: WebSocket, words: Words, _: Told) {
    let output = output();
    let since: usize = words["since"].parse().expect("an offset");
    let mut rest = &output[since..];
    if socket.send(attached(since as u64)).await.is_err() {
        return;
    }
    for length in [1, 4093, 65536, 7, 11] {
        let piece = rest.split_off(..length.min(rest.len())).expect("within");
        if socket.send(Message::Binary(piece.to_vec().into())).await.is_err() {
            return;
        }
    }
    if rest.is_empty() {
        let _ = socket.send(word(json!({ "type": "ended", "exitCode": 3 }))).await;
    }
    // Dropped as it is: no goodbye, and what was sent last may be lost.
}

#[test]
fn no_byte_is_lost_or_doubled_when_connections_break() {
    let (service, told) = service(drop_often);
    let result = service.run(&["attach", "a", "--since", "0"]);
    let (_, err) = said(&result);
    assert_eq!(result.status.code(), Some(0), "{err}");
    assert!(result.stdout == output(), "{} bytes instead of {}", result.stdout.len(), output().len());
    assert!(told.connections().len() > 3, "it was never interrupted");
    assert!(err.contains("a has ended: exit code 3"), "{err}");
}

/// Draws nothing, and hears what is typed until the client is gone.
async fn listen(mut socket: WebSocket, _: Words, told: Told) {
    let _ = socket.send(attached(0)).await;
    while told.take(socket.recv().await) {
        if told.typed().ends_with(b"bye\n") {
            let _ = socket.send(Message::Binary(b"heard".to_vec().into())).await;
            let _ = socket.send(word(json!({ "type": "ended", "exitCode": 0 }))).await;
            return;
        }
    }
}

#[test]
fn what_comes_by_a_pipe_is_typed_and_the_output_goes_on_after_its_end() {
    let (service, told) = service(listen);
    let input: Vec<u8> = [vec![b'x'; 300_000], b"\x1d is no wish to leave here; bye\n".to_vec()].concat();
    let result = service.run_with(&["attach", "a"], &input);
    assert_eq!((result.status.code(), said(&result).0.as_str()), (Some(0), "heard"), "{}", said(&result).1);
    assert!(told.typed() == input);
}

#[test]
fn looking_on_types_nothing() {
    let (service, told) = service(|mut socket: WebSocket, _, told: Told| async move {
        let _ = socket.send(attached(0)).await;
        let _ = socket.send(word(json!({ "type": "ended", "exitCode": null }))).await;
        while told.take(socket.recv().await) {}
    });
    let result = service.run_with(&["attach", "a", "--read-only"], b"typed\n");
    assert_eq!(result.status.code(), Some(0), "{}", said(&result).1);
    assert_eq!((told.typed(), told.connections()[0]["mode"].as_str()), (vec![], "view"));
    assert!(!told.connections()[0].contains_key("cols"));
}

/// A full-screen program: it switches on what must be switched off again.
async fn full_screen(mut socket: WebSocket, _: Words, told: Told) {
    let drawing = b"\x1b[?1049h\x1b[?1003h\x1b[?2004hdrawn";
    let _ = socket.send(attached(100)).await;
    let _ = socket.send(word(json!({ "type": "screen", "offset": 100, "bytes": drawing.len() }))).await;
    let _ = socket.send(Message::Binary(drawing.to_vec().into())).await;
    while told.take(socket.recv().await) {}
}

/// At a shell's terminal, with this service's `attach` on its way.
fn at_a_terminal(service: &Service, words: &str) -> Session {
    let mut shell = Session::bash(80, 24);
    let config = service.path("client.toml");
    shell.send(&format!("STOCKADE_CLIENT_CONFIG={} {STOCKADE} attach a {words}\n", config.display()));
    shell
}

#[test]
fn at_a_terminal_keys_and_sizes_reach_the_agent_and_the_terminal_comes_back_as_it_was() {
    let (service, told) = service(full_screen);
    let mut shell = at_a_terminal(&service, "");
    shell.expect("drawn");
    let connection = &told.connections()[0];
    assert_eq!((connection["cols"].as_str(), connection["rows"].as_str()), ("80", "24"));
    assert!(shell.is_raw());
    shell.send("\x03ab");
    told.until("Ctrl-C", |heard| heard.typed == b"\x03ab");
    shell.resize(100, 30);
    told.until("the size", |heard| heard.words == [json!({ "type": "resize", "cols": 100, "rows": 30 })]);
    shell.send("last\x1dnot typed");
    let undone = shell.expect("left a");
    for off in ["\x1b[?1003l", "\x1b[?2004l", "\x1b[?1049l"] {
        assert!(undone.contains(off), "{off:?} is missing in {undone:?}");
    }
    told.until("what was typed last", |heard| heard.typed == b"\x03ablast");
    shell.expect("$ ");
    assert_eq!(shell.run("stty -a | grep -o ' icanon\\| echo '").split_whitespace().count(), 2);
}

#[test]
fn a_stopped_attach_that_goes_on_has_the_screen_drawn_anew() {
    let (service, told) = service(full_screen);
    let mut shell = at_a_terminal(&service, "");
    shell.expect("drawn");
    told.until("a connection", |heard| heard.connections.len() == 1);
    let attached = in_front(&shell);
    rustix::process::kill_process(attached, rustix::process::Signal::STOP).expect("it runs");
    shell.expect("Stopped");
    shell.send("fg\n");
    shell.expect("drawn");
    assert!(shell.is_raw());
    let again = &told.connections()[1];
    assert!(!again.contains_key("since"), "{again:?}");
    shell.send("\x1d");
    shell.expect("left a");
}

/// Who has this terminal now.
fn in_front(shell: &Session) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(shell.foreground()).expect("a process group")
}

#[test]
fn a_service_that_is_away_for_long_is_mentioned_and_then_found_again() {
    // The first connection ends with the first key, when all is read that came; from then on there is nobody for a while.
    let (service, told) = service(|mut socket: WebSocket, words: Words, told: Told| async move {
        let since = words.get("since").map_or(0, |since| since.parse().expect("an offset"));
        let count = told.connections().len();
        if (2..8).contains(&count) {
            return;
        }
        let _ = socket.send(attached(since)).await;
        if count == 1 {
            let _ = socket.send(Message::Binary(b"first;".to_vec().into())).await;
            while told.typed().is_empty() && told.take(socket.recv().await) {}
            return;
        }
        let _ = socket.send(Message::Binary(b"second".to_vec().into())).await;
        while told.take(socket.recv().await) {}
    });
    let mut shell = at_a_terminal(&service, "");
    shell.expect("first;");
    shell.send("!");
    shell.expect("connecting again, Ctrl-] leaves]");
    shell.send("typed meanwhile");
    shell.expect("connected again]");
    shell.expect("second");
    told.until("what was typed meanwhile", |heard| heard.typed == b"!typed meanwhile");
    assert_eq!(told.connections().last().and_then(|words| words.get("since")).map(String::as_str), Some("6"));
    shell.send("\x1d");
    shell.expect("left a");
}
