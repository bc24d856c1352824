//! The verifier of client certificates: what rustls checks, and that the certificate is somebody's.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::identity::Identity;

tokio::task_local! {
    /// Whose certificate a handshake was refused for: rustls' errors, which become alerts, have no room for it.
    static OUTDATED: RefCell<Option<Identity>>;
}

/// Runs a handshake. If a certificate ends it that is revoked or out of date, whose that was: so the certificate says, and
/// the client has not proved yet that the key is its own.
pub async fn naming<T>(handshake: impl Future<Output = T>) -> (T, Option<Identity>) {
    let noticed = async {
        let result = handshake.await;
        (result, OUTDATED.with(RefCell::take))
    };
    OUTDATED.scope(RefCell::default(), noticed).await
}

/// Asks the inner one first: nothing is parsed that it did not accept, but what was somebody's once.
#[derive(Debug)]
pub struct Verifier(pub Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now).inspect_err(|error| {
            if let Error::InvalidCertificate(cause) = error
                && is_outdated(cause)
            {
                // A handshake that nobody follows.
                let _ = OUTDATED.try_with(|noticed| noticed.replace(Identity::of(end_entity).ok()));
            }
        })?;
        match Identity::of(end_entity) {
            Ok(_) => Ok(verified),
            Err(nobody) => {
                let why = CertificateError::Other(OtherError(Arc::new(nobody)));
                Err(Error::InvalidCertificate(why))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn is_outdated(cause: &CertificateError) -> bool {
    use CertificateError as Cause;
    matches!(
        cause,
        Cause::Revoked
            | Cause::Expired
            | Cause::ExpiredContext { .. }
            | Cause::NotValidYet
            | Cause::NotValidYetContext { .. }
    )
}
