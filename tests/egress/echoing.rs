//! What an upstream sends back of a secret, in whatever form, does not reach the agent.

use std::io::Write;

use stockade::wire::egress::{Protocol, Verdict};

use crate::injecting::{SECRET, Upstream, get, request, response, world};
use crate::inside::http;

/// The pieces of a body as they were sent: one for each chunk.
fn pieces(answer: &str) -> Vec<&str> {
    let (head, mut rest) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let mut found = Vec::new();
    loop {
        let (length, after) = rest.split_once("\r\n").expect("a chunk");
        match usize::from_str_radix(length, 16).expect("a length") {
            0 => return found,
            length => found.push(&after[..length]),
        }
        rest = &after[found[found.len() - 1].len() + 2..];
    }
}

/// An answer in these chunks.
fn chunked(chunks: &[&str]) -> String {
    let chunks: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

/// Asks for `path` through the gateway.
fn ask(upstream: &Upstream, path: &str) -> String {
    http(upstream.world.connect("raven.internal", 80), &get(path, ""))
}

#[test]
fn an_echo_is_masked_across_chunks() {
    let (mut upstream, _seen) = world(|_| {
        let cut: Vec<&str> = SECRET.split_inclusive(['-', '/', '3', '8']).collect();
        assert!(cut.len() > 4, "{cut:?}");
        chunked(&[&["first\n"], cut.as_slice(), &["\nlast"]].concat())
    });
    let answer = ask(&upstream, "/v1/x");
    let stars = "*".repeat(SECRET.len());
    assert_eq!(pieces(&answer), ["first\n", &format!("{stars}\n"), "last"]);
    let record = upstream.world.record(|record| record.protocol == Protocol::Http);
    assert_eq!(record.received, SECRET.len() as u64 + 11);
}

#[test]
fn where_an_answer_is_cut_does_not_tell_a_right_guess_from_a_wrong_one() {
    // The upstream sends back what it is asked for, and goes on in another chunk.
    let (upstream, _seen) = world(|request| {
        let guess = request.split(['=', ' ']).nth(2).expect("a guess");
        chunked(&["{\"guess\": \"", guess, "\", \"more\": ", "\"of it\"}\n", "and more"])
    });
    let lengths = |guess: &str| -> Vec<usize> {
        pieces(&ask(&upstream, &format!("/v1/x?guess={guess}"))).iter().map(|piece| piece.len()).collect()
    };
    for length in 1..SECRET.len() {
        let right = &SECRET[..length];
        let wrong = "x".repeat(length);
        assert_eq!(lengths(right), lengths(&wrong), "{right}");
    }
}

#[test]
fn a_secret_is_masked_however_it_is_spelt() {
    let (upstream, _seen) = world(|_| {
        let headers = format!(
            "x-{}: 1\r\nx-one: {SECRET}\r\nlocation: /?k=sk-live%2F01234%2b56789\r\n",
            "sk-live%2F01234%2B56789"
        );
        let body = r#"{"json": "sk-live\/01234+56789", "unicode": "sk-live\u002f01234\u002B56789",
            "url": "sk-live%2F01234%2B56789", "html": "sk-live&#x2F;01234&#43;56789",
            "base64": "c2stbGl2ZS8wMTIzNCs1Njc4OQ==", "shifted": "eHNrLWxpdmUvMDEyMzQrNTY3ODk", "again": "eHhzay1saXZlLzAxMjM0KzU2Nzg5"}"#;
        response(&format!("200 {SECRET}"), &headers, body)
    });
    let answer = ask(&upstream, "/v1/x");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // No part of it, as far as parts can be told from anything else.
    for part in ["sk-li", "56789", "c2stb", "Njc4O", "rLWxp", "NTY3", "zay1", "U2Nzg"] {
        assert!(!answer.contains(part), "{part} in {answer}");
    }
    let masked = answer.split(|c| c != '*').filter(|stars| stars.len() >= SECRET.len() - 1).count();
    assert_eq!(masked, 9, "two headers, and seven times in the body: {answer}");
}

#[test]
fn an_answer_that_cannot_be_searched_is_withheld() {
    for (status, headers) in [
        ("206 Partial Content", "content-range: bytes 0-4/19\r\n"),
        ("200 OK", "content-type: multipart/byteranges; boundary=x\r\n"),
        ("200 OK", "content-encoding: gzip\r\n"),
        ("200 OK", "content-encoding: identity, br\r\n"),
        ("200 OK", "transfer-encoding: gzip, chunked\r\n"),
        ("200 OK", "transfer-encoding: gzip\r\n"),
    ] {
        let mut upstream = Upstream::new(move |stream| {
            request(stream)?;
            let length = if headers.starts_with("transfer") { "" } else { "content-length: 15\r\n" };
            let answer = format!("HTTP/1.1 {status}\r\n{length}{headers}\r\n5\r\nsk-li\r\n0\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).ok()
        });
        let answer = ask(&upstream, "/v1/x");
        assert!(answer.starts_with("HTTP/1.1 502") && !answer.contains("sk-li"), "{headers}{answer}");
        let record = upstream.world.record(|record| record.protocol == Protocol::Http);
        assert!(matches!(record.verdict, Verdict::Allowed { trouble: Some(_), .. }), "{record:?}");
    }
}
