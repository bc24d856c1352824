//! A secret that is used and never seen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use rustls::{ServerConnection, StreamOwned};
use stockade::wire::egress::{Config, Inject, Protocol, Reason, Secret, ToEgress, Verdict};

use crate::inside::http;
use crate::tls::Tls;
use crate::world::World;

const SECRET: &str = "sk-live-0123456789";

type Conversation = BufReader<StreamOwned<ServerConnection, TcpStream>>;

/// A sandbox with `raven.internal`, and a server that it leads to.
pub struct Upstream {
    /// The sandbox.
    pub world: World,
    _bundle: tempfile::NamedTempFile,
}

impl Upstream {
    /// `answer` reads one request and answers it; `None` ends the connection.
    pub fn new(answer: impl Fn(&mut Conversation) -> Option<()> + Send + Sync + 'static) -> Self {
        Self::with(|_| {}, answer)
    }

    /// The same, with a configuration of its own.
    pub fn with(
        configure: impl FnOnce(&mut Config),
        answer: impl Fn(&mut Conversation) -> Option<()> + Send + Sync + 'static,
    ) -> Self {
        let tls = Tls::new(&["api.example.org"]);
        let mut world = World::new(&[]);
        world.resolve("api.example.org", "127.0.0.1");
        world.config.inject.push(Inject {
            name: "raven.internal".into(),
            upstream: "https://api.example.org:8443".into(),
            header: "x-api-key".into(),
            methods: vec!["GET".into(), "POST".into()],
            paths: vec!["/v1/".into()],
        });
        let bundle = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(bundle.path(), &tls.pem).expect("written");
        std::fs::set_permissions(bundle.path(), std::fs::Permissions::from_mode(0o644)).expect("readable");
        world.config.ca_bundle = Some(bundle.path().into());
        configure(&mut world.config);
        let accept = tls.server();
        world.serve("127.0.0.1:8443", move |stream| {
            let mut stream = BufReader::new(accept(stream));
            while answer(&mut stream).is_some() {}
        });
        world.start();
        world.tell(&ToEgress::Secret { name: "raven.internal".into(), value: Secret(SECRET.into()) });
        Self { world, _bundle: bundle }
    }
}

/// An upstream that answers every request by `answer` and remembers it.
fn world(answer: fn(&str) -> String) -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let upstream = Upstream::new(move |stream| {
        let request = request(stream)?;
        let response = answer(&request);
        noted.lock().expect("nobody panicked").push(request);
        stream.get_mut().write_all(response.as_bytes()).ok()
    });
    (upstream, seen)
}

/// Reads a request with a body of known length.
pub fn request(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

pub fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

pub fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: raven.internal\r\nConnection: close\r\n{more}\r\n")
}

#[test]
fn a_request_goes_out_with_the_secret_and_comes_back_without_it() {
    // An upstream that echoes everything, in its body and in a header.
    let (Upstream { mut world, _bundle }, seen) =
        world(|request| response("200 OK", &format!("x-echo: key {SECRET}\r\n"), request));

    let post = "POST /v1/messages HTTP/1.1\r\nHost: raven.internal\r\nx-api-key: dummy\r\nConnection: close\r\n\
                Content-Length: 4\r\n\r\nhey!";
    let answer = http(world.connect("raven.internal", 80), post);

    let sent = seen.lock().expect("nobody panicked").remove(0);
    assert!(sent.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains(&format!("x-api-key: {SECRET}\r\n")), "{sent}");
    assert!(!sent.contains("dummy"), "{sent}");
    assert!(sent.contains("host: api.example.org:8443\r\n"), "{sent}");
    assert!(sent.ends_with("hey!"));
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(!answer.contains(SECRET), "{answer}");
    assert!(answer.contains(&format!("x-echo: key {}", "*".repeat(SECRET.len()))), "{answer}");
    assert!(answer.ends_with("hey!"), "{answer}");
    let record = world.record(|record| record.protocol == Protocol::Http);
    assert_eq!(record.name.as_deref(), Some("raven.internal"));
    assert_eq!(record.sent, 4);
    assert_eq!(
        record.verdict,
        Verdict::Allowed { rule: "[[network.inject]] name = \"raven.internal\"".into(), trouble: None }
    );
}

#[test]
fn an_echo_is_masked_across_chunks() {
    let (Upstream { mut world, _bundle }, _seen) = world(|_| {
        let chunks = SECRET
            .as_bytes()
            .chunks(5)
            .map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c)));
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunks.collect::<String>()
        )
    });
    let answer = http(world.connect("raven.internal", 80), &get("/v1/x", ""));
    assert!(!answer.contains("sk-li") && !answer.contains("56789"), "{answer}");
    assert!(answer.contains('*'), "{answer}");
    let record = world.record(|record| record.protocol == Protocol::Http);
    assert_eq!(record.received, SECRET.len() as u64);
}

