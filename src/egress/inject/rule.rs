//! An inject rule, and the requests that it lets through.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Uri, Version};

use super::path;
use crate::egress::rules::Refusal;
use crate::policy::{Hostname, PathPrefix};
use crate::wire::egress::{Inject, Reason};

/// Why an inject rule cannot be worked by.
#[derive(Debug, thiserror::Error)]
#[error("inject {name}: {what}")]
pub struct InvalidInject {
    name: String,
    what: String,
}

/// Headers that belong to one connection (RFC 9110, 7.6.1), and those with which a proxy is talked to.
const OF_THE_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that are about the request's end, or ask for less of the answer: in a piece of a secret nobody sees it.
const INSTRUCTIONS: [&str; 6] = ["expect", "forwarded", "if-range", "range", "x-host", "x-real-ip"];

/// Beginnings of those by which frameworks and proxies are told another method, path, host or client.
const INSTRUCTIONS_BEGIN: [&str; 6] =
    ["x-envoy-original-", "x-forwarded-", "x-http-method", "x-method-", "x-original-", "x-rewrite-"];

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// The name inside.
    pub name: Hostname,
    /// The host outside.
    pub host: Hostname,
    /// Its port.
    pub port: u16,
    /// What the secret goes into.
    pub header: HeaderName,
    methods: Vec<Method>,
    paths: Vec<PathPrefix>,
}

impl Rule {
    /// Reads one.
    pub fn parse(inject: &Inject) -> Result<Self, InvalidInject> {
        let invalid = |what: String| InvalidInject { name: inject.name.clone(), what };
        let name = inject.name.parse().map_err(|error| invalid(format!("{error}")))?;
        let upstream: Uri = inject.upstream.parse().map_err(|error| invalid(format!("upstream: {error}")))?;
        let https = upstream.scheme_str() == Some("https") && upstream.query().is_none();
        let authority = upstream.authority().filter(|of| https && !of.as_str().contains('@'));
        let (Some(authority), "/") = (authority, upstream.path()) else {
            return Err(invalid(format!("upstream {:?} is not https://HOST[:PORT]", inject.upstream)));
        };
        let host = authority.host().parse().map_err(|error| invalid(format!("upstream: {error}")))?;
        let port = authority.port_u16().unwrap_or(443);
        let header = inject.header.parse().map_err(|error| invalid(format!("header: {error}")))?;
        if OF_THE_CONNECTION.contains(&header) || is_framing(&header) {
            return Err(invalid(format!("header {header} cannot carry a secret")));
        }
        let methods = inject.methods.iter().map(|method| method.parse());
        let methods =
            methods.collect::<Result<_, _>>().map_err(|error| invalid(format!("methods: {error}")))?;
        let paths = inject.paths.iter().map(|prefix| prefix.parse());
        let paths = paths.collect::<Result<_, _>>().map_err(invalid)?;
        Ok(Self { name, host, port, header, methods, paths })
    }

    /// The rule for people.
    pub fn shown(&self) -> String {
        format!("[[network.inject]] name = \"{}\"", self.name)
    }

