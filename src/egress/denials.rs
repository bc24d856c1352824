//! What the agent can ask the gateway itself: the list of what was refused lately, and why.
//!
//! `GET http://stockade.internal/denials`. Nothing can be changed here.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::carry;
use super::gateway::Gateway;
use super::inject::{LONGEST_HEAD, Reply, own_words};

const ADVICE: &str = "This sandbox reaches only what its policy lists. Each refusal says why, and, as remedy, which line of the \
policy would have allowed it. The policy cannot be changed from inside: ask the user.";

/// Answers that are in memory at one time.
pub const MOST_READERS: usize = 16;

/// Answers one request, all of it within the time that a request may take: an answer has a quarter of a megabyte, and is no
/// place to keep the gateway's memory, or the kernel's, for as long as one likes.
pub async fn serve(gateway: &Rc<Gateway>, stream: TcpStream) {
    let answering = Rc::clone(gateway);
    let service =
        service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&answering, &request))));
    let patience = gateway.hello_patience();
    let deadline = Instant::now() + patience;
    let reader = timeout_at(deadline, gateway.readers.acquire()).await;
    let Ok(Ok(_reader)) = reader else { return carry::reset(stream) };
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .keep_alive(false)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let answered = poll_fn(|context| connection.poll_without_shutdown(context));
    let answered = timeout_at(deadline, answered).await;
    let mut stream = connection.into_parts().io.into_inner();
    // Closed with its answer unread, the kernel would keep it, and count it as nobody's.
    if answered.is_err() || timeout_at(deadline, farewell(&mut stream)).await.is_err() {
        carry::reset(stream);
    }
}

/// Ends it, and waits until the other side has read that and does the same.
async fn farewell(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    while matches!(stream.read(&mut [0; 512]).await, Ok(1..)) {}
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