#[test]
fn a_request_beyond_the_rule_never_reaches_the_upstream() {
    let (Upstream { mut world, _bundle }, seen) = world(|_| response("200 OK", "", "reached"));
    assert!(
        http(world.connect("raven.internal", 80), &get("/v1/ok", "")).ends_with("reached"),
        "the way is open"
    );
    seen.lock().expect("nobody panicked").clear();
    world.record(|record| record.protocol == Protocol::Http);

    for target in [
        "/admin",
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "/v1/%252e%252e/admin",
        "/v1/..;/admin",
        "//v1/x",
        "/v1\\..\\admin",
        "http://evil.test/v1/x",
        "https://raven.internal/v1/x",
    ] {
        let answer = http(world.connect("raven.internal", 80), &get(target, ""));
        assert!(
            answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 400"),
            "{target}: {answer}"
        );
    }
    for (request, why) in [
        ("DELETE /v1/x HTTP/1.1\r\nHost: raven.internal\r\nConnection: close\r\n\r\n", "a method"),
        ("GET /v1/x HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n", "another host"),
        (
            "GET /v1/x HTTP/1.1\r\nHost: raven.internal\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\r\n",
            "an upgrade",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
    ] {
        let answer = http(world.connect("raven.internal", 80), request);
        assert!(!answer.contains("reached"), "{why}: {answer}");
    }
    assert_eq!(*seen.lock().expect("nobody panicked"), Vec::<String>::new());
    let record = world.record(|record| matches!(record.verdict, Verdict::Refused { .. }));
    assert!(matches!(record.verdict, Verdict::Refused { reason: Reason::Request, .. }), "{record:?}");
}

#[test]
fn a_request_with_two_lengths_is_one_request_and_the_last_of_its_connection() {
    let (Upstream { world, _bundle }, seen) = world(|_| response("200 OK", "", "reached"));
    let smuggled = "GET /v1/second HTTP/1.1\r\nHost: raven.internal\r\n\r\n";
    for lengths in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
    {
        let head = format!("POST /v1/first HTTP/1.1\r\nHost: raven.internal\r\n{lengths}\r\n\r\n");
        http(world.connect("raven.internal", 80), &format!("{head}0\r\n\r\n{smuggled}"));
    }
    let seen = seen.lock().expect("nobody panicked");
    assert!(seen.iter().all(|request| !request.contains("second")), "{seen:?}");
    for request in seen.iter() {
        let framed = request.to_lowercase();
        assert!(!(framed.contains("content-length") && framed.contains("transfer-encoding")), "{request}");
    }
}

#[test]
fn a_redirect_is_left_to_the_agent() {
    let (Upstream { world, _bundle }, seen) =
        world(|_| response("302 Found", "location: https://evil.test/\r\n", ""));
    let answer = http(world.connect("raven.internal", 80), &get("/v1/x", ""));
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    assert!(answer.contains("location: https://evil.test/"), "{answer}");
    assert_eq!(seen.lock().expect("nobody panicked").len(), 1);
}

#[test]
fn a_new_secret_holds_from_the_next_request_on_over_one_connection() {
    let (Upstream { world, _bundle }, seen) = world(|_| response("200 OK", "", "ok"));
    let mut stream = world.connect("raven.internal", 80);
    let mut exchange = |count: usize| {
        stream.write_all(b"GET /v1/x HTTP/1.1\r\nHost: raven.internal\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("answered");
            answer.push(byte[0]);
        }
        seen.lock().expect("nobody panicked")[count - 1].clone()
    };
    assert!(exchange(1).contains(SECRET));
    world.tell(&ToEgress::Secret { name: "raven.internal".into(), value: Secret("sk-live-rotated".into()) });
    // Nothing says when the gateway has read it, but it soon has.
    let rotated = (2..1000).map(&mut exchange).find(|sent| sent.contains("sk-live-rotated"));
    assert!(!rotated.expect("the new secret").contains(SECRET));
}

#[test]
fn an_upstream_that_cannot_prove_its_name_gets_nothing() {
    let (Upstream { mut world, _bundle }, seen) = world(|_| response("200 OK", "", "reached"));
    // The same gateway, but the name now leads to a server with somebody else's certificate.
    world.kill();
    let other = Tls::new(&["api.example.org"]);
    world.serve("127.0.0.2:8443", other.echo());
    world.resolve("api.example.org", "127.0.0.2");
    world.start();
    world.tell(&ToEgress::Secret { name: "raven.internal".into(), value: Secret(SECRET.into()) });
    let answer = http(world.connect("raven.internal", 80), &get("/v1/x", ""));
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(*seen.lock().expect("nobody panicked"), Vec::<String>::new());
    let record = world.record(|record| record.protocol == Protocol::Http);
    let Verdict::Allowed { trouble: Some(trouble), .. } = record.verdict else { panic!("{record:?}") };
    assert!(trouble.contains("certificate"), "{trouble}");
}
