//! Names that the gateway serves itself: plain HTTP inside, TLS outside, and a header that the sandbox never sees.
//!
//! ```text
//!  agent ── GET http://raven.internal/v1/… ──▶ rule ──▶ + header ──▶ TLS ──▶ upstream
//!        ◀── masked, redirects left to it ──────────────────────────────┘
//! ```

mod body;
pub mod heads;
pub mod mask;
pub mod path;
pub mod rule;
#[cfg(test)]
mod rule_tests;
mod spelling;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
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
use heads::{Heads, Smuggling};
use mask::Mask;
use rule::Rule;
use tls::Tls;
pub use tls::{DEFAULT_BUNDLE, TlsError};

/// Longest head of a request; also what is buffered of a body that nobody takes.
pub const LONGEST_HEAD: usize = 64 * 1024;

/// Most replaced secrets that are still hidden; each of them is searched for.
const MOST_EARLIER: usize = 2;

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
    secrets: RefCell<HashMap<String, HeaderValue>>,
    /// Those that were replaced last: an upstream may have stored them.
    earlier: RefCell<VecDeque<HeaderValue>>,
    masks: RefCell<Masks>,
    tls: Option<Tls>,
}

/// Every secret of the sandbox: an upstream may store what one rule sends, and show it by another.
#[derive(Clone)]
struct Masks {
    /// For bodies and the values of headers.
    plain: Mask,
    /// For the names of headers, which are in lower case.
    folded: Mask,
}

impl Masks {
    fn of<'a>(secrets: impl Iterator<Item = &'a str> + Clone) -> Self {
        Self { plain: Mask::of(secrets.clone()), folded: Mask::folded(secrets) }
    }
}

impl Default for Masks {
    fn default() -> Self {
        Self::of(std::iter::empty())
    }
}

impl Injector {
    /// Reads the rules, and the certificates if there is a rule.
    pub fn new(config: &Config) -> Result<Self, InjectError> {
        if config.inject.is_empty() {
            return Ok(Self::default());
        }
        let rules = config.inject.iter().map(|inject| Rule::parse(inject).map(Rc::new));
        let tls = Tls::read(config.ca_bundle.as_deref())?;
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, tls: Some(tls), ..Self::default() })
    }

    /// The ports of the upstreams.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.rules.iter().map(|rule| rule.port)
    }

    /// Takes a secret, for the next request on. What cannot be a header's value, or cannot be hidden, leaves the rule
    /// without one.
    pub fn learn(&self, name: &str, secret: &Secret) {
        let text = secret.0.trim_end_matches(['\r', '\n']);
        let value = HeaderValue::from_str(text).ok().filter(|_| secret.can_be_hidden());
        let mut secrets = self.secrets.borrow_mut();
        let replaced = match value {
            Some(mut value) => {
                value.set_sensitive(true);
                secrets.insert(name.to_owned(), value)
            }
            None => secrets.remove(name),
        };
        let mut earlier = self.earlier.borrow_mut();
        earlier.extend(replaced);
        while earlier.len() > MOST_EARLIER {
            earlier.pop_front();
        }
        let all = secrets.values().chain(earlier.iter());
        *self.masks.borrow_mut() = Masks::of(all.filter_map(|value| value.to_str().ok()));
    }
}

