//! TLS to the upstreams of inject rules, checked against the host's certificates.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::policy::Hostname;

/// Where Debian, Ubuntu, Alpine and Arch keep them.
pub const DEFAULT_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why upstreams cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The bundle.
    #[error("cannot read the CA bundle {}", path.display())]
    Read {
        /// On the host.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file, but without certificates.
    #[error("the CA bundle {} has no certificate in it", path.display())]
    Empty {
        /// On the host.
        path: PathBuf,
    },
    /// The provider knows no version of TLS.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Makes TLS connections.
pub struct Tls(TlsConnector);

impl Tls {
    /// Reads the bundle; later there is no file to be seen.
    pub fn read(bundle: Option<&Path>) -> Result<Self, TlsError> {
        let path = bundle.unwrap_or(Path::new(DEFAULT_BUNDLE));
        let pem = std::fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })?;
        let mut roots = RootCertStore::empty();
        // A bundle of a hundred has one that is not understood; without the others nothing would work.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
        if roots.is_empty() {
            return Err(TlsError::Empty { path: path.into() });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Speaks TLS with `host`.
    pub async fn connect(
        &self,
        host: &Hostname,
        stream: TcpStream,
        patience: Duration,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|error| error.to_string())?;
        match timeout(patience, self.0.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(format!("TLS with {host} failed: {error}")),
            Err(_) => Err(format!("TLS with {host} took longer than {patience:?}")),
        }
    }
}
