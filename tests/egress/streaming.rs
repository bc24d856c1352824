//! Injected names under the traffic that they are for: long answers, long questions, connections that are kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use stockade::wire::egress::Protocol;

use crate::injecting::{Upstream, get, request, response};
use crate::world::is_cut_off;

#[test]
fn an_answer_that_streams_arrives_as_it_is_sent() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::new(move |stream| {
        request(stream)?;
        let sends = |stream: &mut dyn Write, text: &str| {
            stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
        };
        sends(stream.get_mut(), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nfirst\n\r\n")
            .ok()?;
        wait.lock().expect("nobody panicked").recv().ok()?;
        sends(stream.get_mut(), "7\r\nsecond\n\r\n0\r\n\r\n").ok()
    });
    let mut stream = BufReader::new(upstream.world.connect("raven.internal", 80));
    stream.get_mut().write_all(get("/v1/stream", "").as_bytes()).expect("sent");
    let mut line = String::new();

    while !line.ends_with("first\n") {
        assert_ne!(stream.read_line(&mut line).expect("read"), 0, "{line}");
    }
    go_on.send(()).expect("the upstream waits until the first part has arrived");
    stream.read_to_string(&mut line).expect("read");

    assert!(line.contains("second"), "{line}");
}

#[test]
fn an_upstream_that_closes_after_each_answer_is_connected_to_again() {
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let upstream = Upstream::new(move |stream| {
        request(stream)?;
        *counted.lock().expect("nobody panicked") += 1;
        stream.get_mut().write_all(response("200 OK", "", "ok").as_bytes()).ok()?;
        None // and the connection ends, without having said that it would
    });
    let mut stream = upstream.world.connect("raven.internal", 80);
    for _ in 0..20 {
        stream.write_all(b"GET /v1/x HTTP/1.1\r\nHost: raven.internal\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("answered");
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(*count.lock().expect("nobody panicked"), 20, "no request is sent twice");
}

/// Head and body of one, on a connection that goes on.
fn one_answer(stream: &mut TcpStream) -> String {
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("answered");
        answer.push(byte[0]);
    }
    let mut head = String::from_utf8(answer).expect("ASCII");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    stream.read_exact(&mut body).expect("all of it");
    head.push_str(&String::from_utf8_lossy(&body));
    head
}

#[test]
fn what_an_upstream_ends_instead_of_answering_is_asked_once_more_if_it_changes_nothing() {
    // Each connection answers one request, and ends at the next.
    let answered = AtomicBool::new(false);
    let upstream = Upstream::new(move |stream| {
        request(stream)?;
        if answered.fetch_xor(true, Ordering::Relaxed) {
            return None;
        }
        stream.get_mut().write_all(response("200 OK", "", "ok").as_bytes()).ok()
    });
    let mut stream = upstream.world.connect("raven.internal", 80);
    for (method, status) in [("GET", "200"), ("GET", "200"), ("POST", "502"), ("GET", "200")] {
        let asked = format!("{method} /v1/x HTTP/1.1\r\nHost: raven.internal\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(asked.as_bytes()).expect("sent");
        let answer = one_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method}: {answer}");
    }
}

#[test]
fn a_long_question_goes_through_whole() {
    let mut upstream = Upstream::new(|stream| {
        let seen = request(stream)?;
        let body = seen.split_once("\r\n\r\n")?.1;
        let sum: u64 = body.bytes().map(u64::from).sum();
        stream.get_mut().write_all(response("200 OK", "", &format!("{} {sum}", body.len())).as_bytes()).ok()
    });
    let body: String = (0..2_000_000_u32).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let sum: u64 = body.bytes().map(u64::from).sum();
    let mut stream = upstream.world.connect("raven.internal", 80);
    let head = format!(
        "POST /v1/x HTTP/1.1\r\nHost: raven.internal\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.ends_with(&format!("{} {sum}", body.len())), "{answer}");
    let record = upstream.world.record(|record| record.protocol == Protocol::Http);
    assert_eq!(record.sent, body.len() as u64);
}

#[test]
fn a_compressed_answer_is_withheld() {
    let upstream = Upstream::new(|stream| {
        let asked = request(stream)?;
        assert!(asked.contains("accept-encoding: identity\r\n"), "{asked}");
        stream.get_mut().write_all(response("200 OK", "content-encoding: gzip\r\n", "?").as_bytes()).ok()
    });
    let mut stream = upstream.world.connect("raven.internal", 80);
    stream.write_all(get("/v1/x", "Accept-Encoding: gzip\r\n").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[test]
fn a_request_that_drips_frees_its_place() {
    let upstream = Upstream::with(|config| config.patience.hello = 300, |stream| request(stream).map(drop));
    let mut stream = upstream.world.connect("raven.internal", 80);
    stream.write_all(b"GET /v1/x HTTP/1.1\r\nHost: rav").expect("the beginning of a request");
    assert!(is_cut_off(&mut stream));
}