/// Serves one connection of the agent's to an injected name.
pub async fn serve(gateway: &Rc<Gateway>, stream: TcpStream, rule: usize) {
    let Some(rule) = gateway.injector.rules.get(rule).cloned() else { return };
    let (stream, smuggling) = Heads::watch(stream);
    let exchange = Rc::new(Exchange {
        gateway: Rc::clone(gateway),
        rule,
        smuggling,
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
    smuggling: Smuggling,
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
        let is_last = request.headers().contains_key(header::TRANSFER_ENCODING) || self.smuggling.was_seen();
        let mut response = self.outcome(request, &account).await;
        if is_last {
            // Where a body in chunks ends is hyper's to know: no head behind one can be watched.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn outcome(&self, request: Request<Incoming>, account: &Rc<Account>) -> Response<Reply> {
        match self.pass_on(request, account).await {
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
        let is_smuggling = self.smuggling.was_seen();
        self.rule.check(&request, is_smuggling).map_err(NoAnswer::Refused)?;
        let injector = &self.gateway.injector;
        let secret = injector.secrets.borrow().get(self.rule.name.as_str()).cloned();
        let masks = injector.masks.borrow().clone();
        let Some(secret) = secret else {
            return Err(NoAnswer::Trouble(format!("the secret for {} is not there", self.rule.name)));
        };
        let (mut head, body) = request.into_parts();
        let rewritten = self.rule.rewrite(&mut head, secret);
        rewritten.map_err(|error| NoAnswer::Trouble(error.to_string()))?;
        let request = Request::from_parts(head, Counted::new(body, Rc::clone(account)));
        let response = timeout(self.gateway.idle_patience(), self.send(request, account)).await;
        let response = response.map_err(|_| NoAnswer::Trouble("the upstream does not answer".into()))??;
        pass_back(response, masks, account)
    }

    /// Sends over the connection that is there. If that was closed meanwhile, before a byte of the request had gone, over
    /// a new one; and if it was closed while the request went, where that may be sent twice (RFC 9110, 9.2.2).
    async fn send(
        &self,
        request: Request<Counted>,
        account: &Account,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let broken = |error: hyper::Error| NoAnswer::Trouble(format!("the upstream broke off: {error}"));
        let kept = self.upstream.borrow_mut().take().filter(|sender| !sender.is_closed());
        let mut again = kept.as_ref().and_then(|_| repeated(&request));
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
                    request = error.take_message().or_else(|| again.take());
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
}

/// The same once more, if it asks for something and changes nothing (RFC 9110, 9.2.1).
fn repeated(request: &Request<Counted>) -> Option<Request<Counted>> {
    let mut again = Request::new(request.body().again().filter(|_| request.method().is_safe())?);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

fn pass_back(
    response: Response<Incoming>,
    masks: Masks,
    account: &Rc<Account>,
) -> Result<Response<Reply>, NoAnswer> {
    let (mut head, body) = response.into_parts();
    if let Some(what) = unsearchable(&head) {
        return Err(NoAnswer::Trouble(format!(
            "the upstream {what}, and what cannot be searched is withheld"
        )));
    }
    rule::take_connection_headers(&mut head.headers);
    // The reason phrase is among them.
    head.extensions.clear();
    head.headers = masked(head.headers, &masks);
    let body = Masked::new(body, masks.plain, Rc::clone(account));
    Ok(Response::from_parts(head, Box::pin(body)))
}

/// Why a secret in this answer would not be found.
fn unsearchable(head: &http::response::Parts) -> Option<&'static str> {
    let is_encoded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    let is_in_ranges = |value: &HeaderValue| {
        let kind = b"multipart/byteranges";
        value.as_bytes().get(..kind.len()).is_some_and(|given| given.eq_ignore_ascii_case(kind))
    };
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Some("speaks another protocol");
    }
    if head.headers.get_all(header::CONTENT_ENCODING).iter().any(is_encoded)
        || !rule::is_only_chunked(&head.headers)
    {
        return Some("answers compressed although told not to");
    }
    let in_pieces = head.status == StatusCode::PARTIAL_CONTENT
        || head.headers.contains_key(header::CONTENT_RANGE)
        || head.headers.get_all(header::CONTENT_TYPE).iter().any(is_in_ranges);
    in_pieces.then_some("answers in pieces that nobody asked for")
}

/// Without the secrets in values, and without headers that have one in their names.
fn masked(headers: HeaderMap, masks: &Masks) -> HeaderMap {
    let mut shown = HeaderMap::with_capacity(headers.keys_len());
    let mut last = None;
    // A name comes with the first of its values only.
    for (name, value) in headers {
        last = name.or(last);
        let Some(name) = last.as_ref().filter(|name| masks.folded.whole(name.as_str().as_bytes()).is_none())
        else {
            continue;
        };
        let value = match masks.plain.whole(value.as_bytes()) {
            Some(masked) => HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("*")),
            None => value,
        };
        shown.append(name, value);
    }
    shown
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_cannot_be_hidden_is_not_used() {
        let injector = Injector::default();
        let learn = |text: &str| {
            injector.learn("raven.internal", &Secret(text.into()));
            injector.secrets.borrow().contains_key("raven.internal")
        };
        assert!(learn("abcdefgh"));
        assert!(!learn("abcdefg"), "and the old one is not used either");
        let masks = injector.masks.borrow().clone();
        assert!(masks.plain.whole(b"abcdefgh").is_some(), "what was used is still hidden");
        assert!(!learn("Bearer abcdefg") && !learn("abcdefgh\n x"));
    }

    #[test]
    fn a_header_with_a_secret_in_its_name_is_left_out_whatever_its_case() {
        let masks = Masks::of(["sk-Live-01234"].into_iter());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-sk-live-01234", "1"),
            ("x-sk%2dlive%2d01234", "1"),
            // Base64, as much of it as is left without its case.
            ("c2stTGl2ZS0wMTIzNA", "1"),
            ("x-one", "a sk-Live-01234"),
            ("x-one", "b"),
        ] {
            headers
                .append(header::HeaderName::try_from(name).expect("a name"), HeaderValue::from_static(value));
        }
        let shown: Vec<_> =
            masked(headers, &masks).iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        assert_eq!(shown, [r#"x-one: "a *************""#, r#"x-one: "b""#]);
    }
}
