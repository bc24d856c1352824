//! Whether a CRL is one of the CAs in force, signed by it, and not out of date. A verifier refuses by a CRL that it does
//! not understand, too, but only at the first handshake, and then everybody.

use std::path::Path;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::AlgorithmIdentifier;

use super::material::{MaterialError, Result, seconds};

/// Checks that each list is current and of one of `authorities`, and that each of these has one.
/// Returns when the first of them is out of date.
pub fn check(
    path: &Path,
    lists: &[CertificateRevocationListDer<'static>],
    authorities: &[CertificateDer<'static>],
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<SystemTime> {
    let wrong = |why: String| MaterialError::Crl { path: path.into(), why };
    let parse = |der| x509_parser::parse_x509_certificate(der).map(|(_, parsed)| parsed);
    let authorities: Vec<X509Certificate<'_>> =
        authorities.iter().filter_map(|der| parse(der).ok()).collect();
    let mut parsed = Vec::new();
    let mut first = None;
    for list in lists {
        let (_, list) = x509_parser::parse_x509_crl(list).map_err(|_| wrong("it cannot be parsed".into()))?;
        let of = |authority: &&X509Certificate<'_>| authority.subject().as_raw() == list.issuer().as_raw();
        let Some(authority) = authorities.iter().find(of) else {
            return Err(wrong(format!("a list in it is of {}, which is not in client-ca", list.issuer())));
        };
        if !is_signed_by(&list, authority, provider) {
            return Err(wrong(format!("the list of {} is not signed by it", list.issuer())));
        }
        let Some(next) = list.next_update().map(seconds) else {
            return Err(wrong(format!("the list of {} has no date to be renewed by", list.issuer())));
        };
        if next <= now {
            return Err(wrong(format!(
                "the list of {} is out of date, and nobody is let in by it: renew it",
                list.issuer()
            )));
        }
        first = first.map_or(Some(next), |first: SystemTime| Some(first.min(next)));
        parsed.push(list);
    }
    for authority in &authorities {
        if !parsed.iter().any(|list| list.issuer().as_raw() == authority.subject().as_raw()) {
            return Err(wrong(format!(
                "it has no list of {}, which is in client-ca: each CA needs one, if any has",
                authority.subject()
            )));
        }
    }
    first.ok_or_else(|| wrong("there is no list in it".into()))
}

fn is_signed_by(
    list: &CertificateRevocationList<'_>,
    authority: &X509Certificate<'_>,
    provider: &CryptoProvider,
) -> bool {
    let (key, signature) = (encoded(&authority.public_key().algorithm), encoded(&list.signature_algorithm));
    provider.signature_verification_algorithms.all.iter().any(|algorithm| {
        *algorithm.public_key_alg_id() == *key
            && *algorithm.signature_alg_id() == *signature
            && algorithm
                .verify_signature(
                    &authority.public_key().subject_public_key.data,
                    list.tbs_cert_list.as_ref(),
                    &list.signature_value.data,
                )
                .is_ok()
    })
}

/// The content of an algorithm's SEQUENCE in DER, as rustls has it.
fn encoded(algorithm: &AlgorithmIdentifier<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |tag: u32, content: &[u8]| {
        bytes.push(tag as u8);
        bytes.push(content.len() as u8);
        bytes.extend_from_slice(content);
    };
    put(6, algorithm.algorithm.as_bytes());
    if let Some(parameters) = &algorithm.parameters {
        put(
            parameters.header.tag().0 | if parameters.header.is_constructed() { 0x20 } else { 0 },
            parameters.data,
        );
    }
    bytes
}
