//! TLS to a service: version 1.3, a client certificate, and nobody's word but the named authority's.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::config::Target;
use super::error::ClientError;

/// For a connection and for its handshake, each.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects, and knows who answers.
pub async fn connect(target: &Target) -> Result<TlsStream<TcpStream>, ClientError> {
    let server = target.authority();
    let config = config(target)?;
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| ClientError::Usage(format!("{:?} is no name of a service", target.host)))?;
    let late = || ClientError::Timeout { what: format!("{server} did not answer"), after: PATIENCE };
    let unreachable = |source| ClientError::Unreachable { server: server.clone(), source };
    let tcp = timeout(PATIENCE, dial(target)).await.map_err(|_| late())?.map_err(unreachable)?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let tls = timeout(PATIENCE, connecting).await.map_err(|_| late())?;
    tls.map_err(|source| explain(target, Box::new(source)))
}

/// Whether the files are such that there can be a connection at all.
pub fn check(target: &Target) -> Result<(), ClientError> {
    config(target).map(drop)
}

async fn dial(target: &Target) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((target.host.as_str(), target.port)).await?.collect();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return tune(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Keys must not wait for more keys, and a dead network must be noticed.
fn tune(stream: TcpStream) -> io::Result<TcpStream> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(&stream, 3)?;
    Ok(stream)
}

/// Reads the files; they may have been rotated since the last connection.
fn config(target: &Target) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&target.ca)? {
        roots.add(authority).map_err(|error| content(&target.ca, &error.to_string()))?;
    }
    let chain = certificates(&target.cert)?;
    let key = PrivateKeyDer::from_pem_file(&target.key)
        .map_err(|error| pem(&target.key, error, "holds no private key in PEM"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| {
            content(&target.cert, &format!("does not go with {}: {error}", target.key.display()))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    const NONE: &str = "holds no certificate in PEM";
    let found = CertificateDer::pem_file_iter(path).map_err(|error| pem(path, error, NONE))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| pem(path, error, NONE))?;
    if found.is_empty() { Err(content(path, NONE)) } else { Ok(found) }
}

fn pem(path: &Path, error: rustls::pki_types::pem::Error, otherwise: &str) -> ClientError {
    match error {
        rustls::pki_types::pem::Error::Io(source) => {
            ClientError::File { verb: "read", path: path.into(), source }
        }
        _ => content(path, otherwise),
    }
}

fn content(path: &Path, detail: &str) -> ClientError {
    ClientError::Content { path: path.into(), detail: detail.into() }
}

/// What a broken connection means: who answers is somebody else, or it does not want us, or it is gone.
pub fn explain(target: &Target, error: Box<dyn Error + Send + Sync>) -> ClientError {
    let server = target.authority();
    match rustls_error(error.as_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => {
            let detail = words(&format!("{alert:?}"));
            ClientError::Refused { server, cert: target.cert.clone(), detail }
        }
        Some(rustls::Error::InvalidCertificate(why)) => {
            ClientError::Untrusted { server, ca: target.ca.clone(), detail: why.to_string() }
        }
        _ => ClientError::Lost { server, source: error },
    }
}

/// `CertificateRevoked` as people write it.
fn words(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() && !text.ends_with(|c: char| c.is_ascii_uppercase()) {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// The error of TLS among the causes. `io::Error` hides what it wraps from [`Error::source`].
fn rustls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        at = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { host: "h".into(), port: 1, cert: "c".into(), key: "k".into(), ca: "a".into() }
    }

    #[test]
    fn a_refused_certificate_is_not_a_lost_connection() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, alert));
        let error = explain(&target(), Box::new(wrapped));
        assert_eq!(
            (error.exit_code(), error.line()),
            (4, "h:1 refuses the certificate c: certificate revoked".into())
        );
        let reset = explain(&target(), Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert!(reset.is_passing() && reset.exit_code() == 7);
    }
}
