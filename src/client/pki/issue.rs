//! Certificates for daemons and for clients.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType,
};

use super::index::{Entry, Index};
use super::{Ca, DAY, PkiError, Result, SERVER_DAYS, SKEW, files, hexadecimal, serial};
use crate::id::PlaceName;

/// Names of files that are not a client's.
const TAKEN: [&str; 4] = ["ca", "server", "crl", "index"];

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Hexadecimal; to revoke it by.
    pub serial: String,
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
    /// Until when, ISO 8601.
    pub not_after: String,
}

impl Ca {
    /// A certificate for a client: `DIR/NAME.crt`, `DIR/NAME.key`. `uri` is who it is (a SPIFFE id).
    ///
    /// # Errors
    /// When a name is none, or taken.
    pub fn issue_client(&self, name: &str, uri: &str, days: u32) -> Result<Issued> {
        let name = client_name(name)?;
        let uri = SanType::URI(identity(uri)?.try_into()?);
        self.issue(name, vec![uri], ExtendedKeyUsagePurpose::ClientAuth, days)
    }

    /// A certificate for a daemon that is reached by these names and addresses: `DIR/server.crt`, `DIR/server.key`.
    ///
    /// # Errors
    /// When a host is none, or there is one already.
    pub fn issue_server(&self, hosts: &[String]) -> Result<Issued> {
        check_hosts(hosts)?;
        let named = |host: &String| match host.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ok(SanType::DnsName(host.clone().try_into()?)),
        };
        let names = hosts.iter().map(named).collect::<Result<_>>()?;
        self.issue("server", names, ExtendedKeyUsagePurpose::ServerAuth, SERVER_DAYS)
    }

    fn issue(
        &self,
        name: &str,
        names: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
        days: u32,
    ) -> Result<Issued> {
        if !(1..=3650).contains(&days) {
            return Err(PkiError::Days(days));
        }
        let mut index = Index::open(&self.dir)?;
        let (certificate, key_file) = (self.file(name, "crt"), self.file(name, "key"));
        if certificate.exists() {
            return Err(PkiError::Exists { path: certificate });
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let number = serial()?;
        let expires = SystemTime::now() + DAY * days;
        let mut params = CertificateParams::default();
        // For people: nothing goes by it.
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(number.clone());
        params.not_before = (SystemTime::now() - SKEW).into();
        params.not_after = expires.into();
        let signed = params.signed_by(&key, &self.issuer)?;
        let issued = Issued {
            serial: hexadecimal(&number.to_bytes()),
            certificate,
            key: key_file,
            not_after: iso(expires),
        };
        // In the index first: no certificate is out there that could not be revoked.
        index.add(Entry::Issued {
            serial: issued.serial.clone(),
            name: name.into(),
            identity: params.subject_alt_names.iter().map(spelled).collect(),
            not_after: issued.not_after.clone(),
        })?;
        files::create(&issued.key, key.serialize_pem().as_bytes(), files::SECRET)?;
        files::create(&issued.certificate, signed.pem().as_bytes(), files::PUBLIC)?;
        Ok(issued)
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{name}.{extension}"))
    }
}

/// Whether these are names or addresses, and some.
pub(in crate::client) fn check_hosts(hosts: &[String]) -> Result<()> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let wrong = |given: &str| PkiError::Name {
        given: given.into(),
        what: "a host: name the DNS names and addresses that the daemon is reached by",
    };
    if hosts.is_empty() {
        return Err(wrong(""));
    }
    for host in hosts {
        // A wildcard stands for one whole label (RFC 9525, 6.3), and never for a whole domain's hosts at the top.
        let name = host.strip_prefix("*.").filter(|rest| rest.contains('.')).unwrap_or(host);
        if host.parse::<IpAddr>().is_err() && (host.len() > 253 || !name.split('.').all(label)) {
            return Err(wrong(host));
        }
    }
    Ok(())
}

fn client_name(name: &str) -> Result<&str> {
    let wrong = |what| PkiError::Name { given: name.into(), what };
    name.parse::<PlaceName>()
        .map_err(|_| wrong("a name for a file: use letters, digits, '.', '_' and '-'"))?;
    if TAKEN.contains(&name) {
        return Err(wrong("a name for a client: the CA's own files are called that"));
    }
    Ok(name)
}

fn identity(uri: &str) -> Result<&str> {
    let path = uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
    let plain = uri.len() <= 2048 && uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
    match path {
        Some((domain, path)) if plain && !domain.is_empty() && !path.is_empty() => Ok(uri),
        _ => Err(PkiError::Name {
            given: uri.chars().take(200).collect(),
            what: "a SPIFFE id: write spiffe://TRUST-DOMAIN/PATH, like spiffe://example.org/ci",
        }),
    }
}

fn spelled(name: &SanType) -> String {
    match name {
        SanType::DnsName(text) | SanType::URI(text) => text.as_str().into(),
        SanType::IpAddress(address) => address.to_string(),
        other => format!("{other:?}"),
    }
}

fn iso(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .ok()
        .and_then(|time| time.round(jiff::Unit::Second).ok())
        .map_or_else(String::new, |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_for_names_addresses_and_wildcards_of_one_label() {
        let is_one = |host: &str| check_hosts(&[host.to_owned()]).is_ok();
        for good in ["node", "node.example.org", "::1", "127.0.0.1", "*.agents.example.org"] {
            assert!(is_one(good), "{good}");
        }
        for bad in ["", "*", "*.org", "a.*.b", "*a.b.c", "-a", "a_b", "a..b"] {
            assert!(!is_one(bad), "{bad}");
        }
    }
}