    /// Decides about a request by its head; `has_two_lengths`: of which hyper shows only one.
    pub fn check<B>(&self, request: &Request<B>, has_two_lengths: bool) -> Result<(), Refusal> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let refuse = |what: String| {
            let shown: String = format!("{method} {uri}").escape_debug().take(120).collect();
            Refusal::final_one(Reason::Request, format!("{shown} to {}: {what}", self.name))
        };
        if request.version() > Version::HTTP_11 || *method == Method::CONNECT {
            return Err(refuse("only plain HTTP/1.1 requests are passed on".into()));
        }
        if *method == Method::TRACE || method.as_str() == "TRACK" {
            return Err(refuse(format!("{method} sends the request back, with its secret")));
        }
        if headers.contains_key(header::UPGRADE) {
            return Err(refuse("a connection cannot be turned into another kind".into()));
        }
        if has_two_lengths {
            return Err(refuse("its body has two lengths, Content-Length and Transfer-Encoding".into()));
        }
        if !is_only_chunked(headers) {
            return Err(refuse("its body is sent in another form than in chunks".into()));
        }
        self.check_authority(uri, headers).map_err(&refuse)?;
        path::check(uri.path()).map_err(|error| refuse(format!("the path is refused: {error}")))?;
        self.check_scope(method, uri.path()).map_err(|(what, remedy)| Refusal {
            remedy: Some(format!("{}, {remedy}", self.shown())),
            ..refuse(what)
        })
    }

    /// Whether method and path are among the rule's; if not, what is wrong and what would have to be in the rule.
    fn check_scope(&self, method: &Method, path: &str) -> Result<(), (String, String)> {
        if !self.methods.is_empty() && !self.methods.contains(method) {
            let mut methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
            methods.push(method.as_str());
            return Err((format!("{method} is not among its methods"), format!("methods = {methods:?}")));
        }
        if !self.paths.is_empty() && !self.paths.iter().any(|prefix| prefix.covers(path)) {
            let mut paths: Vec<&str> = self.paths.iter().map(PathPrefix::as_str).collect();
            paths.push(path);
            return Err(("the path is not among its paths".into(), format!("paths = {paths:?}")));
        }
        Ok(())
    }

    /// The request must be meant for this name, in the request line (if it says) and in the one Host header.
    fn check_authority(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
        let is_ours = |given: &Authority| {
            given.host().eq_ignore_ascii_case(self.name.as_str())
                && matches!(given.port_u16(), None | Some(80))
        };
        let line = uri.authority();
        if line.is_some_and(|given| !is_ours(given) || uri.scheme_str() != Some("http")) {
            return Err("it is meant for another host".into());
        }
        let hosts: Vec<&HeaderValue> = headers.get_all(header::HOST).iter().collect();
        let [host] = hosts.as_slice() else { return Err("it needs exactly one Host header".into()) };
        let host =
            Authority::try_from(host.as_bytes()).map_err(|_| "its Host header is no host".to_owned())?;
        if is_ours(&host) { Ok(()) } else { Err("its Host header names another host".into()) }
    }

    /// Removes what tells some servers to take the request for another one, in each spelling in which they read it: CGI and
    /// what comes after it make no difference between `-` and `_`.
    fn take_instructions(&self, headers: &mut HeaderMap) {
        let is_instruction = |name: &HeaderName| {
            let dashed = name.as_str().replace('_', "-");
            let is_disguised = || {
                let meant = HeaderName::try_from(&dashed).unwrap_or(header::HOST);
                dashed != name.as_str()
                    && (meant == self.header || is_framing(&meant) || OF_THE_CONNECTION.contains(&meant))
            };
            INSTRUCTIONS.contains(&dashed.as_str())
                || INSTRUCTIONS_BEGIN.iter().any(|beginning| dashed.starts_with(beginning))
                || is_disguised()
        };
        let taken: Vec<HeaderName> = headers.keys().filter(|name| is_instruction(name)).cloned().collect();
        for name in taken {
            headers.remove(name);
        }
    }

    /// Makes a request's head into the one that goes to the upstream.
    pub fn rewrite(&self, head: &mut http::request::Parts, secret: HeaderValue) -> Result<(), http::Error> {
        take_connection_headers(&mut head.headers);
        self.take_instructions(&mut head.headers);
        // What is compressed cannot be searched for the secret.
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let host = match self.port {
            443 => self.host.to_string(),
            port => format!("{}:{port}", self.host),
        };
        head.headers.insert(header::HOST, HeaderValue::try_from(host)?);
        head.headers.insert(self.header.clone(), secret);
        head.version = Version::HTTP_11;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        head.uri = Uri::try_from(target)?;
        Ok(())
    }
}

fn is_framing(name: &HeaderName) -> bool {
    *name == header::HOST || *name == header::CONTENT_LENGTH
}

/// Whether the body of a message comes plainly or in chunks: in any other form it cannot be searched.
pub fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    encodings.all(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// Removes what belongs to one connection only, and what `Connection` says does.
pub fn take_connection_headers(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').filter_map(|name| name.trim().parse().ok()))
        .collect();
    for name in OF_THE_CONNECTION.iter().chain(&listed) {
        headers.remove(name);
    }
}
