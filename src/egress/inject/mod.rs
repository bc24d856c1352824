//! Names that the gateway serves itself: plain HTTP inside, TLS outside, and a header that the sandbox never sees.
//!
//! ```text
//!  agent ── GET http://raven.internal/v1/… ──▶ rule ──▶ + header ──▶ TLS ──▶ upstream
//!        ◀── masked, redirects left to it ──────────────────────────────┘
//! ```

mod body;
pub mod mask;
pub mod path;
pub mod rule;
#[cfg(test)]
mod rule_tests;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::account::Account;
use super::gateway::Gateway;
use super::rules::Refusal;
use super::upstream::{NoUpstream, Target};
use crate::wire::egress::{Config, Protocol, Secret};
pub use body::Reply;
use body::{Counted, Masked};
use mask::Mask;
use rule::Rule;
use tls::Tls;
pub use tls::{DEFAULT_BUNDLE, TlsError};

/// Longest head of a request; also what is buffered of a body that nobody takes.
pub const LONGEST_HEAD: usize = 64 * 1024;

/// Why inject rules cannot be worked by.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// A rule.
    #[error(transparent)]
    Rule(#[from] rule::InvalidInject),
    /// The certificates that upstreams are checked against.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The inject rules of one sandbox, and their secrets.
#[derive(Default)]
pub struct Injector {
    rules: Vec<Rc<Rule>>,
    secrets: RefCell<HashMap<String, Rc<Injected>>>,
    tls: Option<Tls>,
}

/// A secret, ready for use.
struct Injected {
    value: HeaderValue,
    mask: Mask,
}

impl Injector {
    /// Reads the rules, and the certificates if there is a rule.
    pub fn new(config: &Config) -> Result<Self, InjectError> {
        if config.inject.is_empty() {
            return Ok(Self::default());
        }
        let rules = config.inject.iter().map(|inject| Rule::parse(inject).map(Rc::new));
        let tls = Tls::read(config.ca_bundle.as_deref())?;
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, secrets: RefCell::default(), tls: Some(tls) })
    }

    /// The ports of the upstreams.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.rules.iter().map(|rule| rule.port)
    }

    /// Takes a secret, for the next request on. What cannot be a header's value leaves the rule without one.
    pub fn learn(&self, name: &str, secret: &Secret) {
        let text = secret.0.trim_end_matches(['\r', '\n']);
        let injected = HeaderValue::from_str(text).ok().map(|mut value| {
            value.set_sensitive(true);
            Rc::new(Injected { value, mask: Mask::of(text) })
        });
        let mut secrets = self.secrets.borrow_mut();
        match injected {
            Some(injected) => drop(secrets.insert(name.to_owned(), injected)),
            None => drop(secrets.remove(name)),
        }
    }
}

