//! Who a certificate is for: a URI, else a DNS name, from its subject alternative names. Never its common name.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;

/// Longer ones are not looked at: SPIFFE allows 2048 bytes.
const LONGEST: usize = 2048;

/// What a certificate says of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A SPIFFE id or another URI; else a DNS name, in small letters.
    pub name: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Valid until.
    pub not_after: SystemTime,
}

/// Why a certificate is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nobody {
    /// Not a certificate.
    #[error("it cannot be parsed")]
    Unparsable,
    /// No name that counts.
    #[error("it has neither a URI nor a DNS name among its subject alternative names")]
    Nameless,
    /// Which of them is meant?
    #[error("it has several URIs or, without a URI, several DNS names: an identity is one of them")]
    Ambiguous,
    /// A name that no grant can have.
    #[error("its name has characters that no identity has, or is longer than 2048 bytes")]
    Unspeakable,
}

impl Identity {
    /// Of a certificate that the verifier has accepted.
    ///
    /// # Errors
    /// When it names nobody, or more than one.
    pub fn of(certificate: &[u8]) -> Result<Self, Nobody> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| Nobody::Unparsable)?;
        let names = parsed.subject_alternative_name().map_err(|_| Nobody::Unparsable)?;
        let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
        let uris =
            names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
        let hosts = names
            .iter()
            .filter_map(|name| if let GeneralName::DNSName(host) = name { Some(*host) } else { None });
        let name = match only(uris)? {
            Some(uri) => uri.to_owned(),
            None => only(hosts)?.ok_or(Nobody::Nameless)?.to_ascii_lowercase(),
        };
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
        if name.is_empty() || name.len() > LONGEST || !plain {
            return Err(Nobody::Unspeakable);
        }
        let until = u64::try_from(parsed.validity().not_after.timestamp()).map_err(|_| Nobody::Unparsable)?;
        Ok(Self {
            name,
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            // The certificate is valid to the end of that second.
            not_after: UNIX_EPOCH + Duration::from_secs(until.saturating_add(1).min(u64::from(u32::MAX) * 8)),
        })
    }
}

fn only<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, Nobody> {
    match (names.next(), names.next()) {
        (name, None) => Ok(name),
        (_, Some(_)) => Err(Nobody::Ambiguous),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn identity(names: Vec<SanType>) -> Result<String, Nobody> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "spiffe://a.org/admin");
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Identity::of(certificate.der()).map(|identity| identity.name)
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().expect("ASCII"))
    }

    fn host(text: &str) -> SanType {
        SanType::DnsName(text.try_into().expect("ASCII"))
    }

    #[test]
    fn the_uri_is_who_it_is_then_the_host_and_the_common_name_never() {
        assert_eq!(identity(vec![host("a.org"), uri("spiffe://a.org/x")]), Ok("spiffe://a.org/x".into()));
        assert_eq!(identity(vec![host("CI.a.org")]), Ok("ci.a.org".into()));
        assert_eq!(identity(vec![]), Err(Nobody::Nameless));
    }

    #[test]
    fn a_certificate_with_two_identities_has_none() {
        assert_eq!(identity(vec![uri("spiffe://a/x"), uri("spiffe://a/y")]), Err(Nobody::Ambiguous));
        assert_eq!(identity(vec![host("a.org"), host("b.org")]), Err(Nobody::Ambiguous));
    }

    #[test]
    fn a_wildcard_or_a_line_break_is_no_identity() {
        for hostile in ["*.a.org", "a\nb", "a b", ""] {
            assert_eq!(identity(vec![host(hostile)]), Err(Nobody::Unspeakable), "{hostile:?}");
        }
    }
}
