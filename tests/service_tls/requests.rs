//! What a request is answered, before any handler or in its stead.

use bytes::Bytes;
use http_body_util::Full;

use crate::world::{World, problem, request, text, until};

#[tokio::test]
async fn a_certificate_without_a_grant_is_refused_everywhere_but_for_liveness() {
    let world = World::start().await;
    let stranger = world.client("stranger");
    for path in ["/v1/agents", "/v1/agents/a", "/v1/events"] {
        let answer = stranger.get(path).await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), problem(&answer)["code"].as_str()),
            (403, Some("no-grant")),
            "{path}"
        );
    }
    assert_eq!(stranger.get("/livez").await.expect("an answer").status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn a_role_reaches_its_endpoints_and_no_others() {
    let world = World::start().await;
    let spawn = || request("POST", "/v1/agents", r#"{"id":"a","type":"shell"}"#);
    let drain = || request("POST", "/v1/node/drain", "");
    let list = || request("GET", "/v1/agents", "");
    for (role, list_status, spawn_status, drain_status) in [
        ("auditor", 403, 403, 403),
        ("viewer", 200, 403, 403),
        ("operator", 200, 200, 403),
        ("admin", 200, 200, 200),
    ] {
        let client = world.client(role);
        for (request, expected) in [(list(), list_status), (spawn(), spawn_status), (drain(), drain_status)] {
            let what = format!("{role} {} {}", request.method(), request.uri());
            let answer = client.send(request).await.expect("an answer");
            assert_eq!(answer.status(), expected, "{what}: {}", text(&answer));
            if expected == 403 {
                assert_eq!(problem(&answer)["code"], "role", "{what}");
            }
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn whatever_fails_is_a_problem_with_the_id_of_its_request() {
    let world = World::start().await;
    let client = world.client("operator");
    let spawn = |body: &str| request("POST", "/v1/agents", body);
    let mut untyped = spawn("{}");
    untyped.headers_mut().remove("content-type");
    let broken = [
        (request("GET", "/nothing/here", ""), 404, "no-such-path"),
        (request("PATCH", "/v1/agents", ""), 405, "no-such-method"),
        (request("BREW", "/v1/agents", ""), 405, "no-such-method"),
        (spawn("{\"id\":"), 400, "malformed"),
        (spawn(r#"{"id":"a","type":"shell","nonsense":1}"#), 422, "unprocessable"),
        (untyped, 415, "media-type"),
        (request("GET", "/v1/node", ""), 500, "internal"),
        (request("GET", "/v1/agents/a/terminal", ""), 400, "malformed"),
    ];
    for (request, status, code) in broken {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = client.send(request).await.expect("an answer");
        assert_eq!(answer.status(), status, "{what}: {}", text(&answer));
        let problem = problem(&answer);
        assert_eq!(problem["code"], code, "{what}");
        match status {
            405 => assert!(answer.headers()["allow"].to_str().expect("text").contains("GET"), "{what}"),
            422 => assert_eq!(problem["field"], "nonsense", "{what}"),
            500 => assert!(!text(&answer).contains("a mistake in a handler"), "{what}"),
            _ => {}
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn an_id_of_a_request_is_echoed_if_it_is_sane_and_made_if_not() {
    let world = World::start().await;
    let client = world.client("viewer");
    let echoed = async |given: Option<&[u8]>| {
        let mut request = request("GET", "/livez", "");
        if let Some(given) = given {
            let value = http::HeaderValue::from_bytes(given).expect("a header");
            request.headers_mut().insert("x-request-id", value);
        }
        let answer = client.send(request).await.expect("an answer");
        answer.headers()["x-request-id"].to_str().expect("text").to_owned()
    };
    assert_eq!(echoed(Some(b"run-17/a_b")).await, "run-17/a_b");
    let long = "x".repeat(129);
    for hostile in
        [None, Some(&b""[..]), Some(b"a b"), Some(b"a\tb"), Some("\u{e9}".as_bytes()), Some(long.as_bytes())]
    {
        let made = echoed(hostile).await;
        assert_eq!(made.len(), 36, "{hostile:?} became {made}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() {
    let world = World::with("body = '64K'").await;
    let client = world.client("operator");
    let long = format!(r#"{{"id":"a","type":"{}"}}"#, "x".repeat(70 << 10));
    let answer = client.send(request("POST", "/v1/agents", &long)).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), problem(&answer)["code"].as_str()), (413, Some("too-large")));

    // Without a length, in chunks.
    let head = "POST /v1/agents HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = format!("{head}{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    let answer = client.raw(chunked.as_bytes()).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("application/problem+json"), "{answer}");

    let fits = format!(r#"{{"id":"a","type":"{}"}}"#, "x".repeat(60 << 10));
    assert_eq!(client.send(request("POST", "/v1/agents", &fits)).await.expect("an answer").status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again_and_others_do_not_notice() {
    let world = World::with("requests-per-second = 1\nburst = 3").await;
    let (often, other) = (world.client("operator"), world.client("viewer"));
    let mut refused = None;
    for _ in 0..10 {
        let answer = often.get("/v1/agents").await.expect("an answer");
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("ten requests at one a second");
    assert_eq!(problem(&refused)["code"], "rate");
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(other.get("/v1/agents").await.expect("an answer").status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn headers_without_end_are_refused_in_both_versions() {
    let world = World::start().await;
    let client = world.client("viewer");
    let endless = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(256 << 10));
    match client.raw(endless.as_bytes()).await {
        Ok(answer) => assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}"),
        // It ended the connection while there was more to send.
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{error}"),
    }
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let answer = client.raw(format!("GET /livez HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 431 ")), "{answer:?}");

    let client = world.client("viewer").speaking("h2");
    let mut long =
        http::Request::get("https://localhost/livez").body(Full::new(Bytes::new())).expect("a request");
    long.headers_mut().insert("x-long", "x".repeat(128 << 10).parse().expect("a header"));
    let answer = client.send(long).await;
    assert!(answer.as_ref().map_or(true, |answer| answer.status() == 431), "{answer:?}");
    assert_eq!(client.get("/livez").await.expect("an answer").status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn whoever_keeps_account_hears_of_each_decision_before_and_of_its_answer_after() {
    let world = World::start().await;
    let client = world.client("viewer");
    for (id, mut request) in
        [("first", request("GET", "/v1/agents", "")), ("second", request("POST", "/v1/agents", "{}"))]
    {
        request.headers_mut().insert("x-request-id", id.parse().expect("a header"));
        client.send(request).await.expect("an answer");
    }
    client.get("/livez").await.expect("an answer");
    let _ = world.client_by(None).get("/livez").await;
    until("the refusal is noted", async || world.account.notes().len() >= 5).await;
    let expected = [
        "List spiffe://test/viewer true",
        "first 200",
        "Spawn spiffe://test/viewer false",
        "second 403",
        "no-certificate",
    ];
    assert_eq!(world.account.notes(), expected);
    world.grants("");
    until("the change is noted", async || world.account.notes().contains(&"reloaded true".into())).await;
    world.stop().await;
}

#[tokio::test]
async fn a_page_in_a_browser_has_no_rights_whoever_s_certificate_the_browser_shows() {
    let world = World::start().await;
    let client = world.client("operator");
    let upgrade = "connection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (line, more) in [
        ("POST /v1/agents", "content-length: 2\r\nconnection: close\r\n"),
        ("GET /v1/agents/a/terminal", upgrade),
    ] {
        let asked = format!("{line} HTTP/1.1\r\nhost: a\r\norigin: https://page.example\r\n{more}\r\n{{}}");
        let answer = client.raw(asked.as_bytes()).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("cross-site"), "{line}: {answer}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_limits_say() {
    let world = World::start().await;
    let long = format!(r#"{{"id":"a","type":"{}"}}"#, "x".repeat(7 << 20));
    let answer =
        world.client("operator").send(request("POST", "/v1/agents", &long)).await.expect("an answer");
    assert_eq!(answer.status(), 200, "{}", text(&answer));
    world.stop().await;
}
