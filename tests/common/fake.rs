//! A service that a test plays itself: real TLS with client certificates, real HTTP, whatever routes the test wants.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use stockade::client::pki::Ca;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The program under test.
pub const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

/// A service, for as long as the test runs.
pub struct Service {
    directory: tempfile::TempDir,
    /// Where it listens.
    pub address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Service {
    /// Serves these routes.
    pub fn start(routes: Router) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let pki = directory.path().join("pki");
        let ca = Ca::init(&pki, &["127.0.0.1".into()]).expect("an authority");
        ca.issue_client("me", "spiffe://test/me", 1).expect("a client");
        Ca::init(&directory.path().join("other"), &["127.0.0.1".into()])
            .and_then(|other| other.issue_client("me", "spiffe://test/me", 1))
            .expect("somebody else's client");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(serve(listener, acceptor(&pki), routes));
        let config = format!(
            "server = 'https://{address}'\ncert = 'pki/me.crt'\nkey = 'pki/me.key'\nca = 'pki/ca.crt'\n"
        );
        std::fs::write(directory.path().join("client.toml"), config).expect("written");
        Self { directory, address, _runtime: runtime }
    }

    /// A file of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `stockade WORDS`, as its client.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(STOCKADE);
        command.args(words).env("STOCKADE_CLIENT_CONFIG", self.path("client.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("stockade starts")
    }

    /// Runs it to its end, with this on its standard input.
    pub fn run_with(&self, words: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().expect("stockade starts");
        child.stdin.take().expect("piped").write_all(input).expect("taken");
        child.wait_with_output().expect("ended")
    }
}

fn acceptor(pki: &std::path::Path) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pki.join("ca.crt")).expect("the authority's"))
        .expect("a certificate");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .expect("a verifier");
    let chain = vec![CertificateDer::from_pem_file(pki.join("server.crt")).expect("the server's")];
    let key = PrivateKeyDer::from_pem_file(pki.join("server.key")).expect("its key");
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .expect("a pair");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, routes: Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, routes) = (acceptor.clone(), routes.clone());
        tokio::spawn(async move {
            if let Ok(tls) = acceptor.accept(stream).await {
                let service = TowerToHyperService::new(routes);
                let server = auto::Builder::new(TokioExecutor::new());
                // How it ended is the client's to say.
                let _ = server.serve_connection_with_upgrades(TokioIo::new(tls), service).await;
            }
        });
    }
}

/// What it said, on standard output and on standard error.
pub fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
