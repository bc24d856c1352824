//! A CA, a server with handlers on real endpoints, and clients with certificates of every kind.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use stockade::client::pki::Ca;
use stockade::daemon::authz::{Caller, Decision, Endpoint, Record, Routes};
use stockade::daemon::operations::Metrics;
use stockade::daemon::serve::{ConnectionWatch, Server};
use stockade::daemon::tls::Live;
use stockade::wire::service::Places;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the handlers here work with.
#[derive(Clone)]
pub struct Heard {
    /// Why streams were told to end.
    closing: mpsc::UnboundedSender<&'static str>,
}

/// Takes note of everything.
#[derive(Clone, Default)]
pub struct Account(Arc<Mutex<Vec<String>>>);

impl Account {
    fn note(&self, text: String) {
        self.0.lock().expect("a lock").push(text);
    }

    pub fn notes(&self) -> Vec<String> {
        self.0.lock().expect("a lock").clone()
    }
}

impl Record for Account {
    fn decided(&self, decision: &Decision<'_>) {
        self.note(format!("{:?} {} {}", decision.endpoint, decision.identity, decision.allowed));
    }

    fn answered(&self, decision: &Decision<'_>, status: http::StatusCode) {
        self.note(format!("{} {}", decision.request, status.as_u16()));
    }

    fn connection_refused(&self, _: SocketAddr, reason: &'static str, named: Option<(&str, &str)>) {
        self.note(named.map_or_else(|| reason.into(), |(name, serial)| format!("{reason} {name} {serial}")));
    }

    fn reloaded(&self, outcome: Result<&[&'static str], &str>) {
        self.note(format!("reloaded {}", outcome.is_ok()));
    }
}

pub struct World {
    pub account: Account,
    pub dir: tempfile::TempDir,
    pub ca: Ca,
    pub address: SocketAddr,
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub closing: mpsc::UnboundedReceiver<&'static str>,
    /// The first CA, by which clients know the daemon whatever the tests do to its files.
    roots: RootCertStore,
    stop: Option<oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<()>,
    follow: tokio::task::JoinHandle<()>,
}

/// Identities `spiffe://test/ROLE`, in the tenant `research`.
const GRANTS: &str = r#"
[[grant]]
identity = "spiffe://test/admin"
role = "admin"
tenant = "ops"
[[grant]]
identity = "spiffe://test/operator"
role = "operator"
tenant = "research"
[[grant]]
identity = "spiffe://test/viewer"
role = "viewer"
tenant = "research"
[[grant]]
identity = "spiffe://test/auditor"
role = "auditor"
tenant = "research"
[[grant]]
identity = "build.example.org"
role = "viewer"
tenant = "build"
"#;

impl World {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With this `[limits]`.
    pub async fn with(limits: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::under(dir.path());
        let pki = places.config().join("pki");
        let ca = Ca::init(&pki, &["localhost".into(), "127.0.0.1".into()]).expect("a CA");
        for role in ["admin", "operator", "viewer", "auditor", "stranger"] {
            ca.issue_client(role, &format!("spiffe://test/{role}"), 2).expect("a client");
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.join("ca.crt")).expect("a CA")).expect("a CA");
        write_config(&places, limits, GRANTS);
        let account = Account::default();
        let live = Live::recording(places, None, Box::new(account.clone()))
            .unwrap_or_else(|error| panic!("{}", error.explain()));
        let metrics = Arc::new(Metrics::default());
        let (closing, heard) = mpsc::unbounded_channel();
        let router = routes().finish(Arc::clone(live.authz()), Heard { closing });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (stop, stopped) = oneshot::channel();
        let server = Server::new(Arc::clone(&live), router, Arc::clone(&metrics));
        let server = tokio::spawn(server.run(listener, async move {
            let _ = stopped.await;
        }));
        let follow = tokio::spawn({
            let live = Arc::clone(&live);
            async move { live.follow().await }
        });
        Self {
            account,
            dir,
            ca,
            address,
            live,
            metrics,
            closing: heard,
            roots,
            stop: Some(stop),
            server,
            follow,
        }
    }

    pub fn pki(&self, name: &str) -> PathBuf {
        self.dir.path().join("etc/stockade/pki").join(name)
    }

    /// Writes the configuration anew.
    pub fn grants(&self, grants: &str) {
        write_config(&Places::under(self.dir.path()), "", grants);
    }

    pub fn with_all_grants(&self) -> String {
        GRANTS.to_owned()
    }

    pub fn without_grant(&self, role: &str) -> String {
        let parts =
            GRANTS.split("[[grant]]").filter(|grant| !grant.contains(&format!("spiffe://test/{role}\"")));
        parts.collect::<Vec<_>>().join("[[grant]]")
    }

    /// A client of the world's CA.
    pub fn client(&self, name: &str) -> Client {
        self.client_by(Some((self.pki(&format!("{name}.crt")), self.pki(&format!("{name}.key")))))
    }

    /// A client with this certificate and key, or without.
    pub fn client_by(&self, files: Option<(PathBuf, PathBuf)>) -> Client {
        client_of(self.address, self.roots.clone(), files.as_ref())
    }

    pub fn tell_to_stop(&mut self) {
        let _ = self.stop.take().expect("told once").send(());
    }

    /// Ends the server, and sees that it ends.
    pub async fn stop(mut self) {
        self.stop.take();
        tokio::time::timeout(PATIENCE, &mut self.server).await.expect("it ends").expect("without a panic");
        self.follow.abort();
    }
}

