//! What the agent can ask the gateway itself: the list of what was refused lately, and why.
//!
//! `GET http://stockade.internal/denials`, and the same on the sandbox's loopback. Nothing can be changed here.

use std::convert::Infallible;
use std::rc::Rc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::gateway::Gateway;
use super::inject::{LONGEST_HEAD, Reply, own_words};

const ADVICE: &str = "This sandbox reaches only what its policy lists. Each refusal says why, and, as remedy, which line of the \
policy would have allowed it. The policy cannot be changed from inside: ask the user.";

/// Serves one connection to the listener on the loopback.
pub async fn serve_local(gateway: Rc<Gateway>, stream: TcpStream, permit: OwnedSemaphorePermit) {
    serve(&gateway, stream).await;
    drop(permit);
}

/// Serves one connection.
pub async fn serve(gateway: &Rc<Gateway>, stream: TcpStream) {
    let answering = Rc::clone(gateway);
    let service = service_fn(move |request| {
        let response = answer(&answering, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(gateway.hello_patience())
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

fn answer(gateway: &Gateway, request: &Request<Incoming>) -> Response<Reply> {
    if *request.method() != Method::GET && *request.method() != Method::HEAD {
        let mut response = own_words(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "only GET" }));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/" | "/denials" => {
            let denials = gateway.ledger.recent();
            own_words(StatusCode::OK, &json!({ "about": ADVICE, "denials": denials }))
        }
        _ => own_words(StatusCode::NOT_FOUND, &json!({ "error": "there is only /denials" })),
    }
}
