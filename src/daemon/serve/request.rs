//! One request: its id, its due, its answer, and a problem for whatever fails on the way.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, ORIGIN};
use http::{HeaderValue, Request, StatusCode};
use tower::Service;

use super::Peer;
use super::body::STALLED;
use super::rate::Rates;
use crate::daemon::authz::Endpoint;
use crate::daemon::operations::Metrics;
use crate::daemon::problem::{self, Fault};

const ID: HeaderName = HeaderName::from_static("x-request-id");

/// A browser names the page whose script asks for something that is not merely read, or a WebSocket. It would present its
/// user's certificate, or that of a `stockade proxy`, for whichever page that is; and no page is this service's.
const CROSS_SITE: &str =
    "a page in a browser asks for this (Origin), and no page has rights here: use a client of your own";

/// A longer one is not echoed.
const LONGEST_ID: usize = 128;

/// Of a rejection's text, so much is told.
const LONGEST_DETAIL: usize = 4096;

/// Names one request: the client's own name for it, or one that was made here. An extension of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    fn of<B>(request: &Request<B>) -> Self {
        let given = request.headers().get(ID).and_then(|value| value.to_str().ok());
        let is_sane = |id: &&str| {
            (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        Self(given.filter(is_sane).map_or_else(|| uuid::Uuid::now_v7().to_string().into(), Into::into))
    }
}

/// What every request is answered with.
pub struct Desk {
    /// The handlers, behind their guards.
    pub router: Router,
    /// How many requests an identity may make.
    pub rates: Rates,
    /// The most bytes of a body.
    pub most_body: u64,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Desk {
    /// For the listener without TLS: nobody is known there, so that nobody is counted.
    pub fn of_probes(router: Router, metrics: Arc<Metrics>) -> Self {
        Self { router, rates: Rates::new(1, 1), most_body: 0, metrics }
    }

    /// Answers. Never fails: what does is a problem.
    pub async fn answer(&self, mut request: Request<Body>) -> Response {
        let (id, start) = (RequestId::of(&request), Instant::now());
        let method = request.method().clone();
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        request.extensions_mut().insert(id.clone());
        let answer = async {
            let response = match self.refusal(&request, peer.as_deref()) {
                Some(fault) => fault.into_response(),
                None => self.route(request).await,
            };
            as_problem(response).await
        };
        let mut response = problem::within(Arc::clone(&id.0), answer).await;
        let value = HeaderValue::from_str(&id.0).expect("an id is visible ASCII");
        response.headers_mut().insert(ID, value);
        let endpoint = response.extensions().get::<Endpoint>().copied();
        self.metrics.answered(endpoint, &method, response.status(), start.elapsed());
        log(&id, peer.as_deref(), endpoint, &response, start);
        response
    }

    fn refusal(&self, request: &Request<Body>, peer: Option<&Peer>) -> Option<Fault> {
        let peer = peer?;
        if let Err(wait) = self.rates.take(&peer.identity, Instant::now()) {
            let detail = format_args!("{} makes too many requests: come again in a moment", peer.identity);
            return Some(Fault::too_many("rate", detail, wait));
        }
        if request.headers().contains_key(ORIGIN) {
            return Some(Fault::forbidden("cross-site", CROSS_SITE));
        }
        let length =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        length.filter(|length| *length > self.most_body).map(|_| self.too_large())
    }

    fn too_large(&self) -> Fault {
        let detail = format_args!("the request's body is longer than {} bytes", self.most_body);
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    async fn route(&self, request: Request<Body>) -> Response {
        // A router is cheap to clone, and always ready.
        let answer = self.router.clone().call(request);
        match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => {
                tracing::error!(panic = panic_text(&*panic), "a handler panicked");
                Fault::internal(
                    "this request failed by a mistake in the service: its log has the request's id",
                )
                .into_response()
            }
        }
    }
}

/// Rejections of the framework (malformed JSON, no such route …) are problems like all others.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.extensions().get::<Fault>().is_some() {
        return response;
    }
    // Also one that a handler made by itself.
    if response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/")) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, LONGEST_DETAIL).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // The framework takes it for a malformed one.
    let status = if text.contains(STALLED) { StatusCode::REQUEST_TIMEOUT } else { status };
    let detail = match (text.trim(), status) {
        ("", StatusCode::NOT_FOUND) => "there is nothing of this path: GET /openapi.json lists what there is",
        ("", StatusCode::METHOD_NOT_ALLOWED) => "this path does not have this method",
        ("", _) => status.canonical_reason().unwrap_or("failed"),
        (text, _) => text,
    };
    let fault = Fault::new(status, code(status), detail);
    let fault = match field(detail) {
        Some(field) => fault.of(field),
        None => fault,
    };
    let mut problem = fault.into_response();
    for name in [CONTENT_TYPE, CONTENT_LENGTH] {
        parts.headers.remove(name);
    }
    // `Allow` of a 405, for one.
    problem.headers_mut().extend(parts.headers);
    problem.extensions_mut().extend(parts.extensions);
    problem
}

fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "malformed",
        StatusCode::NOT_FOUND => "no-such-path",
        StatusCode::METHOD_NOT_ALLOWED => "no-such-method",
        StatusCode::REQUEST_TIMEOUT => "timeout",
        StatusCode::PAYLOAD_TOO_LARGE => "too-large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "media-type",
        StatusCode::UNPROCESSABLE_ENTITY => "unprocessable",
        StatusCode::UPGRADE_REQUIRED => "upgrade-required",
        _ if status.is_server_error() => "internal",
        _ => "refused",
    }
}

/// The field that serde complains of: ``unknown field `x` ``, ``missing field `x` ``.
fn field(detail: &str) -> Option<String> {
    let (_, rest) = detail.split_once(" field `")?;
    rest.split_once('`').map(|(name, _)| name.chars().take(128).collect())
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "no text",
    }
}

fn log(id: &RequestId, peer: Option<&Peer>, endpoint: Option<Endpoint>, response: &Response, start: Instant) {
    let (request, status) = (&*id.0, response.status().as_u16());
    let identity = peer.map_or("", |peer| &peer.identity);
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    // Not the path: it may hold what a client should not have put there.
    if let Some(fault) = response.extensions().get::<Fault>().filter(|fault| fault.status().is_server_error())
    {
        tracing::error!(
            request,
            identity,
            ?endpoint,
            status,
            millis,
            code = fault.code(),
            detail = fault.detail(),
            "answered"
        );
    } else {
        tracing::debug!(request, identity, ?endpoint, status, millis, "answered");
    }
}
