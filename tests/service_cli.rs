//! The commands against a service, as a script calls them; the service is the test's own.

#[allow(dead_code)]
#[path = "common/fake.rs"]
mod fake;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fake::{Service, said};
use serde_json::{Value, json};

fn agent(id: &str, state: &str) -> Value {
    json!({
        "id": id, "name": id, "type": "shell", "tenant": "dev", "owner": "spiffe://test/me", "policy": "shell",
        "state": state, "since": "2026-01-01T00:00:00Z", "evidence": "as told", "safeToType": false,
        "createdAt": "2026-01-01T00:00:00Z", "size": { "cols": 80, "rows": 24 }, "offset": 0,
    })
}

fn problem(status: u16, code: &str, detail: &str) -> Response {
    let body = json!({
        "type": "about:blank", "title": "Problem", "status": status, "detail": detail, "code": code,
        "requestId": "r-1", "error": detail,
    });
    (StatusCode::from_u16(status).expect("a status"), Json(body)).into_response()
}

#[test]
fn a_refusal_is_one_line_and_an_exit_code() {
    async fn refuse(Path(id): Path<String>) -> Response {
        let status: u16 = id.trim_start_matches('s').parse().expect("sSTATUS");
        problem(status, "a-code", "there is no agent of this name\u{1b}[31m")
    }
    let service = Service::start(Router::new().route("/v1/agents/{id}", get(refuse)));
    for (status, code) in [(404, 3), (403, 4), (409, 5), (504, 6), (503, 7), (400, 2), (500, 1)] {
        let output = service.run(&["get", &format!("s{status}")]);
        let (out, err) = said(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(code), ""), "{status}: {err}");
        assert_eq!(err, "stockade: there is no agent of this name [31m\n");
    }
    let output = service.run(&["--json", "get", "s404"]);
    let told: Value = serde_json::from_slice(&output.stderr).expect("a document");
    assert_eq!(
        (
            told["code"].as_str(),
            told["status"].as_u64(),
            told["requestId"].as_str(),
            told["exitCode"].as_u64()
        ),
        (Some("a-code"), Some(404), Some("r-1"), Some(3))
    );
    // What cannot be an id is not even asked for.
    assert_eq!(service.run(&["get", "../node"]).status.code(), Some(2));
}