/// Serves one connection of the agent's to an injected name.
pub async fn serve(gateway: &Rc<Gateway>, stream: TcpStream, rule: usize) {
    let Some(rule) = gateway.injector.rules.get(rule).cloned() else { return };
    let exchange = Rc::new(Exchange {
        gateway: Rc::clone(gateway),
        rule,
        upstream: RefCell::default(),
        address: Cell::default(),
    });
    let service = service_fn(move |request| {
        let exchange = Rc::clone(&exchange);
        async move { Ok::<_, std::convert::Infallible>(exchange.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(gateway.hello_patience())
        .max_buf_size(LONGEST_HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off is no fault of anybody's.
    let _ = connection.await;
}

/// One connection of the agent's, and the one to the upstream that its requests share.
struct Exchange {
    gateway: Rc<Gateway>,
    rule: Rc<Rule>,
    upstream: RefCell<Option<SendRequest<Counted>>>,
    /// Where that leads.
    address: Cell<Option<IpAddr>>,
}

/// Why a request has no answer of the upstream's.
enum NoAnswer {
    Refused(Refusal),
    Trouble(String),
}

impl From<NoUpstream> for NoAnswer {
    fn from(none: NoUpstream) -> Self {
        match none {
            NoUpstream::Refused(refusal) => Self::Refused(refusal),
            NoUpstream::Trouble(what) => Self::Trouble(what),
        }
    }
}

impl Exchange {
    async fn answer(&self, request: Request<Incoming>) -> Response<Reply> {
        let name = Some(self.rule.name.to_string());
        let account = Rc::new(Account::open(&self.gateway.ledger, Protocol::Http, name, 80));
        account.allow(self.rule.shown());
        match self.pass_on(request, &account).await {
            Ok(response) => response,
            Err(NoAnswer::Refused(refusal)) => {
                let body = serde_json::json!({ "error": &refusal.detail, "remedy": &refusal.remedy });
                account.refuse(refusal);
                own_words(StatusCode::FORBIDDEN, &body)
            }
            Err(NoAnswer::Trouble(what)) => {
                let body = serde_json::json!({ "error": &what });
                account.trouble(what);
                own_words(StatusCode::BAD_GATEWAY, &body)
            }
        }
    }

    async fn pass_on(
        &self,
        request: Request<Incoming>,
        account: &Rc<Account>,
    ) -> Result<Response<Reply>, NoAnswer> {
        self.rule.check(&request).map_err(NoAnswer::Refused)?;
        let secret = self.gateway.injector.secrets.borrow().get(self.rule.name.as_str()).cloned();
        let Some(secret) = secret else {
            return Err(NoAnswer::Trouble(format!("the secret for {} is not there", self.rule.name)));
        };
        let (mut head, body) = request.into_parts();
        let rewritten = self.rule.rewrite(&mut head, secret.value.clone());
        rewritten.map_err(|error| NoAnswer::Trouble(error.to_string()))?;
        let request = Request::from_parts(head, Counted::new(body, Rc::clone(account)));
        let response = timeout(self.gateway.idle_patience(), self.send(request, account)).await;
        let response = response.map_err(|_| NoAnswer::Trouble("the upstream does not answer".into()))??;
        self.pass_back(response, &secret.mask, account)
    }

    /// Sends over the connection that is there. If that was closed meanwhile, before a byte of the request had gone, over
    /// a new one.
    async fn send(
        &self,
        request: Request<Counted>,
        account: &Account,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let broken = |error: hyper::Error| NoAnswer::Trouble(format!("the upstream broke off: {error}"));
        let kept = self.upstream.borrow_mut().take().filter(|sender| !sender.is_closed());
        let mut request = Some(request);
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        for _ in 0..2 {
            let Some(next) = request.take() else { break };
            if sender.ready().await.is_err() {
                sender = self.connect().await?;
            }
            match sender.try_send_request(next).await {
                Ok(response) => {
                    self.address.get().iter().for_each(|address| account.to(*address));
                    *self.upstream.borrow_mut() = Some(sender);
                    return Ok(response);
                }
                Err(mut error) => {
                    request = error.take_message();
                    if request.is_none() {
                        return Err(broken(error.into_error()));
                    }
                    sender = self.connect().await?;
                }
            }
        }
        Err(NoAnswer::Trouble("the upstream closes every connection".into()))
    }

    async fn connect(&self) -> Result<SendRequest<Counted>, NoAnswer> {
        let rule = &self.rule;
        let Some(tls) = &self.gateway.injector.tls else {
            return Err(NoAnswer::Trouble("no certificates were read".into()));
        };
        let target = Target::Name(rule.host.clone());
        let stream = self.gateway.upstream.connect(&target, rule.port).await?;
        self.address.set(stream.peer_addr().ok().map(|address| address.ip()));
        let patience = self.gateway.hello_patience();
        let stream = tls.connect(&rule.host, stream, patience).await.map_err(NoAnswer::Trouble)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| NoAnswer::Trouble(error.to_string()))?;
        self.gateway.spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn pass_back(
        &self,
        response: Response<Incoming>,
        mask: &Mask,
        account: &Rc<Account>,
    ) -> Result<Response<Reply>, NoAnswer> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(NoAnswer::Trouble("the upstream speaks another protocol".into()));
        }
        let encoded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        if head.headers.get_all(header::CONTENT_ENCODING).iter().any(encoded) {
            return Err(NoAnswer::Trouble("the upstream answers compressed although told not to".into()));
        }
        rule::take_connection_headers(&mut head.headers);
        for value in head.headers.values_mut() {
            if let Some(masked) = mask.whole(value.as_bytes()) {
                *value = HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("*"));
            }
        }
        let body = Masked::new(body, mask.clone(), Rc::clone(account));
        Ok(Response::from_parts(head, Box::pin(body)))
    }
}

/// An answer of the gateway's own.
pub fn own_words(status: StatusCode, body: &serde_json::Value) -> Response<Reply> {
    let bytes = Bytes::from(format!("{body:#}\n"));
    let body: Reply = Box::pin(Full::new(bytes).map_err(|never| match never {}));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
