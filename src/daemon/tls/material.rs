//! What a handshake needs, read and checked as a whole: a certificate, its key, CAs, what they revoked, the grants.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::time::ASN1Time;

use super::verifier::Verifier;
use super::{crl, secret};
use crate::daemon::audit::sinks::Sink;
use crate::daemon::authz::Grants;
use crate::daemon::config::{Config, TlsFiles};

/// A file of certificates is not larger.
const LARGEST: u64 = 16 << 20;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// There is none: a node that was not set up yet.
    #[error(
        "there is no {}: run `stockade pki init` (as root) to make an authority and certificates for this node, or say \
         in [tls] of stockaded.toml where yours are",
        path.display()
    )]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// A file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read a secret.
    #[error("the secret {}: {why}", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Not what it should be.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A list that would let in who was revoked, or nobody.
    #[error("the CRL {}: {why}", path.display())]
    Crl {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key is another certificate's, for instance.
    #[error("cannot serve by {}: {source}", path.display())]
    Tls {
        /// The certificate's.
        path: PathBuf,
        /// What TLS says.
        source: rustls::Error,
    },
}

pub(super) type Result<T> = std::result::Result<T, MaterialError>;

/// All of it, never changed: what changes is which one is in force.
pub struct Material {
    /// For new connections.
    pub server: Arc<ServerConfig>,
    /// For open ones.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// Who may do what.
    pub grants: Arc<Grants>,
    /// When the first CA or CRL of it is out of date.
    pub valid_until: SystemTime,
    /// When the daemon's own certificate is.
    pub certificate_until: SystemTime,
}

/// The only place where a provider is chosen: nothing goes by a default of the process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Material {
    /// Reads everything that the configuration names.
    ///
    /// # Errors
    /// When any of it cannot be used.
    pub fn load(config: &Config) -> Result<Self> {
        let (provider, now) = (provider(), SystemTime::now());
        config.sinks.iter().flat_map(Sink::secrets).try_for_each(unexposed)?;
        let TlsFiles { cert, key, client_ca, crl } = &config.tls;
        let (roots, authorities, mut valid_until) = authorities(client_ca, now)?;
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        if let Some(path) = crl {
            let lists: Vec<_> = sections::<CertificateRevocationListDer<'static>>(path)?;
            valid_until = valid_until.min(crl::check(path, &lists, &authorities, &provider, now)?);
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        let unusable = |error: rustls::server::VerifierBuilderError| MaterialError::Content {
            path: crl.as_ref().unwrap_or(client_ca).clone(),
            why: error.to_string(),
        };
        let verifier: Arc<dyn ClientCertVerifier> = Arc::new(Verifier(builder.build().map_err(unusable)?));
        let chain: Vec<_> = sections::<CertificateDer<'static>>(cert)?;
        let certificate_until = own_validity(cert, &chain, now)?;
        let server = server(provider, Arc::clone(&verifier), chain, private_key(key)?)
            .map_err(|source| MaterialError::Tls { path: cert.clone(), source })?;
        Ok(Self {
            server: Arc::new(server),
            verifier,
            grants: Arc::new(config.grants.clone()),
            valid_until,
            certificate_until,
        })
    }

    /// Whether a certificate that was accepted once still is.
    pub fn accepts(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> std::result::Result<(), rustls::Error> {
        let Some((own, between)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let now = now.duration_since(UNIX_EPOCH).map_or(UnixTime::now(), UnixTime::since_unix_epoch);
        self.verifier.verify_client_cert(own, between, now).map(drop)
    }
}

fn server(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> std::result::Result<ServerConfig, rustls::Error> {
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    // A resumed session is not verified again: whoever was revoked would come back by it.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.max_early_data_size = 0;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}

type Authorities = (Arc<RootCertStore>, Vec<CertificateDer<'static>>, SystemTime);

/// The CAs that are still valid: while one takes over from another, the older one runs out.
fn authorities(path: &Path, now: SystemTime) -> Result<Authorities> {
    let wrong = |why: String| MaterialError::Content { path: path.into(), why };
    let mut roots = RootCertStore::empty();
    let (mut valid, mut valid_until) = (Vec::new(), None);
    for authority in sections::<CertificateDer<'static>>(path)? {
        let (_, parsed) = x509_parser::parse_x509_certificate(&authority)
            .map_err(|_| wrong("it has something in it that is no certificate".into()))?;
        if !parsed.is_ca() {
            return Err(wrong(format!("{} is not a CA's certificate", parsed.subject())));
        }
        let until = seconds(parsed.validity().not_after);
        if until <= now {
            tracing::warn!(ca = %parsed.subject(), "a client CA has expired: its certificates are refused");
            continue;
        }
        valid_until = valid_until.map_or(Some(until), |first: SystemTime| Some(first.min(until)));
        roots.add(authority.clone()).map_err(|error| wrong(error.to_string()))?;
        valid.push(authority.clone());
    }
    let valid_until = valid_until.ok_or_else(|| wrong("every CA in it has expired".into()))?;
    Ok((Arc::new(roots), valid, valid_until))
}

fn own_validity(path: &Path, chain: &[CertificateDer<'static>], now: SystemTime) -> Result<SystemTime> {
    let wrong = |why: &str| MaterialError::Content { path: path.into(), why: why.into() };
    let own = chain.first().ok_or_else(|| wrong("there is no certificate in it"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(own).map_err(|_| wrong("it cannot be parsed"))?;
    let until = seconds(parsed.validity().not_after);
    if until <= now {
        return Err(wrong("the daemon's certificate has expired: no client would connect"));
    }
    Ok(until)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let text = read(path)?;
    unexposed(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| MaterialError::Content {
        path: path.into(),
        why: "there is no private key in it".into(),
    })
}

fn unexposed(path: &Path) -> Result<()> {
    secret::check(path).map_err(|why| MaterialError::Exposed { path: path.into(), why })
}

fn sections<T: PemObject>(path: &Path) -> Result<Vec<T>> {
    let text = read(path)?;
    let wrong = |why: String| MaterialError::Content { path: path.into(), why };
    let sections: Vec<T> = T::pem_slice_iter(&text)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| wrong(format!("it is not PEM: {error}")))?;
    if sections.is_empty() {
        return Err(wrong("it has nothing in it of what should be there (PEM)".into()));
    }
    Ok(sections)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| MaterialError::Read { path: path.into(), source };
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => MaterialError::Missing { path: path.into() },
        _ => failed(source),
    })?;
    let mut file = io::Read::take(file, LARGEST);
    io::Read::read_to_end(&mut file, &mut text).map_err(failed)?;
    Ok(text)
}

pub(super) fn seconds(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH
        + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0).min(u64::from(u32::MAX) * 8))
}