#[test]
fn a_list_is_read_to_its_last_page_and_aligned() {
    async fn page(Query(query): Query<Vec<(String, String)>>) -> Json<Value> {
        assert!(query.contains(&("label".into(), "team=a b".into())), "{query:?}");
        Json(match query.iter().find(|(name, _)| name == "cursor") {
            None => json!({ "agents": [agent("a", "ready")], "cursor": "next page" }),
            Some((_, cursor)) if cursor == "next page" => json!({ "agents": [agent("longer-id", "exited")] }),
            Some(other) => panic!("{other:?}"),
        })
    }
    let service = Service::start(Router::new().route("/v1/agents", get(page)));
    let (out, err) = said(&service.run(&["ls", "--label", "team=a b"]));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}{err}");
    assert!(lines[1].starts_with("a          shell  ready   "), "{out}");
    assert!(lines[2].starts_with("longer-id  shell  exited  "), "{out}");
    let output = service.run(&["--json", "ls", "--label", "team=a b"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(document["agents"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_spawn_says_what_was_asked_for_and_prints_the_id() {
    async fn spawn(Json(body): Json<Value>) -> Response {
        if body["id"] == "whole" {
            let wanted = json!({
                "id": "whole", "type": "shell", "command": ["sh", "-c", "true"], "workspace": "/srv/work",
                "env": { "A": "1", "SECRET": "from here" }, "labels": { "k": "v" }, "autoRestart": false,
                "limits": { "memory": 536_870_912, "cpus": 1.5 }, "size": { "cols": 100, "rows": 30 }, "lifetime": 7200,
            });
            assert_eq!(body, wanted);
        }
        (StatusCode::CREATED, Json(agent("made-up", "starting"))).into_response()
    }
    let service = Service::start(Router::new().route("/v1/agents", post(spawn)));
    let words = [
        "spawn",
        "--type",
        "shell",
        "--id",
        "whole",
        "--workspace",
        "/srv/work",
        "--env",
        "A=1",
        "--env",
        "SECRET",
        "--label",
        "k=v",
        "--memory",
        "512M",
        "--cpus",
        "1.5",
        "--size",
        "100x30",
        "--lifetime",
        "2h",
        "--",
        "sh",
        "-c",
        "true",
    ];
    let output = service.command(&words).env("SECRET", "from here").output().expect("stockade starts");
    assert_eq!((output.status.code(), said(&output)), (Some(0), ("made-up\n".into(), String::new())));
    let (out, _) = said(&service.run(&["--json", "spawn", "--type", "shell"]));
    assert_eq!(serde_json::from_str::<Value>(&out).expect("a document")["id"], "made-up");
}

#[test]
fn waiting_is_asked_again_until_the_end_or_the_time_is_over() {
    async fn wait(Path(id): Path<String>, Query(query): Query<Vec<(String, String)>>) -> Response {
        let time: u64 = query[0].1.parse().expect("milliseconds");
        if id == "never" {
            tokio::time::sleep(std::time::Duration::from_millis(time)).await;
            return (StatusCode::ACCEPTED, Json(agent(&id, "ready"))).into_response();
        }
        let mut ended = agent(&id, "exited");
        ended["exitCode"] = json!(7);
        Json(ended).into_response()
    }
    let there = get(|Path(id): Path<String>| async move { Json(agent(&id, "ready")) });
    let routes = Router::new().route("/v1/agents/{id}/wait", get(wait)).route("/v1/agents/{id}", there);
    let service = Service::start(routes);
    let output = service.run(&["wait", "a"]);
    assert_eq!((output.status.code(), said(&output).0.as_str()), (Some(0), "a exited (exit code 7)\n"));
    let output = service.run(&["wait", "never", "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(6), "{:?}", said(&output));
}

#[test]
fn a_command_in_an_agent_ends_as_it_would_here() {
    async fn exec(Json(body): Json<Value>) -> Json<Value> {
        let text = format!("{} {}", body["command"], body["stdin"]);
        Json(json!({ "exitCode": 42, "stdout": text, "stderr": "oops", "truncated": false }))
    }
    let service = Service::start(Router::new().route("/v1/agents/{id}/exec", post(exec)));
    let output = service.run_with(&["exec", "a", "-i", "--", "cat", "-n"], b"typed");
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(said(&output), (r#"["cat","-n"] "typed""#.into(), "oops".into()));
}

#[test]
fn somebody_elses_certificate_is_refused_on_both_sides() {
    let service = Service::start(Router::new().route("/v1/node", get(|| async { "unreachable" })));
    let (cert, key, ca) =
        (service.path("other/me.crt"), service.path("other/me.key"), service.path("other/ca.crt"));
    let mut command = service.command(&["node"]);
    let output = command.arg("--cert").arg(cert).arg("--key").arg(key).output().expect("stockade starts");
    let (_, err) = said(&output);
    // The alert may be lost together with the connection.
    assert!(matches!(output.status.code(), Some(4 | 7)), "{err}");
    let mut command = service.command(&["node"]);
    let output = command.arg("--ca").arg(ca).output().expect("stockade starts");
    assert_eq!(output.status.code(), Some(8), "{}", said(&output).1);
}

#[test]
fn nobody_there_is_unavailable_and_says_where() {
    let service = Service::start(Router::new());
    let output = service.run(&["ls", "--server", "https://127.0.0.1:1"]);
    let (_, err) = said(&output);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(err, "stockade: cannot reach 127.0.0.1:1: Connection refused (os error 111)\n");
}

#[test]
fn events_are_printed_as_they_come_and_none_is_asked_for_twice() {
    async fn events(headers: axum::http::HeaderMap) -> Response {
        let last = headers
            .get("last-event-id")
            .map_or(0, |id| id.to_str().expect("text").parse().expect("a number"));
        let event =
            json!({ "cursor": last + 1, "at": "T", "tenant": "dev", "agent": "a", "type": "agentRemoved" });
        let text = format!(": hello\n\nid: {}\nevent: agentRemoved\ndata: {event}\n\n", last + 1);
        ([("content-type", "text/event-stream")], text).into_response()
    }
    let service = Service::start(Router::new().route("/v1/events", get(events)));
    let (out, _) = said(&service.run(&["events", "--since", "41"]));
    assert_eq!(out, "42 T a removed\n");
    // The service ends each stream; a follower comes again, after what it has seen.
    let mut child =
        service.command(&["--json", "events", "-f", "--since", "6"]).spawn().expect("stockade starts");
    let mut out = child.stdout.take().expect("piped");
    for cursor in 7..=8 {
        let line = line(&mut out);
        let event: Value = serde_json::from_str(&line).expect("a document on each line");
        assert_eq!(event["cursor"], cursor);
    }
    end(child);
}

#[test]
fn a_client_without_a_certificate_gets_through_the_proxy_both_ways() {
    async fn echo(body: axum::body::Bytes) -> Vec<u8> {
        body.iter().rev().copied().collect()
    }
    let service = Service::start(Router::new().route("/echo", post(echo)));
    let mut child = service.command(&["proxy", "--listen", "127.0.0.1:0"]).spawn().expect("stockade starts");
    let told = line(child.stdout.as_mut().expect("piped"));
    let address = told.strip_prefix("listening http://").expect("an address").to_owned();
    let ask = |host: &str| {
        let mut stream = TcpStream::connect(&address).expect("the proxy listens");
        let head = format!("POST /echo HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        stream.write_all(format!("{head}Content-Length: 5\r\n\r\nhello").as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer to its end");
        answer
    };
    for _ in 0..3 {
        let answer = ask("localhost");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("olleh"), "{answer:?}");
    }
    // A page whose name was made to lead here (DNS rebinding).
    assert!(ask("evil.test").starts_with("HTTP/1.1 421"));
    end(child);
    let refused = service.run(&["proxy", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused).1);
}

#[test]
fn a_proxy_without_a_service_closes_at_once() {
    let service = Service::start(Router::new());
    let words = ["proxy", "--listen", "127.0.0.1:0", "--server", "https://127.0.0.1:1"];
    let mut child = service.command(&words).stderr(Stdio::null()).spawn().expect("stockade starts");
    let told = line(child.stdout.as_mut().expect("piped"));
    let mut stream =
        TcpStream::connect(told.strip_prefix("listening http://").expect("an address")).expect("taken");
    // Closed, or reset: either way it is over.
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    end(child);
}

#[test]
fn the_manual_and_the_completions_name_every_command() {
    let service = Service::start(Router::new());
    let (manual, _) = said(&service.run(&["man"]));
    let (completions, _) = said(&service.run(&["completions", "bash"]));
    for command in ["run", "spawn", "attach", "logs", "proxy", "dev", "policy"] {
        assert!(manual.contains(&format!(".SH \"STOCKADE {}", command.to_uppercase())), "{command}");
        assert!(completions.contains(&format!("stockade__subcmd__{command}")), "{command}");
    }
}

/// The next line, without its end.
fn line(from: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte).expect("readable") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

/// Ends it. Not as Ctrl-C would: who runs the tests in the background of a script has them inherit that SIGINT is ignored.
fn end(mut child: Child) {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    child.wait().expect("it ended");
}
