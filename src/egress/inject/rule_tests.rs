//! Which requests an inject rule lets through, and what becomes of them.

use http::{HeaderValue, Request};

use super::rule::Rule;
use crate::wire::egress::Inject;

fn inject() -> Inject {
    Inject {
        name: "raven.internal".into(),
        upstream: "https://api.example.org".into(),
        header: "x-api-key".into(),
        methods: vec!["GET".into(), "POST".into()],
        paths: vec!["/v1/".into()],
    }
}

fn rule() -> Rule {
    Rule::parse(&inject()).expect("a rule")
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

const HOST: (&str, &str) = ("host", "raven.internal");

#[test]
fn a_request_within_the_rule_passes() {
    for uri in ["/v1/messages", "/v1/messages?beta=true&x=../..", "http://raven.internal/v1/messages"] {
        assert_eq!(rule().check(&request("POST", uri, &[HOST]), false), Ok(()), "{uri}");
    }
    assert_eq!(rule().check(&request("GET", "/v1/x", &[("host", "RAVEN.internal:80")]), false), Ok(()));
}

#[test]
fn a_request_beyond_the_rule_is_refused_with_the_reason() {
    for (method, uri, headers, why) in [
        ("DELETE", "/v1/x", vec![HOST], "not among its methods"),
        ("GET", "/admin", vec![HOST], "not among its paths"),
        ("GET", "/v1/%2e%2e/admin", vec![HOST], "the path is refused"),
        ("GET", "/v1/../admin", vec![HOST], "the path is refused"),
        ("GET", "//v1/x", vec![HOST], "the path is refused"),
        ("GET", "http://evil.test/v1/x", vec![HOST], "another host"),
        ("GET", "https://raven.internal/v1/x", vec![HOST], "another host"),
        ("GET", "http://raven.internal:81/v1/x", vec![HOST], "another host"),
        ("GET", "/v1/x", vec![("host", "evil.test")], "names another host"),
        ("GET", "/v1/x", vec![HOST, ("host", "evil.test")], "exactly one Host"),
        ("GET", "/v1/x", vec![], "exactly one Host"),
        ("GET", "/v1/x", vec![HOST, ("upgrade", "websocket")], "another kind"),
        ("POST", "/v1/x", vec![HOST, ("transfer-encoding", "gzip, chunked")], "another form"),
        ("CONNECT", "raven.internal:80", vec![HOST], "only plain HTTP/1.1"),
    ] {
        let refusal = rule().check(&request(method, uri, &headers), false).expect_err(uri);
        assert!(refusal.detail.contains(why), "{}", refusal.detail);
    }
    let refusal = rule().check(&request("GET", "/v1/x", &[HOST]), true).expect_err("refused");
    assert!(refusal.detail.contains("two lengths"), "{refusal:?}");
    let refusal = rule().check(&request("DELETE", "/v1/x", &[HOST]), false).expect_err("refused");
    assert!(refusal.remedy.expect("a remedy").contains(r#"methods = ["GET", "POST", "DELETE"]"#));
}

#[test]
fn the_upstream_gets_its_own_host_the_secret_and_nothing_of_the_connection() {
    let headers =
        [HOST, ("x-api-key", "dummy"), ("connection", "x-hop, close"), ("x-hop", "1"), ("accept", "*/*")];
    let (mut head, ()) = request("GET", "http://raven.internal/v1/x?q=1", &headers).into_parts();
    rule().rewrite(&mut head, HeaderValue::from_static("s3cret")).expect("rewritten");
    assert_eq!(head.uri, "/v1/x?q=1");
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("host"), Some("api.example.org"));
    assert_eq!(header("x-api-key"), Some("s3cret"));
    assert_eq!(header("accept-encoding"), Some("identity"));
    assert_eq!(header("accept"), Some("*/*"));
    assert_eq!((header("x-hop"), header("connection")), (None, None));
}

#[test]
fn a_rule_for_every_method_has_none_that_shows_the_request() {
    let every = Inject { methods: vec![], ..inject() };
    let every = Rule::parse(&every).expect("a rule");
    assert_eq!(every.check(&request("PATCH", "/v1/x", &[HOST]), false), Ok(()));
    for method in ["TRACE", "TRACK"] {
        let refusal = every.check(&request(method, "/v1/x", &[HOST]), false).expect_err(method);
        assert!(refusal.detail.contains("sends the request back"), "{}", refusal.detail);
    }
}

#[test]
fn what_would_make_another_request_of_it_is_taken_away() {
    let taken = [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
        "X-Forwarded-For",
        "Forwarded",
        // CGI and WSGI read these as the same with dashes.
        "X_HTTP_Method_Override",
        "X_Api_Key",
        "Transfer_Encoding",
        // A piece of a secret is not seen for it.
        "Range",
        "If-Range",
    ];
    let mut headers = vec![HOST, ("x-request-id", "1")];
    headers.extend(taken.map(|name| (name, "admin")));
    let (mut head, ()) = request("POST", "/v1/x", &headers).into_parts();
    rule().rewrite(&mut head, HeaderValue::from_static("s3cret")).expect("rewritten");
    let mut left: Vec<&str> = head.headers.keys().map(|name| name.as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, ["accept-encoding", "host", "x-api-key", "x-request-id"]);
}

#[test]
fn a_rule_that_could_leak_is_refused() {
    let with = |upstream: &str, header: &str| {
        let (upstream, header) = (upstream.into(), header.into());
        Rule::parse(&Inject { name: "a.internal".into(), upstream, header, methods: vec![], paths: vec![] })
    };
    assert!(with("https://a.org:8443/", "authorization").is_ok());
    for upstream in [
        "http://a.org",
        "https://a.org/v1",
        "https://u@a.org",
        "https://10.0.0.1",
        "a.org",
        "https://a.org?x",
    ] {
        assert!(with(upstream, "x-api-key").is_err(), "{upstream}");
    }
    for header in ["host", "connection", "transfer-encoding", "content-length", "a b", ""] {
        assert!(with("https://a.org", header).is_err(), "{header}");
    }
}
