//! TLS to a collector: its certificate is checked against one CA and its name.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::settings::Tls;
use crate::daemon::tls::secret;

/// For a connection and its handshake together.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long sent bytes may stay without an answer of the peer's kernel, before the connection is given up.
pub(super) const UNANSWERED: Duration = Duration::from_secs(4);

/// Connects, and knows who answers. Files are read anew each time: they may have been rotated.
pub(super) async fn connect(host: &str, port: u16, tls: &Tls) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = config(tls)?;
    let connected = async {
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        rustix::net::sockopt::set_tcp_user_timeout(&tcp, UNANSWERED.as_millis() as u32)?;
        rustix::net::sockopt::set_socket_keepalive(&tcp, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&tcp, Duration::from_secs(15))?;
        rustix::net::sockopt::set_tcp_keepintvl(&tcp, Duration::from_secs(5))?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    };
    tokio::time::timeout(PATIENCE, connected).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn config(tls: &Tls) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&tls.ca)? {
        roots.add(authority).map_err(|error| wrong(&tls.ca, error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let Some((cert, key)) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
    let private = secret::read(key).map_err(|error| wrong(key, error))?;
    let private = PrivateKeyDer::from_pem_slice(&private).map_err(|error| wrong(key, error))?;
    builder.with_client_auth_cert(certificates(cert)?, private).map_err(|error| wrong(cert, error))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, error))?;
    all.collect::<Result<_, _>>().map_err(|error| wrong(path, error))
}

fn wrong(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
