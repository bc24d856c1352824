//! TLS as servers and clients speak it, with certificates made for one test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// One authority, and one server that has a certificate of it.
pub struct Tls {
    /// The authority's certificate.
    pub ca: CertificateDer<'static>,
    /// The same, as bundles have it.
    pub pem: String,
    server: Arc<ServerConfig>,
}

/// What a client says about whom it wants.
#[derive(Clone, Copy)]
pub enum Says {
    /// This name.
    Name(&'static str),
    /// None.
    Nothing,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Tls {
    /// For a server with these names.
    pub fn new(names: &[&str]) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "an authority for one test");
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(authority, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut leaf = CertificateParams::new(names).expect("names");
        leaf.use_authority_key_identifier_extension = true;
        let certificate = leaf.signed_by(&key, &ca).expect("signed");
        let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("a server");
        Self { ca: ca.der().clone(), pem: ca.pem(), server: Arc::new(server) }
    }

    /// Answers one connection.
    pub fn server(&self) -> impl Fn(TcpStream) -> StreamOwned<ServerConnection, TcpStream> + use<> {
        let config = Arc::clone(&self.server);
        move |stream| StreamOwned::new(ServerConnection::new(Arc::clone(&config)).expect("a server"), stream)
    }

    /// A server that sends back what it gets.
    pub fn echo(&self) -> impl Fn(TcpStream) + Send + Sync + 'static {
        let accept = self.server();
        move |stream| {
            let mut stream = accept(stream);
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
        }
    }

    /// Says "hello" to a server that sends it back, and returns what came.
    pub fn greet(&self, stream: TcpStream, says: Says) -> std::io::Result<String> {
        let mut stream = self.client(stream, says)?;
        stream.write_all(b"hello")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A client's side of a connection.
    pub fn client(
        &self,
        stream: TcpStream,
        says: Says,
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).expect("a root");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = match says {
            Says::Name(name) => name,
            Says::Nothing => {
                config.enable_sni = false;
                "api.example.org"
            }
        };
        let name = ServerName::try_from(name).expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
        Ok(StreamOwned::new(client, stream))
    }
}