/// A client of the daemon at `address`, which it knows by the CA in a file.
pub fn client(address: SocketAddr, ca: &Path, files: Option<&(PathBuf, PathBuf)>) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a CA")).expect("a CA");
    client_of(address, roots, files)
}

fn client_of(address: SocketAddr, roots: RootCertStore, files: Option<&(PathBuf, PathBuf)>) -> Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match files {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate).expect("a file");
            let chain = chain.collect::<Result<_, _>>().expect("certificates");
            let key = PrivateKeyDer::from_pem_file(key).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    Client { address, config }
}

fn write_config(places: &Places, limits: &str, grants: &str) {
    let text = format!("[tls]\ncrl = 'pki/crl.pem'\n[limits]\ndrain-timeout = '2s'\n{limits}\n{grants}");
    fs::write(places.config().join("stockaded.toml"), text).expect("a configuration");
}

/// Every endpoint that a test calls, with a handler that tells what reached it.
fn routes() -> Routes<Heard> {
    Routes::new()
        .on(Endpoint::Livez, || async { "ok" })
        .on(Endpoint::Get, whoami)
        .on(Endpoint::List, whoami)
        .on(Endpoint::Node, broken)
        .on(Endpoint::Drain, whoami)
        .on(Endpoint::Spawn, spawn)
        .on(Endpoint::Events, stream)
        .on(Endpoint::Terminal, terminal)
}

async fn broken() -> String {
    panic!("a mistake in a handler")
}

async fn whoami(caller: Caller) -> String {
    format!("{} {} {} {}", caller.identity, caller.role.name(), caller.tenant, caller.serial)
}

async fn spawn(caller: Caller, Json(request): Json<stockade::api::Spawn>) -> String {
    format!("{} {:?}", caller.identity, request.id)
}

/// As an event stream is: it goes on until it is told.
async fn stream(State(heard): State<Heard>, watch: ConnectionWatch) -> impl IntoResponse {
    let (send, receive) = mpsc::unbounded_channel::<Result<Bytes, std::io::Error>>();
    tokio::spawn(async move {
        let _ = send.send(Ok(Bytes::from_static(b"open\n")));
        let reason = watch.closing().await.reason();
        let _ = send.send(Ok(Bytes::from(format!("{reason}\n"))));
        let _ = heard.closing.send(reason);
    });
    let stream = futures_util::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|piece| (piece, receive))
    });
    axum::body::Body::from_stream(stream)
}

/// As a terminal is, but one that does not listen to what it is told.
async fn terminal(upgrade: axum::extract::ws::WebSocketUpgrade) -> impl IntoResponse {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

pub struct Client {
    pub address: SocketAddr,
    pub config: ClientConfig,
}

pub type Answer = http::Response<Bytes>;

impl Client {
    pub fn speaking(mut self, protocol: &str) -> Self {
        self.config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        self
    }

    /// A connection, once the server has accepted its certificate: TLS 1.3 lets a client believe so earlier.
    pub async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(self.config.clone())).connect(name, socket).await
    }

    pub async fn get(&self, path: &str) -> std::io::Result<Answer> {
        self.send(request("GET", path, "")).await
    }

    /// One request on a connection of its own.
    pub async fn send(&self, request: http::Request<Full<Bytes>>) -> std::io::Result<Answer> {
        let whole = async {
            let socket = TokioIo::new(self.connect().await?);
            let failed = std::io::Error::other;
            let response = if self.config.alpn_protocols == [b"h2"] {
                let (mut send, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), socket)
                        .await
                        .map_err(failed)?;
                tokio::spawn(connection);
                send.send_request(request).await
            } else {
                let (mut send, connection) =
                    hyper::client::conn::http1::handshake(socket).await.map_err(failed)?;
                tokio::spawn(connection);
                send.send_request(request).await
            };
            let (parts, body) = response.map_err(failed)?.into_parts();
            Ok(http::Response::from_parts(parts, body.collect().await.map_err(failed)?.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, whole).await.expect("an answer, or an end")
    }

    /// Sends bytes as they are, and reads until the server ends the connection.
    pub async fn raw(&self, bytes: &[u8]) -> std::io::Result<String> {
        let mut socket = self.connect().await?;
        socket.write_all(bytes).await?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an end");
        match read {
            Ok(_) => {}
            Err(_) if !answer.is_empty() => {}
            Err(error) => return Err(error),
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

pub fn request(method: &str, path: &str, body: &str) -> http::Request<Full<Bytes>> {
    let builder = http::Request::builder().method(method).uri(format!("https://localhost{path}"));
    let builder = builder.header("host", "localhost");
    let builder = if body.is_empty() { builder } else { builder.header("content-type", "application/json") };
    builder.body(Full::new(Bytes::from(body.to_owned()))).expect("a request")
}

pub fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(answer.body()).into_owned()
}

/// A problem's fields, once it is seen to be one.
pub fn problem(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.headers()["content-type"], "application/problem+json", "{}", text(answer));
    let problem: serde_json::Value = serde_json::from_slice(answer.body()).expect("JSON");
    assert_eq!(problem["status"], answer.status().as_u16());
    assert_eq!(problem["error"], problem["detail"]);
    assert_eq!(problem["requestId"], answer.headers()["x-request-id"].to_str().expect("text"));
    problem
}

/// Polls until it is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
