//! A whole service for tests, as `stockade dev` runs it, and a client for it: mTLS, HTTP/1.1, WebSockets.
// Two test programs are compiled with it, and neither uses all of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustix::process::Pid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Longer than anything here takes, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A service that runs.
pub struct Service {
    dev: Mutex<Child>,
    dir: tempfile::TempDir,
    port: u16,
}

impl Service {
    /// The one that all tests of this program share; it ends with the last of them.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Service>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let service = Arc::new(Self::start());
            *shared = Arc::downgrade(&service);
            service
        })
    }

    /// Starts one.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut dev = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["dev", "--listen", "127.0.0.1:0", "--dir"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("stockade dev starts");
        let mut lines = BufReader::new(dev.stdout.take().expect("it was piped")).lines();
        let ready = lines.next().expect("stockade dev says that it is ready").expect("text");
        let port = ready.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        let port = port.unwrap_or_else(|| panic!("{ready:?} is no address"));
        Self { dev: Mutex::new(dev), dir, port }
    }

    /// Its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The daemon's process, which `stockade dev` keeps running.
    pub fn daemon(&self) -> Pid {
        self.find_daemon().expect("a daemon runs")
    }

    /// Waits until another one than this answers.
    pub async fn daemon_after(&self, killed: Pid) {
        let deadline = Instant::now() + PATIENCE;
        while self.find_daemon().is_none_or(|pid| pid == killed)
            || TcpStream::connect(("127.0.0.1", self.port)).await.is_err()
        {
            assert!(Instant::now() < deadline, "no other daemon came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn find_daemon(&self) -> Option<Pid> {
        let dev = self.dev.lock().unwrap_or_else(std::sync::PoisonError::into_inner).id();
        let tasks = std::fs::read_dir(format!("/proc/{dev}/task")).ok()?.flatten();
        let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<String> = children.collect();
        let mut pids = children.iter().flat_map(|list| list.split_whitespace());
        let daemon = pids.find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "stockaded")
        });
        Pid::from_raw(daemon?.parse().ok()?)
    }

    /// A client of it: `admin`, `operator`, `viewer`, `auditor`, `parallax`.
    pub fn client(self: &Arc<Self>, name: &str) -> Client {
        let pki = self.dir.path().join("pki");
        let file = |name: &str| -> PathBuf { pki.join(name) };
        let mut roots = rustls::RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(file("ca.crt")).expect("an authority");
        roots.add(authority).expect("a certificate");
        let chain = CertificateDer::pem_file_iter(file(&format!("{name}.crt"))).expect("a certificate");
        let chain: Vec<_> = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("a certificate with its key");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Client { service: self.clone(), tls: TlsConnector::from(Arc::new(config)) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let dev = self.dev.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pid = rustix::process::Pid::from_child(dev);
        // Its own way to end, so that nothing is left behind.
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is ours");
        let status = dev.wait().expect("it ends");
        if !std::thread::panicking() {
            assert!(status.success(), "stockade dev ended with {status}");
        }
    }
}

/// Somebody with a certificate.
#[derive(Clone)]
pub struct Client {
    service: Arc<Service>,
    tls: TlsConnector,
}

/// An answer, read as a whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Its JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Its text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// This very status, else the test ends with what it said.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

impl Client {
    async fn connect(&self) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(("127.0.0.1", self.service.port)).await.expect("it listens");
        tcp.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from("localhost").expect("a name");
        self.tls.connect(name, tcp).await.expect("it takes the certificate")
    }

    /// Asks, and leaves the body to be read.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.expect("HTTP");
        tokio::spawn(connection);
        tokio::time::timeout(PATIENCE, sender.send_request(request))
            .await
            .expect("in time")
            .expect("an answer")
    }

    /// Asks with these bytes.
    pub async fn raw(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .expect("a request");
        let response = self.open(request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
        let body = body.expect("in time").expect("a whole body").to_bytes();
        Answer { status, headers, body }
    }

    /// Asks with JSON.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        self.raw(method, path, body.to_string()).await
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, Bytes::new()).await
    }

    /// Asks without a body.
    pub async fn delete(&self, path: &str) -> Answer {
        self.raw("DELETE", path, Bytes::new()).await
    }

    /// Opens a WebSocket; else the status of the refusal.
    pub async fn socket(&self, path: &str) -> Result<Socket, StatusCode> {
        let stream = self.connect().await;
        let url = format!("ws://localhost{path}");
        match tokio_tungstenite::client_async(url, stream).await {
            Ok((socket, _)) => Ok(Socket { socket, seen: Vec::new() }),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status()),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Asks again until the answer's JSON is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            let json = if answer.status == 200 { answer.json() } else { Value::Null };
            if wanted(&json) {
                return json;
            }
            assert!(
                Instant::now() < deadline,
                "{path} did not come to that: {} {}",
                answer.status,
                answer.text()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// An open WebSocket.
pub struct Socket {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    /// JSON that has come, for complaints.
    seen: Vec<Value>,
}

/// How a WebSocket ended.
pub type Closed = Option<(u16, String)>;

impl Socket {
    /// The next frame that is no ping.
    pub async fn frame(&mut self) -> Message {
        // Pings keep nobody waiting for longer.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let next = tokio::time::timeout_at(deadline, self.socket.next()).await;
            let frame = next.unwrap_or_else(|_| panic!("nothing came after {:#?}", self.seen));
            let frame = frame.expect("the socket is open").expect("a frame");
            if !matches!(frame, Message::Ping(_) | Message::Pong(_)) {
                return frame;
            }
        }
    }

    /// The next text frame, as JSON.
    pub async fn json(&mut self) -> Value {
        let frame = self.frame().await;
        let Message::Text(text) = &frame else { panic!("{frame:?} instead of text, after {:#?}", self.seen) };
        let value: Value = serde_json::from_str(text).expect("JSON");
        self.seen.push(value.clone());
        value
    }

    /// The next JSON that is as wanted; what comes before it, bytes too, is passed over.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let Message::Text(text) = self.frame().await else { continue };
            let value: Value = serde_json::from_str(&text).expect("JSON");
            self.seen.push(value.clone());
            if wanted(&value) {
                return value;
            }
        }
    }

    /// Text of output until this is in it.
    pub async fn output_until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            match self.frame().await {
                Message::Text(more) => text.push_str(&more),
                Message::Binary(more) => text.push_str(&String::from_utf8_lossy(&more)),
                other => panic!("{other:?} instead of {wanted:?} after {text:?}"),
            }
        }
        text
    }

    /// Everything that comes until the other side closes, and how it closes.
    pub async fn until_the_end(&mut self) -> (Vec<Message>, Closed) {
        let mut frames = Vec::new();
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match next.unwrap_or_else(|_| panic!("it stays open after {frames:?}")) {
                Some(Ok(Message::Close(close))) => {
                    return (frames, close.map(|close| (close.code.into(), close.reason.to_string())));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(frame)) => frames.push(frame),
                Some(Err(_)) | None => return (frames, None),
            }
        }
    }

    /// What has come so far, without waiting for more than a moment.
    pub async fn rest(&mut self, quiet: Duration) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(quiet, self.socket.next()).await {
            if let Message::Text(text) = frame {
                rest.push(serde_json::from_str(&text).expect("JSON"));
            }
        }
        rest
    }

    /// Sends text.
    pub async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::Text(text.into().into())).await.expect("it takes frames");
    }

    /// Sends bytes.
    pub async fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.socket.send(Message::Binary(bytes.into())).await.expect("it takes frames");
    }
}
