//! A secret that is used and never seen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use rustls::{ServerConnection, StreamOwned};
use stockade::wire::egress::{Config, Inject, Protocol, Reason, Secret, ToEgress, Verdict};

use crate::inside::http;
use crate::tls::{Says, Tls};
use crate::world::World;

/// With what JSON and URLs may spell in other ways.
pub const SECRET: &str = "sk-live/01234+56789";

type Conversation = BufReader<StreamOwned<ServerConnection, TcpStream>>;

/// A sandbox with `raven.internal`, and a server that it leads to.
pub struct Upstream {
    /// The sandbox.
    pub world: World,
    tls: Tls,
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
        Self { world, tls, _bundle: bundle }
    }

    /// What the server answers whoever asks it without the gateway.
    pub fn ask_directly(&self, question: &str) -> String {
        let stream =
            self.world.outside.run(|| TcpStream::connect(("127.0.0.1", 8443)).expect("the server accepts"));
        let mut stream = self.tls.client(stream, Says::Name("api.example.org")).expect("a client");
        stream.write_all(question.as_bytes()).expect("sent");
        request(&mut BufReader::new(stream)).expect("an answer, which is read like a request")
    }
}

/// An upstream that answers every request by `answer` and remembers it.
pub fn world(answer: fn(&str) -> String) -> (Upstream, Arc<Mutex<Vec<String>>>) {
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
    let (Upstream { mut world, .. }, seen) =
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
fn a_request_beyond_the_rule_never_reaches_the_upstream() {
    let (mut upstream, seen) = world(|_| response("200 OK", "", "reached"));
    let targets = [
        "/admin",
        "/v1",
        "/v1beta/x",
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "/v1/%252e%252e/admin",
        "/v1/%c0%ae%c0%ae/admin",
        "/v1/..%c0%afadmin",
        "/v1/%ef%bc%8e%ef%bc%8e/admin",
        "/v1/..%ef%bc%8fadmin",
        "/v1/..;/admin",
        "//v1/x",
        "/v1\\..\\admin",
        "http://evil.test/v1/x",
        "https://raven.internal/v1/x",
    ];
    let head = |request: &str, host: &str, more: &str| {
        format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: {more}close\r\n\r\n")
    };
    let mut requests: Vec<String> = targets.map(|target| get(target, "")).into();
    requests.push(head("DELETE /v1/x", "raven.internal", ""));
    requests.push(head("GET /v1/x", "evil.test", ""));
    requests.push(
        head("GET /v1/x", "raven.internal", "upgrade, ")
            .replace("\r\n\r\n", "\r\nUpgrade: websocket\r\n\r\n"),
    );
    requests.push("PRI * HTTP/2.0\r\n\r\n".into());
    for request in &requests {
        assert!(
            upstream.ask_directly(request).ends_with("reached"),
            "without the wall it is open: {request}"
        );
    }
    let through = |request: &str| http(upstream.world.connect("raven.internal", 80), request);
    assert!(through(&get("/v1/ok", "")).ends_with("reached"), "the way is open");
    seen.lock().expect("nobody panicked").clear();

    for request in &requests {
        let answer = through(request);
        assert!(!answer.contains("reached") && !answer.starts_with("HTTP/1.1 2"), "{request}{answer}");
    }

    assert_eq!(*seen.lock().expect("nobody panicked"), Vec::<String>::new());
    let record = upstream.world.record(|record| matches!(record.verdict, Verdict::Refused { .. }));
    assert!(matches!(record.verdict, Verdict::Refused { reason: Reason::Request, .. }), "{record:?}");
}

#[test]
fn a_request_arrives_without_what_would_make_another_of_it() {
    let (upstream, seen) = world(|_| response("200 OK", "", "reached"));
    let more = "X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /admin\r\nX-Forwarded-Host: evil.test\r\n\
                Forwarded: host=evil.test\r\nX_Api_Key: dummy\r\nRange: bytes=0-4\r\nIf-Range: x\r\nX-Fine: 1\r\n";
    let request = get("/v1/x", more);
    upstream.ask_directly(&request);
    let answer = http(upstream.world.connect("raven.internal", 80), &request);
    assert!(answer.ends_with("reached"), "{answer}");
    let seen: Vec<String> = seen.lock().expect("nobody panicked").iter().map(|s| s.to_lowercase()).collect();
    for header in more.to_lowercase().lines().filter(|line| !line.starts_with("x-fine")) {
        assert!(seen[0].contains(header), "the server would see it: {header}");
        assert!(!seen[1].contains(header), "{}", seen[1]);
    }
    assert!(seen[1].contains("x-fine: 1\r\n"), "{}", seen[1]);
}

#[test]
fn each_refused_request_is_told_apart() {
    let (Upstream { world, .. }, _seen) = world(|_| response("200 OK", "", "reached"));
    for path in ["/admin", "/secret", "/admin"] {
        http(world.connect("raven.internal", 80), &get(path, ""));
    }
    let denials = "GET /denials HTTP/1.1\r\nHost: stockade.internal\r\nConnection: close\r\n\r\n";
    let answer = http(world.connect("stockade.internal", 80), denials);
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let details: Vec<_> =
        body["denials"].as_array().expect("a list").iter().map(|one| one["detail"].to_string()).collect();
    assert!(
        details.len() == 2 && details[0].contains("/secret") && details[1].contains("/admin"),
        "{details:?}"
    );
}

#[test]
fn a_request_with_two_lengths_is_refused_and_the_last_of_its_connection() {
    let (Upstream { world, .. }, seen) = world(|_| response("200 OK", "", "reached"));
    let smuggled = "GET /v1/second HTTP/1.1\r\nHost: raven.internal\r\nConnection: close\r\n\r\n";
    let ask = |lengths: &str, body: &str| {
        let head = format!("POST /v1/first HTTP/1.1\r\nHost: raven.internal\r\n{lengths}\r\n\r\n");
        let answer = http(world.connect("raven.internal", 80), &format!("{head}{body}{smuggled}"));
        (answer, std::mem::take(&mut *seen.lock().expect("nobody panicked")))
    };
    let asked = |seen: &[String], path: &str| seen.iter().filter(|request| request.contains(path)).count();
    let (_, both) = ask("Content-Length: 5", "first");
    assert_eq!((asked(&both, "/v1/first"), asked(&both, "/v1/second")), (1, 1), "the way is open: {both:?}");

    for lengths in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
    {
        let (answer, seen) = ask(lengths, "0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("two lengths"), "{answer}");
        assert_eq!(seen, [""; 0], "the upstream was asked");
    }
    let (answer, seen) = ask("Transfer-Encoding: chunked", "5\r\nfirst\r\n0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert_eq!((asked(&seen, "/v1/first"), asked(&seen, "/v1/second")), (1, 0), "{seen:?}");
}

#[test]
fn a_redirect_is_left_to_the_agent() {
    let (Upstream { world, .. }, seen) =
        world(|_| response("302 Found", "location: https://evil.test/\r\n", ""));
    let answer = http(world.connect("raven.internal", 80), &get("/v1/x", ""));
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    assert!(answer.contains("location: https://evil.test/"), "{answer}");
    assert_eq!(seen.lock().expect("nobody panicked").len(), 1);
}

#[test]
fn a_new_secret_holds_from_the_next_request_on_over_one_connection() {
    let (Upstream { world, .. }, seen) = world(|_| response("200 OK", "", "ok"));
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
    let (upstream, seen) = world(|_| response("200 OK", "", "reached"));
    let Upstream { mut world, _bundle, .. } = upstream;
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
